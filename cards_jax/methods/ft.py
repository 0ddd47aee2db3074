"""ft: fine-tuning. A trained dense network is pruned once by magnitude and trained on at a low rate.

The dense training is one for all sparsities of a seed.
"""

import numpy as np
from ml_collections import ConfigDict

from cards_jax import pruning
from cards_jax.phase import Phase
from cards_jax.schedules import learning_rate_table

AFFINE = True
init, check = pruning.init, pruning.check


def phases(c: ConfigDict, steps_per_epoch: int) -> list[Phase]:
    """Dense training, then fine-tuning at a constant rate after one prune."""
    rate = learning_rate_table(c, steps_per_epoch)
    prune = pruning.Prune(selection=c.compute.selection)
    low = np.full(c.finetune.epochs * steps_per_epoch, c.finetune.rate, np.float32)
    dense = Phase("train", pruning.rules(), rate, pruning.keep_all(c), shared=True, delivers=())
    tune = Phase("finetune", pruning.rules(enter=prune), low, pruning.counts(c), number=1)
    return [dense, tune]
