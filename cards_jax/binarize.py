"""From scores to effective weights: gain and sign per layer, with the straight-through gradient."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

FOLD = 4


def gain(weights: Array, mask: Array, count: Array | None = None) -> Array:
    """Mean |w| of the kept weights of one layer, a scalar (alpha of Diffenderfer and Kailkhura 2021).

    An emptied layer has gain 0 rather than 0/0. `count` is the number of kept weights where it is known already.
    """
    total = _sum(jnp.where(mask, jnp.abs(weights), 0), jnp.float32)
    if count is None:
        count = _sum(mask.astype(jnp.int8), jnp.int32)  # folded, no sum is above FOLD
    return total / jnp.maximum(count, 1).astype(total.dtype)


def _sum(x: Array, dtype: Any) -> Array:
    """Column sums first: faster, and closer to the exact sum, than one long sum."""
    x = _folded(x)
    return jnp.sum(jnp.sum(x, axis=tuple(range(x.ndim - 1)), dtype=dtype))


def _folded(x: Array) -> Array:
    """Sum of FOLD equal parts, where rows divide: XLA writes what it sums down on a CPU, and this is less to write."""
    rows = x.size // x.shape[-1]
    if x.ndim < 2 or rows % FOLD:
        return x
    parts = x.reshape(FOLD, rows // FOLD, x.shape[-1])
    return sum((parts[i] for i in range(1, FOLD)), parts[0])


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def popup(scores: Array, weights: Array, mask: Array, binary: bool, count: Array | None = None):
    """Effective weights of one layer: mask * w, or mask * gain * sign(w) if binary. Differentiable in `scores` only.

    Forward is exact (a sum such as m + s - s would leave more than three distinct values in float32); backward takes
    dm/d|s| as one, so dL/ds = dL/dW * w * sign(s) for kept and pruned weights alike, binary or not: the gain is a
    constant in the original's gradient.
    """
    if binary:
        weights = gain(weights, mask, count) * jnp.sign(weights)
    # Else every use, such as each of a kernel's transforms, would look at scores and weights again.
    return lax.optimization_barrier(jnp.where(mask, weights, 0))


def _forward(scores, weights, mask, binary, count=None):
    return popup(scores, weights, mask, binary, count), (scores, weights)


def _backward(binary, saved, g):
    scores, weights = saved
    return g * weights * jnp.sign(scores), None, None, None


popup.defvjp(_forward, _backward)
