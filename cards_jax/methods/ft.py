"""ft: fine-tuning. A trained dense network is pruned once by magnitude and trained on at a low rate.

The dense training is one for all sparsities of a seed. With `epochs=0` and given weights (`model.weights`) there is
none: they are pruned as they are.
"""

import numpy as np
from ml_collections import ConfigDict

from cards_jax import pruning
from cards_jax.phase import Phase
from cards_jax.schedules import learning_rate_table

AFFINE = True
init, check = pruning.init, pruning.check


def phases(c: ConfigDict, steps_per_epoch: int) -> list[Phase]:
    """Dense training, unless it has no epochs, then fine-tuning at a constant rate after one prune."""
    prune = pruning.Prune(selection=c.compute.selection)
    low = np.full(c.finetune.epochs * steps_per_epoch, c.finetune.rate, np.float32)
    tune = Phase("finetune", pruning.rules(enter=prune), low, pruning.counts(c), number=1)
    if not c.epochs:
        return [tune]
    rate = learning_rate_table(c, steps_per_epoch)
    dense = Phase("train", pruning.rules(), rate, pruning.keep_all(c), shared=True, delivers=())
    return [dense, tune]
