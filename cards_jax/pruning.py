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
    draw = lambda i, w: jax.random.uniform(jax.random.fold_in(entry.key, i), w.shape)
    drawn = jax.tree.unflatten(treedef, [draw(i, w) for i, w in enumerate(leaves)])
    return fill(drawn, card.params)


@dataclasses.dataclass(frozen=True)
class Prune:
    """Enter a phase by pruning, within the mask there is, to the phase's count.

    score(card, entry) -> tree of scores; the largest absolute ones stay.
    rewind_to: name of a saved card whose weights and BatchNorm return under the new mask; None keeps the present ones.
    """

    score: Callable[[Card, Entry], Tree] = magnitude
    rewind_to: str | None = None
    selection: str | None = None

    def __call__(self, card: Card, saved: Saved, entry: Entry) -> Card:
        mask = masks.prune(self.score(card, entry), card.mask, entry.keep, self.selection)
        back = saved[self.rewind_to] if self.rewind_to else card
        pruned = masks.apply(back.params, mask)
        return card.replace(params=pruned, stats=back.stats, mask=mask)


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


def check(c: ConfigDict) -> None:
    """Raise ConfigError for a distribution over layers that the scope does not have."""
    one_of(c, "pruning.distribution", DISTRIBUTIONS)
    if c.pruning.distribution != "uniform" and c.scope == "global":
        raise ConfigError(
            f"pruning.distribution={c.pruning.distribution!r}: allowed with scope='global' is 'uniform' "
            "(a distribution over layers needs scope='layerwise')"
        )


def check_uniform(c: ConfigDict) -> None:
    """Raise ConfigError for a distribution, of a method that has none."""
    if c.pruning.distribution != "uniform":
        raise ConfigError(
            f"pruning.distribution={c.pruning.distribution!r}: method {c.method!r} allows 'uniform'"
        )
