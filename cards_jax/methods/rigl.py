"""rigl: sparse from the start; small weights make room for those whose gradient is largest (Evci et al. 2020).

The gradient is that of `pruning.saliency_batches` random training batches, not augmented, in all weights.
"""

import dataclasses

from ml_collections import ConfigDict

from cards_jax import exchange, pruning
from cards_jax.card import Card
from cards_jax.phase import Entry, Phase
from cards_jax.tree import Tree

AFFINE = True
init, check = pruning.init, pruning.check_sparse_start


@dataclasses.dataclass(frozen=True)
class Gradient:
    """Scores: the gradient of the loss in every weight, the pruned ones included."""

    batches: int

    def __call__(self, card: Card, entry: Entry) -> Tree:
        return entry.gradient(pruning.view(card, entry.keep), self.batches)


def phases(c: ConfigDict, steps_per_epoch: int) -> list[Phase]:
    """One phase, which begins with a random mask."""
    score = Gradient(min(c.pruning.saliency_batches, steps_per_epoch))
    return exchange.phases(c, steps_per_epoch, score)
