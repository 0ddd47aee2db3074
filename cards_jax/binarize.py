"""From scores to effective weights: gain and sign per layer, with the straight-through gradient."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

FOLD = 4
PIECE = 2**12  # weights; kernels of 3 x 3 with multiples of 64 channels are whole numbers of pieces
COLUMNS = 2**9


def gain(weights: Array, mask: Array, count: Array | None = None) -> Array:
    """Mean |w| of the kept weights of one layer, a scalar (alpha of Diffenderfer and Kailkhura 2021).

    An emptied layer has gain 0 rather than 0/0. `count` is the number of kept weights where it is known already.
    """
    if count is None and jax.default_backend() == "cpu" and weights.size % PIECE == 0:
        columns, counts = _sums_in_pieces(weights, mask)
        count = jnp.sum(counts)
    else:
        columns = _columns(jnp.where(mask, jnp.abs(weights), 0), jnp.float32)
        count = jnp.sum(_columns(mask, jnp.int32)) if count is None else count
    total = jnp.sum(columns)
    return total / jnp.maximum(count, 1).astype(total.dtype)


def _columns(x: Array, dtype: Any) -> Array:
    """Sums of the columns: to sum these is faster, and closer to the exact sum, than one long sum."""
    # A sum of FOLD equal parts, where rows divide: XLA writes what it sums down on a CPU, and this is less to write.
    rows = x.size // x.shape[-1]
    if x.ndim > 1 and rows % FOLD == 0 and x.dtype != jnp.bool:
        parts = x.reshape(FOLD, rows // FOLD, x.shape[-1])
        x = sum((parts[i] for i in range(1, FOLD)), parts[0])
    return jnp.sum(x, axis=tuple(range(x.ndim - 1)), dtype=dtype)


def _sums_in_pieces(weights: Array, mask: Array) -> tuple[Array, Array]:
    """Column sums of |w| where it is kept, and of how many are: both of a piece while it is in a core's cache."""

    def sums(i: Array | int) -> tuple[Array, Array]:
        w, m = (lax.dynamic_slice(x.ravel(), (i * PIECE,), (PIECE,)) for x in (weights, mask))
        kept = jnp.where(m, jnp.abs(w), 0).reshape(-1, COLUMNS)
        return jnp.sum(kept, 0), jnp.sum(m.reshape(-1, COLUMNS), 0, dtype=jnp.int32)

    add = lambda i, before: jax.tree.map(jnp.add, before, sums(i))
    # The first piece starts it, not zeros, so that under shard_map its type varies over devices as the carry's does.
    return lax.fori_loop(1, weights.size // PIECE, add, sums(0))


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
