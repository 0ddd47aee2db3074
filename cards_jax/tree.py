"""Parameter trees: slash paths, the prunable rule, None-aware maps, sizes, taking and stacking realizations."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any  # a nested dict of arrays; None means "not this leaf"


def is_none(x: Any) -> bool:
    return x is None


def map_leaves(f: Callable, tree: Tree, *rest: Tree) -> Tree:
    """Like `jax.tree.map`, but None is a leaf of its own, so that masks with holes meet whole trees."""
    return jax.tree.map(f, tree, *rest, is_leaf=is_none)


def name(path: tuple) -> str:
    """`layer1_0/conv1/kernel` for a key path of jax.tree_util."""
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def flatten(tree: Tree) -> dict[str, Any]:
    """{slash path: leaf}, sorted by the tree's own order; None leaves are left out."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {name(path): leaf for path, leaf in leaves}


def unflatten(arrays: dict[str, Any]) -> Tree:
    """The nested dict that `flatten` came from (None leaves are gone)."""
    tree: dict = {}
    for path, leaf in arrays.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


KERNEL, UNPRUNED = "kernel", "unpruned_kernel"  # leaves of convolution and linear layers


def prunable(path: str) -> bool:
    """Convolution and linear kernels are pruned; biases and BatchNorm never are (every original agrees)."""
    return path.rsplit("/", 1)[-1] == KERNEL


def is_kernel(path: str) -> bool:
    """Whether it is a kernel, prunable or of a layer that a network leaves unpruned."""
    return path.rsplit("/", 1)[-1] in (KERNEL, UNPRUNED)


def only_prunable(params: Tree) -> Tree:
    """The same tree with None in place of every leaf that is never pruned."""
    return jax.tree_util.tree_map_with_path(lambda p, x: x if prunable(name(p)) else None, params)


def fill(holes: Tree, rest: Tree) -> Tree:
    """Leaves of `holes` where there are any, else those of `rest`."""
    return map_leaves(lambda a, b: b if a is None else a, holes, rest)


def size(tree: Tree) -> int:
    """Number of scalars in all leaves (arrays or shapes)."""
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))


def nbytes(tree: Tree) -> int:
    """Bytes of all leaves (arrays or shapes)."""
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def take(tree: Tree, i: int) -> Tree:
    """Realization i of a stacked tree."""
    return jax.tree.map(lambda x: x[i], tree)


def stack(trees: list[Tree]) -> Tree:
    """One tree whose leaves have a new leading axis R."""
    return jax.tree.map(lambda *xs: jnp.stack(xs), *trees)
