"""Exactly the k largest of |x|, with a traced k and without sorting: radix selection on the float bits.

Absolute values of floats order as their bit patterns do. Values that equal the k-th largest are taken in the order of
their index, so that exactly k survive. Several arrays may be ranked jointly without concatenating them.
"""

from functools import cache

import jax
import jax.numpy as jnp
from jax import Array, lax

from cards_jax.unroll import unroll

SAMPLED_FROM = 2**16  # values; fewer are ranked without looking at a sample first
SAMPLE_STRIDE = 32
SMALL_BITS, LARGE_BITS = 11, 18  # of a histogram's bins, for few and for many values
Found = tuple[Array, Array, Array]  # bits of the value, how many lie below it, how many equal it
TOP = 0x7FFFFFFF  # no magnitude's bits are larger
ROW = 512  # bins, or values of the index search, that are summed at once


def default_formulation() -> str:
    """Histograms on a CPU; counting bisection elsewhere, where scattering into few bins contends."""
    return "histogram" if jax.default_backend() == "cpu" else "bisection"


def magnitude_bits(x: Array) -> Array:
    """int32 that orders as |x| does (x is float32)."""
    return lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32) & 0x7FFFFFFF


def among(x: Array, candidates: Array) -> Array:
    """float32 whose magnitudes order as |x| does where `candidates` is True, above all others, which are 0.

    A weight that is exactly zero still ranks above what is no candidate.
    """
    raised = jnp.where(candidates, magnitude_bits(x) + 1, 0)
    return lax.bitcast_convert_type(raised, jnp.float32)


def _nth(counts: Array, n: Array) -> tuple[Array, Array]:
    """(bin, how many lie in the bins before it) of the n-th value (0-based) of a histogram, with n below its sum.

    Sums rows of bins first, so that no cumulative sum runs over all of them.
    """
    rows = jnp.pad(counts, (0, -counts.size % ROW)).reshape(-1, ROW)
    upto = jnp.cumsum(jnp.sum(rows, axis=1, dtype=jnp.int32))
    row = jnp.sum(upto <= n, dtype=jnp.int32)
    before = jnp.where(row > 0, upto[jnp.maximum(row - 1, 0)], 0)
    inside = before + jnp.cumsum(
        lax.dynamic_index_in_dim(rows, row, keepdims=False), dtype=jnp.int32
    )
    column = jnp.sum(inside <= n, dtype=jnp.int32)
    return row * ROW + column, jnp.where(column > 0, inside[jnp.maximum(column - 1, 0)], before)


def _narrow(leaves: list[Array], rank: Array, low: Array, high: Array, bits: int) -> Found:
    """The value at `rank` (0-based, ascending) among all leaves; fast if it lies in [low, high], exact anyway.

    Every pass counts the values in 2^bits bins over the bracket, and all others in a bin at either end.
    """
    bins = 1 << bits

    def narrower(state):
        low, high, _, _, _ = state
        # The smallest shift at which the bracket fits the bins.
        shift = jnp.maximum(32 - lax.clz(high - low) - bits, 0)
        counts = jnp.zeros(bins + 2, jnp.int32)
        for b in leaves:
            digit = jnp.clip((b - low) >> shift, -1, bins) + 1
            counts = counts.at[digit].add(1, mode="promise_in_bounds")
        digit, below = _nth(counts, rank)
        first = low + ((digit - 1) << shift)
        last = first + ((1 << shift) - 1)
        hit = (digit > 0) & (digit <= bins) & (first <= high)
        under = digit == 0  # the bracket missed the value: look on that side of it
        low, high = (
            jnp.where(hit, first, jnp.where(under, 0, high + 1)),
            jnp.where(hit, last, jnp.where(under, low - 1, TOP)),
        )
        return low, high, hit, below, counts[digit]

    unsure = lambda state: ~state[2] | (state[0] < state[1])
    start = (low, high, False, jnp.int32(0), jnp.int32(0))
    value, _, _, below, equal = lax.while_loop(unsure, narrower, start)
    return value, below, equal


