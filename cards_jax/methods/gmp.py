"""gmp: gradual magnitude pruning. Sparsity rises along a cubic while the network trains (Zhu and Gupta 2017)."""

import dataclasses

from jax import Array
from ml_collections import ConfigDict

from cards_jax import masks, pruning
from cards_jax.card import Card
from cards_jax.config import ConfigError
from cards_jax.phase import Phase, Uniform
from cards_jax.schedules import cubic_sparsities, learning_rate_table
from cards_jax.tree import Tree

AFFINE = True
GRADUAL = 5  # least number of times that the mask is made anew, where there are as many steps
init = pruning.init


@dataclasses.dataclass(frozen=True)
class Remask:
    """The weights with the largest magnitude, among those that are still there."""

    selection: str | None

    def __call__(self, card: Card, keep: Array) -> Tree:
        return masks.prune(card.params, card.mask, keep, self.selection)


def check(c: ConfigDict) -> None:
    """Raise ConfigError unless pruning begins before it ends."""
    pruning.check_uniform(c)
    if not c.pruning.begin < c.pruning.end:
        raise ConfigError(
            f"pruning.begin={c.pruning.begin}, pruning.end={c.pruning.end}: shares of the training, begin before end"
        )


def update_steps(c: ConfigDict, total: int) -> tuple[int, ...]:
    """Steps at which the mask is made anew: every `pruning.every` from `begin` to `end`.

    In a training that is short for that they are closer, GRADUAL times: else sparsity would rise in one or two jumps,
    and not up to the end. The last one is a step that is trained: an `end` of 1 is the last step.
    """
    end = min(int(c.pruning.end * total), total - 1)
    begin = min(int(c.pruning.begin * total), end)
    every = min(c.pruning.every, max(1, (end - begin) // GRADUAL))
    return tuple(range(begin, begin + (end - begin) // every * every + 1, every))


def phases(c: ConfigDict, steps_per_epoch: int) -> list[Phase]:
    """One phase that prunes as it trains."""
    rate = learning_rate_table(c, steps_per_epoch)
    updates = update_steps(c, len(rate))
    return [
        Phase(
            name="train",
            rules=pruning.rules(remask=Remask(c.compute.selection)),
            rate=rate,
            keep=Uniform(c.scope, lambda final: [0.0, *cubic_sparsities(final, len(updates) - 1)]),
            updates=(-1, *updates),
        )
    ]
