"""lrr: iterative magnitude pruning with learning-rate rewinding (Renda et al. 2020).

After every level training goes on from the trained weights; only the learning rate begins anew.
"""

from functools import partial

from cards_jax import levels, pruning

AFFINE = True
init, check = pruning.init, levels.check
saves = partial(levels.saves, rewinds=False)
phases = partial(levels.phases, rewinds=False, default=0)
