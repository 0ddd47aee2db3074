"""Control: gradual magnitude pruning with the total epochs of LRR, ResNet-18 on CIFAR-10, five seeds.

    python -m cards_jax.main --config=configs/gmp_long_resnet18.py:7 --config.data.dir=FOLDER_OF_THE_ARCHIVE

The same sparsity and the same budget as LRR at the level named by the argument, 160 epochs for every level and for
the dense training before it; :7 is 79.0%. The learning rate drops at one half and three quarters.
"""

from cards_jax.config import defaults
from cards_jax.levels import sparsity_of


def get_config(levels="7"):
    c = defaults()
    c.name = f"gmp_long_resnet18_{levels}"
    c.method, c.scope = "gmp", "global"
    c.data.name = "cifar10"
    c.model.name, c.model.gamma = "resnet18", "uniform"
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (round(sparsity_of(int(levels), c.pruning.rate), 4),)
    c.epochs = 160 * (int(levels) + 1)
    c.schedule.kind = "step"
    c.schedule.drops = tuple(n * (int(levels) + 1) for n in (80, 120))
    return c
