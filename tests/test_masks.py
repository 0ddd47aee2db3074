"""Counts in exact integers, masks per layer and over all layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cards_jax import masks

SCORES = {"a": jnp.array([[4.0, -3, 2, 1], [8, 7, 6, -5]]), "b": jnp.array([9.0, 0.5]), "c": None}


def test_layerwise_against_literals():
    mask = masks.keep_largest(SCORES, jnp.array([4, 1]))
    np.testing.assert_array_equal(mask["a"], [[0, 0, 0, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(mask["b"], [1, 0])
    assert mask["c"] is None


def test_global_against_literals():
    mask = masks.keep_largest(SCORES, jnp.array(3))
    np.testing.assert_array_equal(mask["a"], [[0, 0, 0, 0], [1, 1, 0, 0]])
    np.testing.assert_array_equal(mask["b"], [1, 0])
    assert int(masks.kept(mask)) == 3


def test_pruned_weights_are_exactly_zero_and_the_rest_is_untouched():
    params = {"a": jnp.arange(8.0).reshape(2, 4) + 1, "b": jnp.ones(2), "c": jnp.ones(3)}
    mask = masks.keep_largest(SCORES, jnp.array([4, 1]))
    out = masks.apply(params, mask)
    np.testing.assert_array_equal(out["a"], [[0, 0, 0, 0], [5, 6, 7, 8]])
    np.testing.assert_array_equal(out["c"], params["c"])


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.6, 0.8, 0.9, 0.95])
def test_counts_are_the_originals(sparsity):
    """n - int((1 - k) n) with k the fraction kept."""
    sizes = [1728, 36864, 2097152, 65536, 2560]
    kept = masks.keep_counts(sizes, sparsity, "layerwise")
    np.testing.assert_array_equal(kept, [n - int(sparsity * n) for n in sizes])
    assert masks.keep_counts(sizes, sparsity, "global") == sum(sizes) - int(sparsity * sum(sizes))


@given(st.integers(1, 50_000_000), st.integers(0, 999))
def test_counts_are_exact_in_decimals(n, thousandths):
    kept = masks.keep_counts([n], thousandths / 1000, "layerwise")
    assert kept[0] == n - n * thousandths // 1000
    assert kept.dtype == np.int32


def test_eager_jit_and_vmap_agree():
    keep = jnp.array([[4, 1], [1, 2], [0, 0]])
    tree = {k: SCORES[k] for k in ("a", "b")}
    many = jax.jit(jax.vmap(masks.keep_largest, in_axes=(None, 0)))(tree, keep)
    for i in range(3):
        one = masks.keep_largest(tree, keep[i])
        assert jax.tree.all(jax.tree.map(lambda m, x, i=i: bool((m[i] == x).all()), many, one))
