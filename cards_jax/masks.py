"""Which weights stay: masks as pure functions over trees. True keeps, False prunes, None is never pruned."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cards_jax import select
from cards_jax.tree import Tree, map_leaves

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


def apply(params: Tree, mask: Tree) -> Tree:
    """The tree with pruned weights exactly zero."""
    return map_leaves(lambda w, m: w if m is None else jnp.where(m, w, 0), params, mask)


def kept(mask: Tree) -> Array:
    """Number of weights that stay, int32 scalar."""
    return sum((jnp.sum(m, dtype=jnp.int32) for m in jax.tree.leaves(mask)), jnp.int32(0))
