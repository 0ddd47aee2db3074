"""lth: iterative magnitude pruning with weight rewinding (Frankle and Carbin 2019, Frankle et al. 2020).

After every level the surviving weights and BatchNorm return to their values at step K of the dense training.
"""

from functools import partial

from cards_jax import levels, pruning

AFFINE = True
init, check = pruning.init, levels.check
saves = partial(levels.saves, rewinds=True)
phases = partial(levels.phases, rewinds=True, default=1000)
