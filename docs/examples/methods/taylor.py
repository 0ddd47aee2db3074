"""taylor: train for half of the schedule, prune once by |w * dL/dw|, train the other half.

The score is what the loss changes by, to first order, where a weight is set to zero (Molchanov et al. 2019).
"""

import dataclasses

import jax
from ml_collections import ConfigDict

from cards_jax import pruning
from cards_jax.card import Card
from cards_jax.phase import Entry, Phase
from cards_jax.schedules import learning_rate_table
from cards_jax.tree import Tree

AFFINE = True  # BatchNorm has a learnable scale and bias
init, check = pruning.init, pruning.check


@dataclasses.dataclass(frozen=True)
class Taylor:
    """Scores of all weights; those with the largest absolute score stay."""

    batches: int = 1

    def __call__(self, card: Card, entry: Entry) -> Tree:
        weights = pruning.view(card, entry.keep)
        gradient = entry.gradient(weights, self.batches)
        return jax.tree.map(lambda w, g: w * g, weights, gradient)


def phases(c: ConfigDict, steps_per_epoch: int) -> list[Phase]:
    """Two phases of one schedule; the first is the same for all sparsities of a seed, so it is trained once."""
    rate = learning_rate_table(c, steps_per_epoch)
    half = len(rate) // 2
    prune = pruning.Prune(score=Taylor(), selection=c.compute.selection)
    dense = Phase(
        "dense", pruning.rules(), rate[:half], pruning.keep_all(c), shared=True, delivers=()
    )
    sparse = Phase("sparse", pruning.rules(enter=prune), rate, pruning.counts(c), first=half)
    return [dense, sparse]
