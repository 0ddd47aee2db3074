"""Losses against their definitions, written with scipy and numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr, softmax

from cards_jax import losses


@pytest.fixture
def logits_VBK() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 3, (3, 5, 10)).astype(np.float32)


LABELS = np.array([3, 0, 9, 1, 4])


def test_cross_entropy(logits_VBK):
    log_p = log_softmax(logits_VBK[0].astype(np.float64), 1)
    smoothed = 0.9 * np.eye(10)[LABELS] + 0.1 / 10
    found = losses.cross_entropy(jnp.asarray(logits_VBK[0]), LABELS, 0.1)
    np.testing.assert_allclose(found, -(smoothed * log_p).sum(1), rtol=1e-5)


def test_jensen_shannon(logits_VBK):
    p = softmax(logits_VBK.astype(np.float64), -1)
    wanted = rel_entr(p, p.mean(0)[None]).sum(-1).mean(0)
    np.testing.assert_allclose(losses.jensen_shannon(logits_VBK), wanted, rtol=1e-4)


def test_views_that_agree_cost_nothing(logits_VBK):
    same = jnp.asarray(np.repeat(logits_VBK[:1], 3, 0))
    np.testing.assert_allclose(losses.jensen_shannon(same), 0, atol=1e-6)
    found = losses.of_views(same, LABELS, 12.0)
    np.testing.assert_allclose(found, losses.cross_entropy(same[0], LABELS), atol=1e-4)


def test_one_view_is_cross_entropy_alone(logits_VBK):
    found = losses.of_views(logits_VBK[:1], LABELS, 12.0, 0.1)
    np.testing.assert_array_equal(found, losses.cross_entropy(logits_VBK[0], LABELS, 0.1))


def test_loss_and_gradient_as_in_augmix(logits_VBK):
    """The original's loss, from PyTorch."""
    torch = pytest.importorskip("torch", reason="needs PyTorch, of the extra 'bench'")
    F = torch.nn.functional
    logits = torch.tensor(logits_VBK, requires_grad=True)
    clean, one, two = (F.softmax(x, 1) for x in logits)
    mean = torch.clamp((clean + one + two) / 3, 1e-7, 1).log()
    divergence = sum(F.kl_div(mean, p, reduction="batchmean") for p in (clean, one, two)) / 3
    loss = F.cross_entropy(logits[0], torch.tensor(LABELS)) + 12 * divergence
    loss.backward()
    ours = lambda x: jnp.mean(losses.of_views(x, LABELS, 12.0))
    value, gradient = jax.value_and_grad(ours)(logits_VBK)
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, logits.grad.numpy(), atol=1e-6)


def test_certain_views_stay_finite():
    logits = jnp.float32([[[1e4, 0]], [[0, 1e4]], [[1e4, 0]]])
    loss = lambda x: jnp.sum(losses.of_views(x, jnp.array([0]), 12.0))
    value, gradient = jax.value_and_grad(loss)(logits)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_half_precision_logits_are_computed_in_float32(logits_VBK):
    found = losses.of_views(jnp.asarray(logits_VBK, jnp.bfloat16), LABELS, 12.0)
    assert found.dtype == jnp.float32
