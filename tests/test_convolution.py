"""Formulations of the convolution: equal values and gradients, and the compiled form that stays fast."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cards_jax.models import convolution
from cards_jax.models.convolution import convolve

SHAPES = [(3, 1), (3, 2), (1, 1), (1, 2), (5, 1)]  # kernel, stride


def arrays(size, batch=3, side=7, lead=(), groups=1):
    rng = np.random.default_rng(size)
    x = rng.standard_normal((*lead, batch, side, side, 4)).astype(np.float32)
    return x, rng.standard_normal((*lead, size, size, 4 // groups, 6)).astype(np.float32)


def both_gradients(stride, formulation, groups=1):
    def loss(x, kernel):
        out = convolve(x, kernel, stride, formulation, groups)
        return jnp.sum(jnp.square(out)), out

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)


def assert_trees_close(a, b, tolerance=1e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * np.abs(y).max())


@pytest.mark.parametrize(("size", "stride"), SHAPES)
@pytest.mark.parametrize("formulation", ["unrolled", "canonical", "patches"])
@pytest.mark.parametrize("groups", [1, 2])
def test_equals_the_native_one(size, stride, formulation, groups):
    x, kernel = arrays(size, groups=groups)
    ours = jax.jit(both_gradients(stride, formulation, groups))(x, kernel)
    native = jax.jit(both_gradients(stride, "native", groups))(x, kernel)
    assert_trees_close(ours, native)


@pytest.mark.parametrize("formulation", convolution.FORMULATIONS)
def test_groups_do_not_see_each_other(formulation):
    """The first half of the outputs is the convolution of the first half of the inputs with its kernels."""
    x, kernel = arrays(3, groups=2)
    both = convolve(x, kernel, 1, formulation, groups=2)
    first = convolve(x[..., :2], kernel[..., :3], 1, formulation)
    np.testing.assert_allclose(both[..., :3], first, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize(
    "tile", [{"TILE_FLOATS": 2 * 7 * 7 * 6}, {"CUT_FROM": 7, "CUT_IMAGES": 3}, {"CUT_FROM": 1}]
)
def test_kernel_gradient_in_tiles(size, tile, monkeypatch):
    for name, value in tile.items():
        monkeypatch.setattr(convolution, name, value)
    x, kernel = arrays(size, batch=6)
    ours = both_gradients(1, "canonical")(x, kernel)
    assert_trees_close(ours, both_gradients(1, "native")(x, kernel))


@pytest.mark.parametrize("formulation", ["unrolled", "canonical", "patches"])
@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_vmap_over_realizations_equals_a_loop(formulation, stride, groups):
    x, kernel = arrays(3, lead=(2,), groups=groups)
    many = jax.jit(jax.vmap(both_gradients(stride, formulation, groups)))(x, kernel)
    for i in range(2):
        one = both_gradients(stride, formulation, groups)(x[i], kernel[i])
        assert_trees_close(jax.tree.map(lambda a, i=i: a[i], many), one)


@pytest.mark.parametrize("formulation", ["unrolled", "canonical"])
def test_nested_vmap_of_views_within_realizations(formulation):
    x, kernel = arrays(3, lead=(2,))
    views = np.stack([x, x + 1], axis=1)  # (R, V, B, H, W, C)
    f = lambda x, k: convolve(x, k, 1, formulation)
    out = jax.jit(jax.vmap(jax.vmap(f, in_axes=(0, None))))(views, kernel)
    np.testing.assert_allclose(out[1, 1], f(views[1, 1], kernel[1]), atol=1e-5)


def loop_of_steps(formulation, nested, groups=1):
    """A few SGD steps of a two-layer network per realization inside a loop, as HLO text of the compiled program."""

    def loss(kernels, x):
        y = convolve(x, kernels[0], 1, formulation, groups)
        y = convolve(jax.nn.relu(y), kernels[1], 2, formulation)
        return jnp.sum(jnp.square(y))

    if nested:
        one = loss
        loss = lambda k, x: jnp.sum(jax.vmap(one, in_axes=(None, 0))(k, jnp.stack([x, -x])))

    def train(kernels, x):
        step = lambda i, k: jax.tree.map(lambda a, g: a - 0.1 * g, k, jax.grad(loss)(k, x))
        return lax.fori_loop(0, 3, step, kernels)

    kernels = [jnp.ones((2, 3, 3, 4 // groups, 4)), jnp.ones((2, 3, 3, 4, 4))]
    return jax.jit(jax.vmap(train)).lower(kernels, jnp.ones((2, 2, 8, 8, 4))).compile().as_text()


def convolutions(text):
    """Every convolution instruction of a compiled program."""
    return [line for line in text.splitlines() if re.search(r"= \S+ convolution\(", line)]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the layout concerns XLA's CPU backend")
@pytest.mark.parametrize("nested", [False, True], ids=["realizations", "views in realizations"])
@pytest.mark.parametrize("groups", [1, 2])
def test_compiled_loop_has_canonical_ungrouped_convolutions_only(nested, groups):
    found = convolutions(loop_of_steps("canonical", nested, groups))
    assert found, "the compiled program has no convolution instruction at all"
    for line in found:
        assert "dim_labels=b01f_01io->b01f" in line
        assert "feature_group_count" not in line and "batch_group_count" not in line


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the layout concerns XLA's CPU backend")
def test_that_check_would_see_grouped_convolutions():
    found = "\n".join(convolutions(loop_of_steps("native", False)))
    assert "group_count" in found or "01io->b01f" not in found
