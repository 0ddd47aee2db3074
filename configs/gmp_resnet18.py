"""Gradual magnitude pruning of ResNet-18 on CIFAR-10, five seeds at five sparsities, global scope.

    python -m cards_jax.main --config=configs/gmp_resnet18.py --config.data.dir=FOLDER_OF_THE_ARCHIVE

Recipe of open_lth: 160 epochs, batch 128, SGD 0.1 divided by 10 at epochs 80 and 120, weight decay 1e-4, BatchNorm
scales drawn from [0, 1). Sparsity rises along the cubic from 10% to 75% of the training, every 100 steps: unverified
defaults. No published number is known for it: unverified.
"""

from cards_jax.config import defaults


def get_config():
    c = defaults()
    c.name = "gmp_resnet18"
    c.method, c.scope = "gmp", "global"
    c.data.name = "cifar10"
    c.model.name, c.model.gamma = "resnet18", "uniform"
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.5, 0.6, 0.8, 0.9, 0.95)
    c.epochs = 160
    c.schedule.kind = "step"
    return c
