"""A card: one network with what is trained, what is frozen, what is kept, and its BatchNorm averages."""

import dataclasses
from typing import Self

import jax

from cards_jax import masks
from cards_jax.tree import Tree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Card:
    """One network as a pytree.

    params: what the optimizer moves: weights, or popup scores in the place of prunable weights.
    frozen: the random weights behind popup scores, None where params holds weights.
    mask:   True keep, False prune, None never pruned.
    stats:  BatchNorm running averages.
    """

    params: Tree
    frozen: Tree
    mask: Tree
    stats: Tree

    def replace(self, **changes: Tree) -> Self:
        return dataclasses.replace(self, **changes)


def weights(card: Card) -> Tree:
    """Effective weights of a finished card: pruned ones are exactly zero.

    Raises ValueError for a card in training whose params are still popup scores.
    """
    if jax.tree.leaves(card.frozen):
        raise ValueError("this card's params are popup scores: finish it first (train.finish)")
    return masks.apply(card.params, card.mask)
