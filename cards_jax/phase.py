"""Phase: the one contract that a compression method fulfils. A method is a list of phases."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jax import Array

from cards_jax import masks
from cards_jax.card import Card
from cards_jax.tree import Tree

Saved = dict[str, Card]  # cards that a later phase returns to, by name
Shapes = list[tuple[int, ...]]  # of the prunable layers, in the tree's order


@dataclasses.dataclass(frozen=True)
class Entry:
    """What entering a phase, or an update of its mask, may use beside the card.

    keep: count of kept weights, int32 () or (L,); key: random key of this entry or update.
    gradient(weights) -> mean gradient of the training loss in the effective weights, over `batches` batches.
    """

    keep: Array
    key: Array
    gradient: Callable[[Tree, int], Tree]


@dataclasses.dataclass(frozen=True)
class Start:
    """What the beginning of a card may use beside its dense initialisation.

    key: random key of the method's own draws; density: fraction to be kept at the end.
    given: what the method brought along for this realization (`given(c, spec, points)`), else an empty dict.
    draw(key) -> (params, stats): another dense initialisation.
    """

    key: Array
    density: Array
    given: Tree
    draw: Callable[[Array], tuple[Tree, Tree]]


def unchanged(card: Card, saved: Saved, entry: Entry) -> Card:
    """Enter a phase with everything as it was."""
    del saved, entry
    return card


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a phase does, as hashable functions of one card: the only part that decides what is compiled.

    departs_from: name of a card that was set aside, from which the phase begins in place of the present one, be that
    alive or not. sets_aside: name under which the card is kept as it is before `enter`.
    enter(card, saved, entry) -> card: once, before the first step; prunes, or rewinds.
    remask(card, entry) -> card: at every mask update, before the step, or None where masks stand still or the view
    makes them.
    view(card, keep) -> effective weights, through which gradients reach `card.params`.
    finish(card, keep) -> Card of plain weights and the final mask, which needs no rules any more.
    fresh_optimizer: whether entering forgets the momentum.
    """

    view: Callable[[Card, Array], Tree]
    finish: Callable[[Card, Array], Card]
    departs_from: str | None = None
    sets_aside: str | None = None
    enter: Callable[[Card, Saved, Entry], Card] = unchanged
    remask: Callable[[Card, Entry], Card] | None = None
    fresh_optimizer: bool = True


Counts = Callable[[Shapes, float], list[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Counts of kept weights at each update, from the fraction removed then.

    sparsities(final): fraction removed from each update on, for a card whose final sparsity is `final`.
    """

    scope: str = "layerwise"
    sparsities: Callable[[float], list[float]] = lambda final: [final]

    def __call__(self, shapes: Shapes, final: float) -> list[np.ndarray]:
        sizes = [int(np.prod(s)) for s in shapes]
        return [masks.keep_counts(sizes, s, self.scope) for s in self.sparsities(final)]


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stretch of training under one set of rules; all but `rules` are values and never recompile.

    rate: factor on the base learning rate at every step of the schedule, float32 (T,).
    first, last: the part of the schedule that is trained; a rewound phase begins at its `first`.
    updates: steps of the schedule from which the next of `keep`'s counts hold.
    keep(shapes, sparsity): int32 counts, () for global scope or (L,), one for each of `updates`.
    number: names the phase's random streams (data order, augmentation); phases of one number continue each other.
    shared: whether all sparsities have it in common, so that it is trained once for each seed and rate.
    delivers: sparsities whose cards are finished at its end; None is all of them.
    """

    name: str
    rules: Rules
    rate: np.ndarray
    keep: Counts
    updates: tuple[int, ...] = (0,)
    first: int = 0
    number: int = 0
    shared: bool = False
    delivers: tuple[float, ...] | None = None

    @property
    def last(self) -> int:
        """The step of the schedule at which it ends."""
        return len(self.rate)

    @property
    def steps(self) -> int:
        """How many steps it trains."""
        return self.last - self.first


def passed(phases: Sequence[Phase], index: int) -> list[int]:
    """The phases that the cards at the end of phase `index` went through, those of other branches left out."""
    path, at = [], index
    while at >= 0:
        path.insert(0, at)
        name = phases[at].rules.departs_from
        if name is not None:  # it begins where the phase began that set the card aside
            at = max(i for i in range(at) if phases[i].rules.sets_aside == name)
        at -= 1
    return path
