"""Minimum-norm attacks against the closed form of linear classifiers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cards_jax.evaluate import attack

SHAPE = (2, 2, 3)


@pytest.fixture(scope="module")
def problem():
    """(weights, images, labels, closed form): the nearest of two boundaries, well inside the box."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, (12, 3)).astype(np.float32)
    images = rng.uniform(0.45, 0.55, (40, *SHAPE)).astype(np.float32)
    logits = images.reshape(40, -1) @ weights
    logits -= logits.mean(0)  # near the boundaries
    labels = logits.argmax(1)
    labels[:5] = (labels[:5] + 1) % 3  # mistaken as they are
    wanted = np.full(40, np.inf)
    for other in range(3):
        apart = np.linalg.norm(weights[:, labels] - weights[:, [other]], axis=0)
        gap = logits[np.arange(40), labels] - logits[:, other]
        there = labels != other
        wanted[there] = np.minimum(wanted[there], np.maximum(gap, 0)[there] / apart[there])
    shift = (images.reshape(40, -1) @ weights).mean(0)
    return (weights, shift), images, labels, wanted


def run(problem, steps=attack.STEPS, batch=16):
    (weights, shift), images, labels, _ = problem
    predict = lambda x: x.reshape(len(x), -1) @ weights - shift[None]
    f = jax.jit(lambda *x: attack.distances(predict, *x, steps, batch))
    return np.asarray(f(images, labels))


def test_linear_boundaries_are_found(problem):
    """Batches that do not divide the images; never below the truth, which would be no adversarial point."""
    found, wanted = run(problem), problem[-1]
    assert found.shape == (40,) and (found[:5] == 0).all() and 0 < wanted[5:].max() < 0.4
    assert (found >= wanted * (1 - 1e-4) - 1e-6).all()
    ratio = found[5:] / wanted[5:]
    # A gradient leads to the class with the nearest logit, which is not always that with the nearest boundary.
    assert np.mean(ratio < 1.01) > 0.85 and ratio.max() < 1.3


def test_margins():
    found = attack.margins(jnp.float32([[1, 3, 2], [4, 0, 1]]), jnp.array([1, 2]))
    np.testing.assert_allclose(found, [1, -3])


@pytest.mark.slow
def test_pixels_stay_in_the_box():
    """The only way over the boundary leads out of the box."""
    predict = lambda x: jnp.stack([jnp.full(len(x), 2.0), x.sum((1, 2, 3)) / 12], 1)
    images, labels = jnp.full((3, *SHAPE), 0.5), jnp.zeros(3, int)
    found = jax.jit(lambda *x: attack.distances(predict, *x, 20))(images, labels)
    assert np.isinf(found).all()


@pytest.mark.slow
def test_curved_boundaries():
    """A ball: the distance is what is left of its radius."""
    centre = jnp.full(SHAPE, 0.5)
    away = lambda x: jnp.sqrt(jnp.sum(jnp.square(x - centre[None]), axis=(1, 2, 3)) + 1e-12)
    predict = lambda x: jnp.stack([0.3 - away(x), jnp.zeros(len(x))], 1)
    direction = np.random.default_rng(0).normal(0, 1, (8, *SHAPE))
    direction /= np.sqrt((direction**2).sum((1, 2, 3), keepdims=True))
    reach = np.linspace(0.05, 0.25, 8)
    images = np.float32(0.5 + direction * reach[:, None, None, None])
    found = jax.jit(lambda *x: attack.distances(predict, *x))(images, np.zeros(8, int))
    np.testing.assert_allclose(found, 0.3 - reach, rtol=0.01)
