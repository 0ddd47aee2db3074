"""Control: fine-tuning with the total epochs of LRR, ResNet-18 on CIFAR-10, five seeds.

    python -m cards_jax.main --config=configs/ft_long_resnet18.py:7 --config.data.dir=FOLDER_OF_THE_ARCHIVE

The same sparsity and the same budget as LRR at the level named by the argument, 160 epochs for every level and for
the dense training before it; :7 is 79.0%. Fine-tuning takes what LRR spends on its levels.
"""

from cards_jax.config import defaults
from cards_jax.levels import sparsity_of


def get_config(levels="7"):
    c = defaults()
    c.name = f"ft_long_resnet18_{levels}"
    c.method, c.scope = "ft", "global"
    c.data.name = "cifar10"
    c.model.name, c.model.gamma = "resnet18", "uniform"
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (round(sparsity_of(int(levels), c.pruning.rate), 4),)
    c.epochs = 160
    c.schedule.kind = "step"
    c.finetune.epochs = 160 * int(levels)
    return c
