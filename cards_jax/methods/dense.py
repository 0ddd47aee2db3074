"""dense: ordinary training of every weight."""

from jax import Array
from ml_collections import ConfigDict

from cards_jax import pruning
from cards_jax.card import Card
from cards_jax.config import ConfigError
from cards_jax.phase import Phase, Rules, Uniform
from cards_jax.schedules import learning_rate_table
from cards_jax.tree import Tree

PRUNES = False
AFFINE = True


def view(card: Card, keep: Array) -> Tree:
    """The weights themselves."""
    del keep
    return card.params


def finish(card: Card, keep: Array) -> Card:
    """The card as it is: no mask."""
    del keep
    return card


def check(c: ConfigDict) -> None:
    pruning.check_uniform(c)
    if any(c.sparsity):
        raise ConfigError(f"sparsity={c.sparsity}: method 'dense' keeps every weight; allowed: 0.0")


def phases(c: ConfigDict, steps_per_epoch: int) -> list[Phase]:
    """One phase over all epochs."""
    rate = learning_rate_table(c, steps_per_epoch)
    return [Phase("train", Rules(view, finish), rate, Uniform())]
