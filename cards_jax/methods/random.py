"""random: pruning at initialisation by chance, then training; the control of every criterion.

Global scope draws from all weights jointly; layerwise scope removes the same share, or the Erdos-Renyi-kernel share
(pruning.distribution), of every layer.
"""

from ml_collections import ConfigDict

from cards_jax import pruning
from cards_jax.phase import Phase
from cards_jax.schedules import learning_rate_table

AFFINE = True
init, check = pruning.init, pruning.check_sparse_start


def phases(c: ConfigDict, steps_per_epoch: int) -> list[Phase]:
    """One phase, which prunes as it is entered."""
    prune = pruning.at_start(c, pruning.chance)
    rate = learning_rate_table(c, steps_per_epoch)
    return [Phase("train", pruning.rules(enter=prune), rate, pruning.counts(c))]
