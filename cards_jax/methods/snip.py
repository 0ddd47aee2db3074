"""snip: pruning at initialisation by connection sensitivity |w * dL/dw| (Lee et al. 2019), then training."""

import dataclasses

import jax
from ml_collections import ConfigDict

from cards_jax import pruning
from cards_jax.card import Card
from cards_jax.phase import Entry, Phase
from cards_jax.schedules import learning_rate_table
from cards_jax.tree import Tree

AFFINE = True
init, check = pruning.init, pruning.check_sparse_start


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """Scores: how much the loss feels each weight, over some training batches."""

    batches: int

    def __call__(self, card: Card, entry: Entry) -> Tree:
        weights = pruning.view(card, entry.keep)
        return jax.tree.map(lambda w, g: w * g, weights, entry.gradient(weights, self.batches))


def phases(c: ConfigDict, steps_per_epoch: int) -> list[Phase]:
    """One phase, which prunes as it is entered."""
    batches = min(c.pruning.saliency_batches, steps_per_epoch)
    prune = pruning.at_start(c, Sensitivity(batches))
    rate = learning_rate_table(c, steps_per_epoch)
    return [Phase("train", pruning.rules(enter=prune), rate, pruning.counts(c))]
