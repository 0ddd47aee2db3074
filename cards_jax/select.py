"""Exactly the k largest of |x|, with a traced k and without sorting: radix selection on the float bits.

Absolute values of floats order as their bit patterns do. Values that equal the k-th largest are taken in the order of
their index, so that exactly k survive. Several arrays may be ranked jointly without concatenating them.
"""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
from jax import Array, lax

from cards_jax.unroll import unroll

DIGITS = ((31, 20), (20, 10), (10, 0))  # 11 + 10 + 10 bits: the histogram's three passes
Found = tuple[Array, list[Array], list[Array]]  # threshold bits; of each leaf, how many lie below and equal it
BLOCK = 2048  # values per block of the index search


def default_formulation() -> str:
    """Histograms on a CPU; counting bisection elsewhere, where scattering into few bins contends."""
    return "histogram" if jax.default_backend() == "cpu" else "bisection"


def magnitude_bits(x: Array) -> Array:
    """int32 that orders as |x| does (x is float32)."""
    return lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32) & 0x7FFFFFFF


@cache
def _histogram(high: int, low: int) -> Callable[[Array, Array], Array]:
    """Counts of the digit between two bits, among the values that share the prefix above them."""
    width = 1 << (high - low)

    def piece(b: Array, prefix: Array) -> Array:
        inside = 1 if high == 31 else ((b >> high) == (prefix >> high)).astype(jnp.int32)
        digit = (b >> low) & (width - 1)
        return jnp.zeros(width, jnp.int32).at[digit].add(inside, mode="promise_in_bounds")

    return unroll(piece)  # XLA's batched scatter takes twice the time of one after another


def _histogram_threshold(leaves: list[Array], rank: Array) -> Found:
    prefix, below = jnp.int32(0), [jnp.int32(0) for _ in leaves]
    for high, low in DIGITS:
        counts = [_histogram(high, low)(b, prefix) for b in leaves]
        upto = sum(below) + jnp.cumsum(sum(counts))
        digit = jnp.minimum(jnp.sum(upto <= rank, dtype=jnp.int32), (1 << (high - low)) - 1)
        smaller = jnp.arange(1 << (high - low)) < digit
        below = [n + jnp.sum(jnp.where(smaller, c, 0)) for n, c in zip(below, counts, strict=True)]
        prefix = prefix | (digit << low)
    return prefix, below, [c[digit] for c in counts]


def _bisection_threshold(leaves: list[Array], rank: Array) -> Found:
    below = lambda t: [jnp.sum(b < t, dtype=jnp.int32) for b in leaves]  # noqa: E731

    def body(i, t):
        candidate = t | (jnp.int32(1) << (30 - i))
        return jnp.where(sum(below(candidate)) <= rank, candidate, t)

    # The start comes from the data, so that under shard_map its type varies over devices as the carry's does.
    start = jnp.minimum(leaves[0][0], 0) + 0 * rank
    t = lax.fori_loop(0, 31, body, start)
    return t, below(t), [jnp.sum(b == t, dtype=jnp.int32) for b in leaves]


THRESHOLDS = {"histogram": _histogram_threshold, "bisection": _bisection_threshold}


def _threshold(leaves: list[Array], k: Array, formulation: str | None) -> Found:
    """The k-th largest of all leaves jointly."""
    total = sum(b.size for b in leaves)
    find = THRESHOLDS[formulation or default_formulation()]
    return find(leaves, jnp.int32(total) - jnp.asarray(k, jnp.int32))


def threshold(arrays: list[Array], k: Array, formulation: str | None = None) -> Array:
    """The k-th largest |x| over all arrays jointly, as a float32 scalar; k is int32 in [1, total]."""
    bits, _, _ = _threshold([magnitude_bits(x).ravel() for x in arrays], k, formulation)
    return lax.bitcast_convert_type(bits, jnp.float32)


def _index_of_nth(equal: Array, n: Array) -> Array:
    """Position of the n-th True (1-based) of a flat boolean array; -1 for n = 0. One pass, no cumsum over all."""
    padded = jnp.pad(equal, (0, -equal.size % BLOCK)).reshape(-1, BLOCK)
    upto = jnp.cumsum(jnp.sum(padded, axis=1, dtype=jnp.int32))
    block = jnp.minimum(jnp.sum(upto < n, dtype=jnp.int32), padded.shape[0] - 1)
    before = jnp.where(block > 0, upto[jnp.maximum(block - 1, 0)], 0)
    row = lax.dynamic_index_in_dim(padded, block, keepdims=False)
    inside = jnp.sum(before + jnp.cumsum(row.astype(jnp.int32)) < n, dtype=jnp.int32)
    return jnp.where(n > 0, block * BLOCK + inside, -1)


def largest(
    arrays: list[Array], k: Array, ties: str = "index", formulation: str | None = None
) -> tuple[list[Array], list[Array]]:
    """Boolean masks of the k largest |x| over all arrays jointly, and how many each of them keeps.

    Args:
      arrays: float arrays of any shapes; |x| is compared as float32.
      k: int32 scalar in [0, total size], may be traced.
      ties: "index" keeps exactly k, lower position first (arrays in order, then flat index); "strict" keeps what is
        larger than the (k+1)-th largest value, fewer than k where that value is tied (the rule of global edge-popup
        and biprop in the originals).
      formulation: "histogram", "bisection" or None for the backend's own; equal results.

    Returns:
      (masks of the arrays' shapes, int32 counts).
    """
    bits = [magnitude_bits(x) for x in arrays]
    leaves = [b.ravel() for b in bits]
    k, strict = jnp.asarray(k, jnp.int32), ties == "strict"
    t, below, equal = _threshold(leaves, k + strict, formulation)
    above = [b.size - n - m for b, n, m in zip(leaves, below, equal, strict=True)]
    if strict:
        return list(lax.optimization_barrier([b > t for b in bits])), above
    wanted, masks, counts = k - sum(above), [], []
    for b, flat, n, m in zip(bits, leaves, above, equal, strict=True):
        here = jnp.clip(wanted, 0, m)
        last = _index_of_nth(flat == t, here)
        position = lax.iota(jnp.int32, flat.size).reshape(b.shape)
        masks.append((b > t) | ((b == t) & (position <= last)))
        counts.append(n + here)
        wanted = wanted - here
    return list(lax.optimization_barrier(masks)), counts  # else every use computes the masks again
