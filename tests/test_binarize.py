"""Gain, sign, straight-through gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cards_jax import binarize

W = jnp.array([0.5, -2.0, 1.5, -1.0])
S = jnp.array([0.3, -0.2, 0.1, -0.4])
M = jnp.array([True, False, True, True])


def test_gain_is_the_mean_magnitude_of_what_stays():
    assert float(binarize.gain(W, M)) == pytest.approx(1.0)


def test_values_are_zero_and_plus_minus_the_gain():
    out = binarize.popup(S, W, M, True)
    np.testing.assert_allclose(out, [1, 0, 1, -1], rtol=1e-6)


def test_full_precision_keeps_the_weights_bit_for_bit():
    np.testing.assert_array_equal(binarize.popup(S, W, M, False), [0.5, 0, 1.5, -1])


@pytest.mark.parametrize("binary", [True, False])
def test_gradient_is_dw_times_w_times_sign_of_score(binary):
    g = jnp.array([1.0, 2, 3, 4])
    grads = jax.grad(lambda s: jnp.sum(g * binarize.popup(s, W, M, binary)))(S)
    np.testing.assert_allclose(grads, g * W * jnp.sign(S), rtol=1e-6)


def test_random_layer_has_three_distinct_values():
    key = jax.random.key(0)
    w, s = jax.random.normal(key, (64, 64)), jax.random.normal(key, (64, 64))
    out = jax.jit(binarize.popup, static_argnums=3)(s, w, jnp.abs(s) > 1, True)
    assert len(np.unique(out)) == 3


def test_an_emptied_layer_is_zero_with_finite_gradients():
    empty = jnp.zeros(4, bool)
    f = lambda s: jnp.sum(binarize.popup(s, W, empty, True))
    value, grads = jax.value_and_grad(f)(S)
    assert value == 0 and bool(jnp.isfinite(grads).all())


def test_gain_of_a_large_layer_in_pieces():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(2, 3, 3, 64, 64)).astype(np.float32)
    masks = rng.random(weights.shape) < np.array([0.1, 0.7])[:, None, None, None, None]
    assert weights[0].size % binarize.PIECE == 0
    found = jax.vmap(binarize.gain)(weights, masks)
    wanted = [np.abs(w[m].astype(np.float64)).mean() for w, m in zip(weights, masks, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert binarize.gain(weights[0], np.zeros_like(masks[0])) == 0
