"""Phase: the one contract that a compression method fulfils. A method is a list of phases."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jax import Array

from cards_jax.card import Card
from cards_jax.tree import Tree


def unchanged(card: Card, anchor: Card | None, keep: Array, key: Array) -> tuple[Card, Card | None]:
    """Enter a phase with everything as it was."""
    del keep, key
    return card, anchor


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a phase does, as hashable functions of one card: the only part that decides what is compiled.

    enter(card, anchor, keep, key) -> (card, anchor): once, before the first step; prunes, rewinds, or sets the anchor.
    remask(card, keep) -> mask: at every mask update, or None where masks stand still or the view makes them.
    view(card, keep) -> effective weights, through which gradients reach `card.params`.
    finish(card, keep) -> Card of plain weights and the final mask, which needs no rules any more.
    fresh_optimizer: whether entering forgets the momentum.
    """

    view: Callable[[Card, Array], Tree]
    finish: Callable[[Card, Array], Card]
    enter: Callable[[Card, Card | None, Array, Array], tuple[Card, Card | None]] = unchanged
    remask: Callable[[Card, Array], Tree] | None = None
    fresh_optimizer: bool = True


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stretch of training under one set of rules; all but `rules` are values and never recompile.

    steps: how many; rate: factor on the base learning rate at each, float32 (steps,).
    scope: whether kept weights are counted per layer or over all layers.
    updates: steps at which the next count of kept weights holds, the first is 0.
    sparsities(final): fraction removed from each of `updates` on, for a card whose final sparsity is `final`.
    """

    name: str
    rules: Rules
    steps: int
    rate: np.ndarray
    scope: str = "layerwise"
    updates: tuple[int, ...] = (0,)
    sparsities: Callable[[float], list[float]] = lambda final: [final]
