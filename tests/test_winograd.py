"""Winograd's filtering: equal to the direct sum, about as exact, where it pays and whatever joins it under vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate

from cards_jax.models import convolution, winograd


def arrays(B, H, W, C, D):
    rng = np.random.default_rng(B + H + W + C + D)
    x = np.maximum(rng.standard_normal((B, H, W, C)), 0).astype(np.float32)
    kernel = (rng.standard_normal((3, 3, C, D)) / np.sqrt(9 * C)).astype(np.float32)
    return x, kernel, rng.standard_normal((B, H, W, D)).astype(np.float32)


def exact(x, kernel):
    """The convolution in float64, by SciPy."""
    x, kernel = x.astype(np.float64), kernel.astype(np.float64)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    maps = [
        [correlate(image, k, "valid")[..., 0] for k in np.moveaxis(kernel, -1, 0)]
        for image in padded
    ]
    return np.moveaxis(np.array(maps), 1, -1)


def exact_gradient(x, g):
    """dL/dkernel in float64: every place of the kernel reads a shifted x."""
    H, W = x.shape[1:3]
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    at = lambda i, j: np.einsum("bhwc,bhwd->cd", padded[:, i : i + H, j : j + W], g)
    return np.array([[at(i, j) for j in range(3)] for i in range(3)])


@pytest.mark.parametrize("shape", [(1, 4, 4, 1, 1), (2, 8, 12, 3, 5), (5, 12, 4, 4, 2)])
def test_equals_the_direct_sum(shape):
    x, kernel, g = arrays(*shape)
    np.testing.assert_allclose(jax.jit(winograd.convolve)(x, kernel), exact(x, kernel), atol=5e-6)
    wanted = exact_gradient(x, g)
    ours = jax.jit(winograd.kernel_gradient)(x, g)
    np.testing.assert_allclose(ours, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("piece", [1, 2 * 4 * 16, winograd.PIECE])
def test_pieces_of_a_batch(piece, monkeypatch):
    """One image, two images, or the whole batch at a time."""
    monkeypatch.setattr(winograd, "PIECE", piece)
    x, kernel, g = arrays(6, 8, 8, 16, 8)
    np.testing.assert_allclose(jax.jit(winograd.convolve)(x, kernel), exact(x, kernel), atol=5e-6)
    wanted = exact_gradient(x, g)
    ours = jax.jit(winograd.kernel_gradient)(x, g)
    np.testing.assert_allclose(ours, wanted, atol=1e-5 * np.abs(wanted).max())


def test_error_is_within_a_few_times_that_of_the_direct_sum():
    """Root mean square over many outputs, both in float32; the usual points 0, 1, 2 would give 4 to 5 times."""
    x, kernel, _ = arrays(2, 16, 16, 64, 8)
    wanted = exact(x, kernel)
    error = lambda found: np.sqrt(np.mean(np.square(np.asarray(found, np.float64) - wanted)))
    direct = error(convolution.convolve(x, kernel, 1, "native"))
    assert error(winograd.convolve(x, kernel)) < 12 * direct
    assert error(winograd.convolve(x, kernel)) < 2e-6 * np.sqrt(np.mean(np.square(wanted)))


def gradients(formulation):
    def loss(x, kernel):
        y = convolution.convolve(x, kernel, 1, formulation)
        return jnp.sum(jnp.square(y)), y

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)


def assert_close(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * np.abs(b).max())


def test_wide_convolutions_take_it_and_narrow_ones_do_not():
    def dots(C, side):
        x, kernel, _ = arrays(16, side, side, C, C)
        f = jax.jit(lambda x, k: convolution.convolve(x, k, 1, "winograd"))
        return "dot_general" in str(f.trace(x, kernel).jaxpr)

    assert winograd.pays((16, 8, 8, 64), (3, 3, 64, 64)) and dots(64, 8)
    assert not winograd.pays((16, 8, 8, 16), (3, 3, 16, 16)) and not dots(16, 8)
    assert not winograd.pays((16, 6, 6, 64), (3, 3, 64, 64)) and not dots(64, 6)
    assert not winograd.pays((1, 8, 8, 64), (3, 3, 64, 64))
    assert not winograd.pays((16, 8, 8, 64), (5, 5, 64, 64))


def test_gradients_of_realizations_with_views_inside():
    """Under nested vmap, and with pieces that pay only once they are joined."""
    x, kernel, _ = arrays(8, 8, 8, 64, 64)
    kernels = np.stack([kernel, -kernel[::-1]])
    views = np.stack([x, x[::-1]]).reshape(2, 2, 4, 8, 8, 64)  # (R, V, B, H, W, C)
    assert not winograd.pays(views.shape[2:], kernel.shape)

    def loss(formulation, kernel, views):
        one = lambda x: convolution.convolve(x, kernel, 1, formulation)
        return jnp.sum(jnp.square(jax.vmap(one)(views)))

    many = lambda name: jax.jit(jax.vmap(jax.grad(lambda k, v: loss(name, k, v))))(kernels, views)
    assert_close(many("winograd"), many("native"))


def test_other_types_and_formulations_are_direct():
    x, kernel, _ = arrays(16, 8, 8, 64, 64)
    half = convolution.convolve(jnp.bfloat16(x), jnp.bfloat16(kernel), 1, "winograd")
    native = convolution.convolve(jnp.bfloat16(x), jnp.bfloat16(kernel), 1, "native")
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half, native)
    assert_close(gradients("winograd")(x, kernel), gradients("native")(x, kernel))
