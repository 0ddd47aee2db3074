"""Pruning of weights: what the methods share that train weights and remove some of them for good."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from cards_jax import masks
from cards_jax.card import Card
from cards_jax.config import ConfigError, one_of
from cards_jax.draws import shaped
from cards_jax.phase import Counts, Entry, Rules, Saved, Shapes, Start, Uniform
from cards_jax.tree import Tree, fill, map_leaves, only_prunable

DISTRIBUTIONS = ("uniform", "erk")
GRADUAL = 5  # least number of intervals between updates of a mask, where there are as many steps


def init(c: ConfigDict, card: Card, start: Start) -> Card:
    """The dense card with a mask that keeps every prunable weight, so that all phases have one tree shape."""
    del c, start
    keep_all = lambda w: None if w is None else jnp.ones(w.shape, bool)
    return card.replace(mask=map_leaves(keep_all, only_prunable(card.params)))


def view(card: Card, keep: Array) -> Tree:
    """The weights that the mask keeps; gradients reach no other."""
    del keep
    return masks.apply(card.params, card.mask)


def finish(card: Card, keep: Array) -> Card:
    """The card with pruned weights exactly zero."""
    return card.replace(params=view(card, keep))


def magnitude(card: Card, entry: Entry) -> Tree:
    """Scores: the weights themselves, ranked by their absolute value."""
    del entry
    return card.params


def chance(card: Card, entry: Entry) -> Tree:
    """Scores: random."""
    leaves, treedef = jax.tree.flatten(only_prunable(card.params))
    draw = lambda i, w: shaped(jax.random.uniform, jax.random.fold_in(entry.key, i), w.shape)
    drawn = jax.tree.unflatten(treedef, [draw(i, w) for i, w in enumerate(leaves)])
    return fill(drawn, card.params)


@dataclasses.dataclass(frozen=True)
class Prune:
    """Enter a phase by pruning, within the mask there is, to the phase's count.

    score(card, entry) -> tree of scores; the largest absolute ones stay.
    rewind_to: name of a saved card whose weights and BatchNorm return under the new mask; None keeps the present ones.
    rescales: whether the weights that stay are made larger, see `rescale`.
    """

    score: Callable[[Card, Entry], Tree] = magnitude
    rewind_to: str | None = None
    selection: str | None = None
    rescales: bool = False

    def __call__(self, card: Card, saved: Saved, entry: Entry) -> Card:
        mask = masks.prune(self.score(card, entry), card.mask, entry.keep, self.selection)
        back = saved[self.rewind_to] if self.rewind_to else card
        pruned = masks.apply(back.params, mask)
        params = rescale(pruned, mask) if self.rescales else pruned
        return card.replace(params=params, stats=back.stats, mask=mask)


def at_start(c: ConfigDict, score: Callable[[Card, Entry], Tree]) -> Prune:
    """Prune at initialisation."""
    return Prune(score, selection=c.compute.selection, rescales=c.pruning.rescale)


def rescale(params: Tree, mask: Tree) -> Tree:
    """Initial weights for as many inputs as each unit has left, so that signals keep their variance on their way.

    The weights of a unit grow by sqrt(inputs / inputs left): as if drawn with the variance that its own number of
    inputs asks for (Evci et al. 2022, "Gradient flow in sparse neural networks and how lottery tickets win").
    """

    def one(w: Array, m: Array | None) -> Array:
        if m is None:
            return w
        inputs = tuple(range(m.ndim - 1))  # HWIO, or (in, out): a unit is an output
        left = jnp.sum(m, inputs, dtype=jnp.int32, keepdims=True)
        return w * jnp.sqrt(m.size / m.shape[-1] / jnp.maximum(left, 1)).astype(w.dtype)

    return map_leaves(one, params, mask)


def rules(**changes) -> Rules:
    """The rules of a phase that trains the weights under their mask."""
    return Rules(view, finish, **changes)


@dataclasses.dataclass(frozen=True)
class Erk:
    """Counts of kept weights under the Erdos-Renyi-kernel distribution over layers."""

    def __call__(self, shapes: Shapes, final: float) -> list:
        return [masks.erk_counts(shapes, final)]


def counts(c: ConfigDict) -> Counts:
    """Kept counts for a card's final sparsity, under the config's scope and distribution."""
    return Erk() if c.pruning.distribution == "erk" else Uniform(c.scope)


def update_steps(begin: int, end: int, every: int) -> tuple[int, ...]:
    """Steps at which a mask is made anew: every `every` from `begin` to `end`.

    In a training that is short for that they are closer, GRADUAL times: else sparsity would rise in one or two jumps,
    and not up to the end.
    """
    every = min(every, max(1, (end - begin) // GRADUAL))
    return tuple(range(begin, begin + (end - begin) // every * every + 1, every))


def keep_all(c: ConfigDict) -> Counts:
    """Counts of a phase that prunes nothing."""
    return Uniform(c.scope, lambda final: [0.0])


def check_sparse_start(c: ConfigDict) -> None:
    """Raise ConfigError for a distribution over layers that the scope does not have."""
    one_of(c, "pruning.distribution", DISTRIBUTIONS)
    if c.pruning.distribution != "uniform" and c.scope == "global":
        raise ConfigError(
            f"pruning.distribution={c.pruning.distribution!r}: allowed with scope='global' is 'uniform' "
            "(a distribution over layers needs scope='layerwise')"
        )


def check(c: ConfigDict) -> None:
    """Raise ConfigError for such a distribution, and for weights of a sparse start, of a method that has none."""
    check_sparse_start(c)
    _check_dense_start(c)


def check_uniform(c: ConfigDict) -> None:
    """Raise ConfigError for a distribution over layers or a sparse start, of a method that has neither."""
    if c.pruning.distribution != "uniform":
        raise ConfigError(
            f"pruning.distribution={c.pruning.distribution!r}: method {c.method!r} allows 'uniform'"
        )
    _check_dense_start(c)


def _check_dense_start(c: ConfigDict) -> None:
    if c.pruning.rescale:
        raise ConfigError(
            f"pruning.rescale=True: method {c.method!r} allows False; True is for random, rigl, set and snip"
        )
