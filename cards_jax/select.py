"""Exactly the k largest of |x|, with a traced k and without sorting: radix selection on the float bits.

Absolute values of floats order as their bit patterns do. Values that equal the k-th largest are taken in the order of
their index, so that exactly k survive. Several arrays may be ranked jointly without concatenating them.
"""

from functools import cache

import jax
import jax.numpy as jnp
from jax import Array, lax

from cards_jax.unroll import unroll

# Of the histograms, measured on a core with 2 MiB of cache.
SAMPLED_FROM = 2**20  # values; fewer are ranked without looking at a sample first
RUN, STRIDE = (
    16,
    31,
)  # a sample is every STRIDE-th run of so many values: odd, so that no column is left out
SMALL_UP_TO = 2**14  # values for which few bins suffice
SMALL_BITS, MIDDLE_BITS, LARGE_BITS = 11, 16, 18  # of a histogram's bins
PIECE = 2**14  # values that are ranked at a time, so that what lies between stays in the cache
LANES = 16  # bins for what lies outside on either side: adding to one alone, each value waits for the one before
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


def _counted(leaves: list[Array], low: Array, shift: Array, bins: int) -> Array:
    """Values in each of `bins` bins of 2^shift bit patterns from `low`; then LANES below them, and LANES above."""

    def add(counts: Array, x: Array) -> Array:
        place = (magnitude_bits(x) - low) >> shift
        lane = bins + lax.iota(jnp.int32, x.size) % LANES
        index = jnp.where(place < 0, lane, jnp.where(place < bins, place, lane + LANES))
        return counts.at[index].add(1, mode="promise_in_bounds")

    def add_leaf(counts: Array, x: Array) -> Array:
        piece = lambda i, counts: add(counts, lax.dynamic_slice(x, (i * PIECE,), (PIECE,)))
        counts = lax.fori_loop(0, x.size // PIECE, piece, counts) if x.size >= PIECE else counts
        rest = x.size % PIECE
        return add(counts, x[-rest:]) if rest else counts

    counts = jnp.zeros(bins + 2 * LANES, jnp.int32)
    for x in leaves:
        counts = add_leaf(counts, x)
    return counts


def _narrow(leaves: list[Array], rank: Array, low: Array, high: Array, bits: int) -> Found:
    """The value at `rank` (0-based, ascending) among all leaves; fast if it lies in [low, high], exact anyway.

    Every pass counts the values in 2^bits bins over the bracket, and all others outside. If the bracket misses, the
    next one is its neighbour, and then all that is left on that side.
    """
    bins = 1 << bits

    def narrower(state):
        low, high, _, misses, _, _ = state
        # The smallest shift at which the bracket fits the bins.
        shift = jnp.maximum(32 - lax.clz(high - low) - bits, 0)
        counts = _counted(leaves, low, shift, bins)
        inside = counts[:bins]
        under = jnp.sum(counts[bins : bins + LANES])
        beyond = under + jnp.sum(inside)
        place, before = _nth(inside, jnp.clip(rank - under, 0, jnp.maximum(beyond - under - 1, 0)))
        first = low + (place << shift)
        last = first + jnp.minimum((1 << shift) - 1, TOP - first)
        hit = (under <= rank) & (rank < beyond) & (first <= high)
        reach = jnp.where(misses == 0, bins - 1, TOP)
        below = jnp.maximum(low - 1 - jnp.minimum(reach, low - 1), 0), low - 1
        above = high + 1, high + 1 + jnp.minimum(reach, TOP - high - 1)
        missed = [jnp.where(rank < under, x, y) for x, y in zip(below, above, strict=True)]
        low, high = jnp.where(hit, first, missed[0]), jnp.where(hit, last, missed[1])
        return low, high, hit, misses + ~hit, under + before, inside[place]

    unsure = lambda state: ~state[2] | (state[0] < state[1])
    zero = jnp.int32(0)
    value, *_, below, equal = lax.while_loop(unsure, narrower, (low, high, False, zero, zero, zero))
    return value, below, equal


def _histogram_find(leaves: list[Array], rank: Array) -> Found:
    total = sum(x.size for x in leaves)
    everything = jnp.int32(0), jnp.int32(TOP)
    if total < SAMPLED_FROM:
        bits = SMALL_BITS if total <= SMALL_UP_TO else MIDDLE_BITS
        return _narrow(leaves, rank, *everything, bits)
    # The value at the same place of a sample says where to look, so that one pass over all is enough.
    sample = jnp.concatenate([_sample(x) for x in leaves])
    place = rank.astype(jnp.float32) / total * sample.size
    place = jnp.clip(place.astype(jnp.int32), 0, sample.size - 1)
    guess, _, _ = _narrow([sample], place, *everything, MIDDLE_BITS)
    reach = (1 << LARGE_BITS) // 2 - 1
    low, high = jnp.maximum(guess, reach) - reach, jnp.minimum(guess, TOP - reach) + reach
    return _narrow(leaves, rank, low, high, LARGE_BITS)


def _sample(x: Array) -> Array:
    runs = x[: x.size // RUN * RUN].reshape(-1, RUN)
    return runs[::STRIDE].ravel()


def _bisection_find(leaves: list[Array], rank: Array) -> Found:
    leaves = [magnitude_bits(x) for x in leaves]
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
    for b in map(magnitude_bits, leaves):
        here = jnp.minimum(wanted, jnp.sum(b == t, dtype=jnp.int32))
        lasts.append(_first_equal(b, t, here))
        wanted = wanted - here
    return lasts


@cache
def _last_kept(ties: str, formulation: str):
    """(leaves, k) -> (t, last): kept is what is larger than t, and of its equals those up to index `last` of a leaf."""

    def one(leaves: list[Array], k: Array) -> tuple[Array, list[Array]]:
        total, strict = sum(x.size for x in leaves), ties == "strict"
        t, below, equal = FIND[formulation](leaves, jnp.clip(total - k - strict, 0, total - 1))
        if strict:
            return jnp.where(k < total, t, -1), [jnp.int32(-1)] * len(leaves)
        wanted = k - (total - below - equal)
        # Only where some of the equal values go does it matter which.
        all_stay = lambda *_: [jnp.int32(x.size) for x in leaves]
        return t, lax.cond(wanted < equal, _last_equals, all_stay, leaves, t, wanted)

    # Of histograms one realization after another: a batched scatter takes twice the time, and a condition must not
    # become a select. Bisections are reductions, which an accelerator does side by side.
    return unroll(one, loop=True) if formulation == "histogram" else one


def threshold(arrays: list[Array], k: Array, formulation: str | None = None) -> Array:
    """The k-th largest |x| over all arrays jointly, as a float32 scalar; k is int32 in [1, total]."""
    leaves = [lax.stop_gradient(x).ravel() for x in map(jnp.asarray, arrays)]
    rank = sum(x.size for x in leaves) - jnp.asarray(k, jnp.int32)
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
    arrays = [lax.stop_gradient(jnp.asarray(x)) for x in arrays]
    leaves = [x.astype(jnp.float32).ravel() for x in arrays]
    find = _last_kept(ties, formulation or default_formulation())
    t, lasts = find(leaves, jnp.asarray(k, jnp.int32))
    return [_kept(x, t, last) for x, last in zip(arrays, lasts, strict=True)]


def _kept(x: Array, t: Array, last: Array) -> Array:
    """Values above t, and those that equal it up to the flat index `last`."""
    columns = x.shape[-1] if x.ndim else 1
    bits = magnitude_bits(x).reshape(-1, columns)
    # Two small indices: XLA would keep one array of all flat indices, and read it in every step.
    row, column = (lax.broadcasted_iota(jnp.int32, bits.shape, axis) for axis in (0, 1))
    upto = (row < last // columns) | ((row == last // columns) & (column <= last % columns))
    return ((bits > t) | ((bits == t) & upto)).reshape(x.shape)


FORMULATIONS = tuple(FIND)
