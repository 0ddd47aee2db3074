"""Iterative magnitude pruning: levels of prune and train again, whose ends are the cards of many sparsities.

Every level removes the share `pruning.rate` of the weights that are left. One trajectory per seed passes all levels;
with targets="exact", a card of another sparsity branches off by a partial level, and the trajectory goes on without it.
"""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from cards_jax import masks, pruning
from cards_jax.config import ConfigError, one_of
from cards_jax.phase import Phase, Rules, Shapes, Uniform
from cards_jax.schedules import learning_rate_table

REWIND, TRUNK = "rewind", "trunk"  # names of saved cards
TOLERANCE = 6e-4  # 0.79 names the level 0.790285
SHARE = 0.02  # of what is kept: where that is little, decimals tell levels apart
MOST = 200  # levels


@dataclasses.dataclass(frozen=True)
class LevelCounts:
    """The kept count of a level."""

    level: int
    rate: float
    scope: str

    def __call__(self, shapes: Shapes, final: float) -> list[np.ndarray]:
        del final
        sizes = [int(np.prod(s)) for s in shapes]
        return [masks.level_counts(sizes, self.level, self.rate, self.scope)]


@dataclasses.dataclass(frozen=True)
class BranchCounts:
    """The kept count of a partial level that removes exactly `sparsity` after whole ones to `trunk`.

    Levels round up layer by layer: a layer keeps no more than they left of it.
    """

    trunk: LevelCounts
    sparsity: float

    def __call__(self, shapes: Shapes, final: float) -> list[np.ndarray]:
        (left,) = self.trunk(shapes, final)
        (exact,) = Uniform(self.trunk.scope, lambda _: [self.sparsity])(shapes, final)
        return [np.minimum(exact, left)]


def sparsity_of(level: int, rate: float) -> float:
    """Fraction removed after so many levels."""
    return 1 - (1 - rate) ** level


def level_of(sparsity: float, rate: float) -> int | None:
    """The level that a sparsity names, None where there is none."""
    near = min(range(MOST), key=lambda n: abs(sparsity_of(n, rate) - sparsity))
    nearest = min(TOLERANCE, SHARE * (1 - sparsity))
    return near if abs(sparsity_of(near, rate) - sparsity) < nearest else None


def level_below(sparsity: float, rate: float) -> int:
    """The last level that leaves more than a sparsity asks for."""
    return max(n for n in range(MOST) if n == 0 or sparsity_of(n, rate) < sparsity - 1e-12)


def check(c: ConfigDict) -> None:
    """Raise ConfigError for sparsities that are no levels, and for fields out of range."""
    pruning.check_uniform(c)
    one_of(c, "pruning.targets", ("levels", "exact"))
    rate = c.pruning.rate
    for sparsity in c.sparsity:
        if c.pruning.targets == "levels" and level_of(sparsity, rate) is None:
            named = ", ".join(f"{sparsity_of(n, rate):.3g}" for n in range(17))
            raise ConfigError(
                f"sparsity={sparsity}: with pruning.rate={rate} allowed are the levels {named}, ...; "
                "pruning.targets='exact' allows any"
            )
        if c.pruning.targets == "exact" and sparsity > sparsity_of(MOST - 1, rate):
            raise ConfigError(
                f"sparsity={sparsity}: more than {MOST} levels of pruning.rate={rate}"
            )


def rewind_step(c: ConfigDict, steps: int, default: int) -> int:
    """Step of the schedule that levels return to; ConfigError where it is not one of `steps`."""
    step = default if c.pruning.rewind_steps is None else c.pruning.rewind_steps
    if not 0 <= step < steps:
        raise ConfigError(
            f"pruning.rewind_steps={step}: allowed is 0 to {steps - 1}, within the {steps} steps of a level"
        )
    return step


def saves(c: ConfigDict, rewinds: bool) -> tuple[str, ...]:
    """Names of the cards that phases set aside."""
    return (REWIND,) * rewinds + (TRUNK,) * (c.pruning.targets == "exact")


def phases(c: ConfigDict, steps_per_epoch: int, rewinds: bool, default: int) -> list[Phase]:
    """Dense training, then a phase for every level, and for every partial level that branches off.

    rewinds: whether the surviving weights return to their values at the rewind step (LTH), or only the learning rate
    does (LRR). default: the rewind step where the config names none.
    """
    rate = learning_rate_table(c, steps_per_epoch)
    back = rewind_step(c, len(rate), default)
    found = _level_zero(c, rate, back if rewinds else 0)
    exact = c.pruning.targets == "exact"
    last = max((level_below if exact else level_of)(s, c.pruning.rate) for s in c.sparsity)
    branched = False
    for level in range(last + 1):
        if level:
            found.append(_level(c, rate, back, rewinds, level, branched))
        targets = [s for s in c.sparsity if exact and s and level_below(s, c.pruning.rate) == level]
        for i, target in enumerate(sorted(targets)):
            found.append(_branch(c, rate, back, rewinds, level + 1, target, first=i == 0))
        branched = bool(targets)
    return found


def _delivers(c: ConfigDict, level: int) -> tuple[float, ...]:
    """The sparsities that the end of a whole level is asked for."""
    if c.pruning.targets == "exact":
        return (0.0,) if level == 0 and 0 in c.sparsity else ()
    return tuple(s for s in c.sparsity if level_of(s, c.pruning.rate) == level)


def _level_zero(c: ConfigDict, rate: np.ndarray, anchor: int) -> list[Phase]:
    """Dense training, in two phases where the weights of a step in between are wanted later."""
    whole = {"keep": LevelCounts(0, c.pruning.rate, c.scope), "shared": True}
    end = {"rate": rate, "delivers": _delivers(c, 0), **whole}
    if not anchor:
        return [Phase("level 0", pruning.rules(), **end)]
    go_on = pruning.rules(sets_aside=REWIND, fresh_optimizer=False)
    return [
        Phase("pretrain", pruning.rules(), rate[:anchor], delivers=(), **whole),
        Phase("level 0", go_on, first=anchor, **end),
    ]


def _rules(c: ConfigDict, rewinds: bool, **changes) -> Rules:
    """Of a phase that begins by pruning."""
    back = REWIND if rewinds else None
    prune = pruning.Prune(rewind_to=back, selection=c.compute.selection)
    return pruning.rules(enter=prune, **changes)


def _level(c, rate, back: int, rewinds: bool, level: int, branched: bool) -> Phase:
    """One level of the trajectory; after a branch, it departs from where the trajectory was."""
    return Phase(
        name=f"level {level}",
        rules=_rules(c, rewinds, departs_from=TRUNK if branched else None),
        rate=rate,
        keep=LevelCounts(level, c.pruning.rate, c.scope),
        first=back,
        number=level,
        shared=True,
        delivers=_delivers(c, level),
    )


def _branch(c, rate, back: int, rewinds: bool, level: int, target: float, first: bool) -> Phase:
    """A level cut short to remove exactly `target`; the card before it is set aside by the first branch."""
    kept = {"sets_aside": TRUNK} if first else {"departs_from": TRUNK}
    return Phase(
        name=f"level {level} to {target:g}",
        rules=_rules(c, rewinds, **kept),
        rate=rate,
        keep=BranchCounts(LevelCounts(level - 1, c.pruning.rate, c.scope), target),
        first=back,
        number=level,
        shared=True,
        delivers=(target,),
    )
