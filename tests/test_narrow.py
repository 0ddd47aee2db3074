"""Convolutions with few output channels, some columns at a time: equal to the plain one, taken where they pay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cards_jax.models import convolution, narrow


def arrays(k, C, D, side=8):
    rng = np.random.default_rng(C + D)
    x = rng.standard_normal((3, side, side, C)).astype(np.float32)
    return x, rng.standard_normal((k, k, C, D)).astype(np.float32)


@pytest.mark.parametrize("n", narrow.PARTS)
@pytest.mark.parametrize("k", [1, 3, 5])
def test_columns_together_equal_the_plain_convolution(n, k):
    x, kernel = arrays(k, 5, 7)
    ours = jax.jit(narrow.convolve, static_argnums=2)(x, kernel, n)
    plain = convolution.convolve(x, kernel, 1, "native")
    np.testing.assert_allclose(ours, plain, atol=1e-5 * np.abs(plain).max())


@pytest.mark.parametrize(("C", "D"), [(3, 16), (3, 32), (8, 8), (16, 16), (16, 32), (32, 16)])
@pytest.mark.parametrize("side", [6, 7, 8])
def test_canonical_has_the_same_values_and_gradients(C, D, side):
    x, kernel = arrays(3, C, D, side)

    def of(formulation):
        def loss(x, kernel):
            y = convolution.convolve(x, kernel, 1, formulation)
            return jnp.sum(jnp.square(y)), y

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(x, kernel)

    for ours, plain in zip(*map(jax.tree.leaves, map(of, ("canonical", "native"))), strict=True):
        np.testing.assert_allclose(ours, plain, atol=2e-5 * np.abs(plain).max())


@pytest.mark.parametrize(
    ("C", "D", "W", "n"),
    [
        (16, 16, 32, 2),
        (16, 8, 32, 4),
        (16, 24, 32, 1),
        (64, 16, 32, 1),
        (3, 16, 32, 4),
        (3, 32, 32, 2),
        (3, 64, 32, 1),
        (16, 16, 7, 1),
        (16, 8, 6, 2),
    ],
)
def test_columns_that_pay(C, D, W, n):
    assert narrow.columns(C, D, W) == n
