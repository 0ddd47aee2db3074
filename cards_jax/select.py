"""Exactly the k largest of |x|, with a traced k and without sorting: radix selection on the float bits.

Absolute values of floats order as their bit patterns do. Values that equal the k-th largest are taken in the order of
their index, so that exactly k survive. Several arrays may be ranked jointly without concatenating them.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

DIGITS = ((31, 20), (20, 10), (10, 0))  # 11 + 10 + 10 bits: the histogram's three passes
BLOCK = 2048  # values per block of the index search


def default_formulation() -> str:
    """Histograms on a CPU; counting bisection elsewhere, where scattering into few bins contends."""
    return "histogram" if jax.default_backend() == "cpu" else "bisection"


def magnitude_bits(x: Array) -> Array:
    """int32 that orders as |x| does (x is float32)."""
    return lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32) & 0x7FFFFFFF


def _histogram_threshold(leaves: list[Array], rank: Array) -> Array:
    prefix, below = jnp.int32(0), jnp.int32(0)
    for high, low in DIGITS:
        width = 1 << (high - low)

        def histogram(b, high=high, low=low, width=width, prefix=prefix):
            digit = (b >> low) & (width - 1)
            if high < 31:  # what left the prefix lands in a bin that is dropped
                digit = jnp.where((b >> high) == (prefix >> high), digit, width)
            return jnp.zeros(width + 1, jnp.int32).at[digit].add(1)[:width]

        upto = below + jnp.cumsum(sum(histogram(b) for b in leaves))
        digit = jnp.minimum(jnp.sum(upto <= rank, dtype=jnp.int32), width - 1)
        below = jnp.where(digit > 0, upto[jnp.maximum(digit - 1, 0)], below)
        prefix = prefix | (digit << low)
    return prefix


def _bisection_threshold(leaves: list[Array], rank: Array) -> Array:
    def body(i, t):
        candidate = t | (jnp.int32(1) << (30 - i))
        below = sum(jnp.sum(b < candidate, dtype=jnp.int32) for b in leaves)
        return jnp.where(below <= rank, candidate, t)

    # The start comes from the data, so that under shard_map its type varies over devices as the carry's does.
    start = jnp.minimum(leaves[0][0], 0) + 0 * rank
    return lax.fori_loop(0, 31, body, start)


THRESHOLDS = {"histogram": _histogram_threshold, "bisection": _bisection_threshold}


def _threshold_bits(leaves: list[Array], k: Array, formulation: str) -> Array:
    total = sum(b.size for b in leaves)
    return THRESHOLDS[formulation](leaves, jnp.int32(total) - jnp.asarray(k, jnp.int32))


def threshold(arrays: list[Array], k: Array, formulation: str | None = None) -> Array:
    """The k-th largest |x| over all arrays jointly, as a float32 scalar; k is int32 in [1, total]."""
    leaves = [magnitude_bits(x).ravel() for x in arrays]
    bits = _threshold_bits(leaves, k, formulation or default_formulation())
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
) -> list[Array]:
    """Boolean masks of the k largest |x| over all arrays jointly.

    Args:
      arrays: float arrays of any shapes; |x| is compared as float32.
      k: int32 scalar in [0, total size], may be traced.
      ties: "index" keeps exactly k, lower position first (arrays in order, then flat index); "strict" keeps what is
        larger than the (k+1)-th largest value, fewer than k where that value is tied (the rule of global edge-popup
        and biprop in the originals).
      formulation: "histogram", "bisection" or None for the backend's own; equal results.

    Returns:
      One boolean array for each of `arrays`, of its shape.
    """
    formulation = formulation or default_formulation()
    bits = [magnitude_bits(x) for x in arrays]
    leaves = [b.ravel() for b in bits]
    k = jnp.asarray(k, jnp.int32)
    if ties == "strict":
        t = _threshold_bits(leaves, k + 1, formulation)
        return [b > t for b in bits]
    t = _threshold_bits(leaves, k, formulation)
    wanted = k - sum(jnp.sum(b > t, dtype=jnp.int32) for b in leaves)
    masks = []
    for b, flat in zip(bits, leaves, strict=True):
        equal = flat == t
        here = jnp.clip(wanted, 0, jnp.sum(equal, dtype=jnp.int32))
        last = _index_of_nth(equal, here)
        position = lax.iota(jnp.int32, flat.size).reshape(b.shape)
        masks.append((b > t) | ((b == t) & (position <= last)))
        wanted = wanted - here
    return masks
