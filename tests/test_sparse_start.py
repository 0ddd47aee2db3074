"""Initial weights of networks that are sparse from the start: for the inputs that each unit has left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import walk

from cards_jax import masks, pruning
from cards_jax.config import ConfigError
from cards_jax.tree import flatten


def test_a_unit_grows_by_what_it_lost():
    mask = {"linear": np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]], bool), "bias": None}
    params = {"linear": np.full((4, 3), 0.5, np.float32), "bias": np.ones(3, np.float32)}
    pruned = masks.apply(params, mask)
    out = pruning.rescale(pruned, mask)
    # One input of four is left, none, and all.
    np.testing.assert_array_equal(
        out["linear"], [[1, 0, 0.5], [0, 0, 0.5], [0, 0, 0.5], [0, 0, 0.5]]
    )
    np.testing.assert_array_equal(out["bias"], params["bias"])
    kernel = np.zeros((3, 3, 4, 2), bool)
    kernel[1, 1, :, 0] = kernel[:, :, 0, 1] = True  # 4 and 9 inputs of 36
    (out,) = jax.tree.leaves(pruning.rescale([jnp.where(kernel, 1.0, 0.0)], [kernel]))
    np.testing.assert_array_equal(out[1, 1, :, 0], 3.0)
    np.testing.assert_array_equal(out[:, :, 0, 1], 2.0)
    assert (np.asarray(out)[~kernel] == 0).all()


def test_signals_keep_their_size_on_their_way_through_sparse_layers():
    kernels, inputs = jax.random.split(jax.random.key(0))
    x = jax.random.normal(inputs, (256, 512))
    weights = jax.random.normal(kernels, (4, 512, 512)) * np.sqrt(2 / 512)
    mask = jax.random.uniform(jax.random.key(1), weights.shape) < 0.05

    def size(layers):
        h = x
        for layer in layers:
            h = jax.nn.relu(h @ layer)
        return float(jnp.sqrt(jnp.mean(h**2)))

    pruned = [w * m for w, m in zip(weights, mask, strict=True)]
    grown = [pruning.rescale([w], [m])[0] for w, m in zip(pruned, mask, strict=True)]
    dense = size(weights)
    assert size(pruned) < 0.01 * dense
    assert 0.7 * dense < size(grown) < 1.4 * dense


@pytest.mark.parametrize("method", ["random", "rigl", pytest.param("snip", marks=pytest.mark.slow)])
def test_methods_begin_with_larger_weights_under_the_same_mask(method):
    starts = []
    for rescale in (False, True):
        c = small.tiny(method=method, sparsity=(0.8,), epochs=1, pruning__rescale=rescale)
        walk.walk(c, on_enter=lambda index, state: starts.append(state.card))
    plain, grown = starts
    for path, mask in flatten(plain.mask).items():
        np.testing.assert_array_equal(mask, flatten(grown.mask)[path])
        before, after = flatten(plain.params)[path][0], flatten(grown.params)[path][0]
        left = mask[0].reshape(-1, mask.shape[-1]).sum(0)
        factor = np.sqrt(mask[0].size / mask.shape[-1] / np.maximum(left, 1))
        np.testing.assert_allclose(after, before * factor.astype(np.float32), rtol=1e-6)
        assert (factor > 1.2).any()


@pytest.mark.parametrize("method", ["dense", "ft", "gmp", "lth", "lrr", "ep", "bp", "nm"])
def test_methods_that_begin_otherwise_refuse(method):
    with pytest.raises(ConfigError, match=f"rescale=True: method '{method}' allows False"):
        sparsity = {"dense": 0.0, "lth": 0.36, "lrr": 0.36}.get(method, 0.5)
        small.tiny(method=method, sparsity=(sparsity,), pruning__rescale=True)
