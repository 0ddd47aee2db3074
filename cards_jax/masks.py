"""Which weights stay: masks as pure functions over trees. True keeps, False prunes, None is never pruned."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cards_jax import select
from cards_jax.tree import Tree, flatten, map_leaves

SCOPES = ("layerwise", "global")


def keep_counts(sizes: list[int], sparsity: float, scope: str) -> np.ndarray:
    """How many weights stay: int32 (L,) for layerwise scope, () for global scope.

    Exact arithmetic on the decimal that the user wrote: float32 fractions are off by up to 3 weights at 44 million.
    Removed is floor(sparsity * n) and kept the rest, as in the originals.
    """
    exact = Fraction(repr(float(sparsity)))
    if scope == "global":
        total = sum(sizes)
        return np.int32(total - int(exact * total))
    return np.array([n - int(exact * n) for n in sizes], np.int32)


def emptied(mask: Tree) -> list[str]:
    """Paths of the layers of which nothing is left ("layer collapse"): behind such a layer no image is seen.

    mask: one card's, on the host. A card that was never pruned has none.
    """
    return [path.rpartition("/")[0] for path, m in flatten(mask).items() if not np.any(m)]


def level_counts(sizes: list[int], level: int, rate: float, scope: str) -> np.ndarray:
    """How many weights stay after `level` rounds that each remove ceil(rate * what is left), as `keep_counts`.

    The rule of Frankle and Carbin's code without its extra weight per round (there a strict comparison with the
    threshold removes one more).
    """
    exact = Fraction(repr(float(rate)))
    left = [sum(sizes)] if scope == "global" else list(sizes)
    for _ in range(level):
        left = [n - -(-exact.numerator * n // exact.denominator) for n in left]
    return np.int32(left[0]) if scope == "global" else np.array(left, np.int32)


def erk_counts(shapes: list[tuple[int, ...]], sparsity: float) -> np.ndarray:
    """How many weights of each layer stay under the Erdos-Renyi-kernel distribution (Evci et al. 2020), int32 (L,).

    Densities are proportional to sum(shape) / prod(shape); layers that this would overfill stay dense, and the others
    share what is left. The total is that of the uniform distribution.
    """
    sizes = [int(np.prod(s)) for s in shapes]
    total = int(keep_counts(sizes, sparsity, "global"))
    dense: set[int] = set()
    while True:
        loose = [i for i in range(len(sizes)) if i not in dense]
        budget = total - sum(sizes[i] for i in dense)
        factor = budget / sum(sum(shapes[i]) for i in loose) if loose else 0
        full = {i for i in loose if factor * sum(shapes[i]) > sizes[i]}
        if not full:
            break
        dense |= full
    exact = [sizes[i] if i in dense else factor * sum(shapes[i]) for i in range(len(sizes))]
    counts = [int(x) for x in exact]
    # Largest remainders take what rounding down left over, so that the total is met to one weight.
    order = sorted(range(len(sizes)), key=lambda i: counts[i] - exact[i])
    for i in order[: total - sum(counts)]:
        counts[i] += 1
    return np.array(counts, np.int32)


def keep_largest(
    scores: Tree, keep: Array, ties: str = "index", formulation: str | None = None
) -> Tree:
    """Mask of the weights with the largest |score|: per layer where `keep` is (L,), over all layers where it is ().

    Args:
      scores: tree of float arrays, None where nothing is ever pruned.
      keep: int32 counts in the order of the tree's leaves; may be traced.
      ties: see `select.largest`.
    """
    leaves, treedef = jax.tree.flatten(scores)
    if keep.ndim == 0:
        masks = select.largest(leaves, keep, ties, formulation)
    else:
        # The originals rank by position within a layer: ties never lose a weight there.
        masks = [
            select.largest([x], keep[i], "index", formulation)[0] for i, x in enumerate(leaves)
        ]
    return jax.tree.unflatten(treedef, masks)


def prune(scores: Tree, mask: Tree, keep: Array, formulation: str | None = None) -> Tree:
    """Mask of the weights with the largest |score| among those that `mask` keeps: never more than it, exactly `keep`.

    Args:
      scores: tree of float arrays; where `mask` is None they are ignored.
      keep: as in `keep_largest`, at most what `mask` keeps.
    """
    among = lambda m, s: None if m is None else select.among(s, m)
    return keep_largest(map_leaves(among, mask, scores), keep, formulation=formulation)


def grow(scores: Tree, mask: Tree, more: Array, formulation: str | None = None) -> Tree:
    """Mask of what `mask` keeps and of the `more` weights with the largest |score| among those that it prunes.

    Args:
      scores: as in `prune`.
      more: int32 counts as of `keep_largest`, at most what `mask` prunes.
    """
    pruned = lambda m, s: None if m is None else select.among(s, ~m)
    new = keep_largest(map_leaves(pruned, mask, scores), more, formulation=formulation)
    return jax.tree.map(jnp.logical_or, mask, new)


def apply(params: Tree, mask: Tree) -> Tree:
    """The tree with pruned weights exactly zero."""
    return map_leaves(lambda w, m: w if m is None else jnp.where(m, w, 0), params, mask)


def kept(mask: Tree) -> Array:
    """Number of weights that stay, int32 scalar."""
    return sum((jnp.sum(m, dtype=jnp.int32) for m in jax.tree.leaves(mask)), jnp.int32(0))