def _histogram_find(leaves: list[Array], rank: Array) -> Found:
    total = sum(b.size for b in leaves)
    everything = jnp.int32(0), jnp.int32(TOP)
    if total < SAMPLED_FROM:
        return _narrow(leaves, rank, *everything, SMALL_BITS)
    # The value at the same place of a sample says where to look, so that one pass over all is enough.
    sample = [jnp.concatenate([b[::SAMPLE_STRIDE] for b in leaves])]
    place = rank.astype(jnp.float32) / total * sample[0].size
    guess, _, _ = _narrow(sample, place.astype(jnp.int32), *everything, SMALL_BITS)
    bits = min(LARGE_BITS, total.bit_length() - 3)
    reach = (1 << bits) // 2 - 1
    low, high = jnp.maximum(guess, reach) - reach, jnp.minimum(guess, TOP - reach) + reach
    return _narrow(leaves, rank, low, high, bits)


def _bisection_find(leaves: list[Array], rank: Array) -> Found:
    count = lambda t: sum(jnp.sum(b < t, dtype=jnp.int32) for b in leaves)

    def body(i, t):
        candidate = t | (jnp.int32(1) << (30 - i))
        return jnp.where(count(candidate) <= rank, candidate, t)

    # The start comes from the data, so that under shard_map its type varies over devices as the carry's does.
    t = lax.fori_loop(0, 31, body, jnp.minimum(leaves[0][0], 0) + 0 * rank)
    below = count(t)
    return t, below, count(t + 1) - below


FIND = {"histogram": _histogram_find, "bisection": _bisection_find}


def _first_equal(b: Array, t: Array, n: Array) -> Array:
    """Index of the n-th (1-based) value that equals t; -1 for n = 0."""
    index, _ = _nth((b == t).astype(jnp.int32), n - 1)
    return jnp.where(n > 0, index, -1)


def _last_equals(leaves: list[Array], t: Array, wanted: Array) -> list[Array]:
    """Index in each leaf of the last value equal to t that stays, if `wanted` of all stay."""
    lasts = []
    for b in leaves:
        here = jnp.minimum(wanted, jnp.sum(b == t, dtype=jnp.int32))
        lasts.append(_first_equal(b, t, here))
        wanted = wanted - here
    return lasts


@cache
def _largest(ties: str, formulation: str):
    def one(bits: list[Array], k: Array) -> list[Array]:
        leaves = [b.ravel() for b in bits]
        total, strict = sum(b.size for b in leaves), ties == "strict"
        t, below, equal = FIND[formulation](leaves, jnp.clip(total - k - strict, 0, total - 1))
        if strict:
            return [b > jnp.where(k < total, t, -1) for b in bits]
        wanted = k - (total - below - equal)
        # Only where some of the equal values go does it matter which.
        all_stay = lambda *_: [jnp.int32(b.size) for b in leaves]
        lasts = lax.cond(wanted < equal, _last_equals, all_stay, leaves, t, wanted)
        place = lambda b: lax.iota(jnp.int32, b.size).reshape(b.shape)
        return [
            (b > t) | ((b == t) & (place(b) <= last)) for b, last in zip(bits, lasts, strict=True)
        ]

    # One realization after another: a batched scatter takes twice the time, and a condition must not become a select.
    return unroll(one, loop=True)


def threshold(arrays: list[Array], k: Array, formulation: str | None = None) -> Array:
    """The k-th largest |x| over all arrays jointly, as a float32 scalar; k is int32 in [1, total]."""
    leaves = [magnitude_bits(x).ravel() for x in arrays]
    rank = sum(b.size for b in leaves) - jnp.asarray(k, jnp.int32)
    bits, _, _ = FIND[formulation or default_formulation()](leaves, rank)
    return lax.bitcast_convert_type(bits, jnp.float32)


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
    bits = [magnitude_bits(jnp.asarray(x)) for x in arrays]
    masks = _largest(ties, formulation or default_formulation())(bits, jnp.asarray(k, jnp.int32))
    return list(lax.optimization_barrier(masks))  # else every use computes the masks again


FORMULATIONS = tuple(FIND)
