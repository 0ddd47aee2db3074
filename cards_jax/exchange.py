"""Dynamic sparse training: a network that is sparse from its first step on and exchanges some weights as it trains.

Every `pruning.every` steps the kept weights of the smallest magnitude go, and as many others come, from zero. The share
that is exchanged begins with `pruning.exchange` and falls along a cosine; after `pruning.end` of the training the mask
stands still. Which weights come is what the methods differ in.
"""

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from cards_jax import masks, pruning
from cards_jax.card import Card
from cards_jax.phase import Counts, Entry, Phase, Saved, Shapes
from cards_jax.schedules import learning_rate_table
from cards_jax.tree import Tree, map_leaves

KEPT, STAY = 0, 1  # rows of a count


@dataclasses.dataclass(frozen=True)
class ExchangeCounts:
    """Two rows for each update, int32 (2,) or (2, L): how many weights are kept, and how many of them stay.

    kept: the counts of the mask. share: what is exchanged at first. updates: how many exchanges follow the first mask.
    """

    kept: Counts
    share: float
    updates: int

    def __call__(self, shapes: Shapes, final: float) -> list[np.ndarray]:
        (kept,) = self.kept(shapes, final)
        sizes = [math.prod(s) for s in shapes]
        pruned = (np.array(sizes) if kept.ndim else sum(sizes)) - kept
        rows = [np.stack([kept, kept])]
        for i in range(self.updates):
            cosine = Fraction((1 + math.cos(math.pi * i / self.updates)) / 2)
            share = Fraction(repr(float(self.share))) * cosine  # of the decimal that the user wrote
            # No more can come than is pruned, and one weight always stays.
            gone = np.reshape([int(share * n) for n in kept.ravel().tolist()], kept.shape)
            gone = np.minimum(gone, pruned)
            rows.append(np.stack([kept, kept - gone]))
        return [row.astype(np.int32) for row in rows]


@dataclasses.dataclass(frozen=True)
class Begin:
    """Enter by a first mask; of the two rows of a count it takes what is kept."""

    prune: pruning.Prune

    def __call__(self, card: Card, saved: Saved, entry: Entry) -> Card:
        return self.prune(card, saved, dataclasses.replace(entry, keep=entry.keep[KEPT]))


@dataclasses.dataclass(frozen=True)
class Exchange:
    """The smallest kept weights go; of all that are pruned then, those with the largest score come, as zeros.

    score(card, entry) -> tree of scores. A weight that goes may come back at once, with the value that it had.
    """

    score: Callable[[Card, Entry], Tree]
    selection: str | None

    def __call__(self, card: Card, entry: Entry) -> Card:
        kept, stay = entry.keep[KEPT], entry.keep[STAY]
        stays = masks.prune(card.params, card.mask, stay, self.selection)
        mask = masks.grow(self.score(card, entry), stays, kept - stay, self.selection)
        return card.replace(params=_zero_where_new(card, mask), mask=mask)


def _zero_where_new(card: Card, mask: Tree) -> Tree:
    """The weights, zero where they were pruned before or are now."""

    def one(w: Array, before: Array | None, now: Array | None) -> Array:
        return w if now is None else jnp.where(before & now, w, 0)

    return map_leaves(one, card.params, card.mask, mask)


def phases(
    c: ConfigDict, steps_per_epoch: int, score: Callable[[Card, Entry], Tree]
) -> list[Phase]:
    """One phase, whose mask is exchanged by a score of the pruned weights."""
    rate = learning_rate_table(c, steps_per_epoch)
    end = min(int(c.pruning.end * len(rate)), len(rate) - 1)
    _, *updates = pruning.update_steps(0, end, c.pruning.every)
    rules = pruning.rules(
        enter=Begin(pruning.at_start(c, pruning.chance)),
        remask=Exchange(score, c.compute.selection),
    )
    keep = ExchangeCounts(pruning.counts(c), c.pruning.exchange, len(updates))
    return [Phase("train", rules, rate, keep, updates=(-1, *updates))]
