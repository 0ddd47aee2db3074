"""Learning-rate rewinding of ResNet-18 on CIFAR-10: five seeds at the paper's levels.

    python -m cards_jax.main --config=configs/lrr_resnet18.py --config.data.dir=FOLDER_OF_THE_ARCHIVE

Recipe of open_lth: 160 epochs, batch 128, SGD 0.1 divided by 10 at epochs 80 and 120, weight decay 1e-4, BatchNorm
scales drawn from [0, 1). Every level removes 20% of what is left; one trajectory per seed delivers the cards of all
levels asked for, fourteen levels and fifteen trainings for 95.6%. 80% and the like instead of the levels:
--config.pruning.targets=exact. No published number is known for it: unverified.
"""

from cards_jax.config import defaults


def get_config():
    c = defaults()
    c.name = "lrr_resnet18"
    c.method, c.scope = "lrr", "global"
    c.data.name = "cifar10"
    c.model.name, c.model.gamma = "resnet18", "uniform"
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.488, 0.59, 0.79, 0.893, 0.945, 0.956)
    c.epochs = 160
    c.schedule.kind = "step"
    return c
