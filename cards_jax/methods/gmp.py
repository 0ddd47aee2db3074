"""gmp: gradual magnitude pruning. Sparsity rises along a cubic while the network trains (Zhu and Gupta 2017)."""

import dataclasses

from ml_collections import ConfigDict

from cards_jax import masks, pruning
from cards_jax.card import Card
from cards_jax.config import ConfigError
from cards_jax.phase import Entry, Phase, Uniform
from cards_jax.schedules import cubic_sparsities, learning_rate_table

AFFINE = True
init = pruning.init


@dataclasses.dataclass(frozen=True)
class Remask:
    """The weights with the largest magnitude, among those that are still there."""

    selection: str | None

    def __call__(self, card: Card, entry: Entry) -> Card:
        return card.replace(mask=masks.prune(card.params, card.mask, entry.keep, self.selection))


def check(c: ConfigDict) -> None:
    """Raise ConfigError unless pruning begins before it ends."""
    pruning.check_uniform(c)
    if not c.pruning.begin < c.pruning.end:
        raise ConfigError(
            f"pruning.begin={c.pruning.begin}, pruning.end={c.pruning.end}: shares of the training, begin before end"
        )


def update_steps(c: ConfigDict, total: int) -> tuple[int, ...]:
    """Steps at which the mask is made anew. The last one is a step that is trained: an `end` of 1 is the last step."""
    end = min(int(c.pruning.end * total), total - 1)
    return pruning.update_steps(min(int(c.pruning.begin * total), end), end, c.pruning.every)


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
