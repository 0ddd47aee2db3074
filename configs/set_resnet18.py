"""SET, sparse training that exchanges weights by chance: ResNet-18 on CIFAR-10, five seeds at five sparsities.

    python -m cards_jax.main --config=configs/set_resnet18.py --config.data.dir=FOLDER_OF_THE_ARCHIVE

The control of configs/rigl_resnet18.py: nothing differs but that newcomers are drawn by chance. No published number is
known for it: unverified.
"""

from cards_jax.config import defaults


def get_config():
    c = defaults()
    c.name = "set_resnet18"
    c.method, c.scope = "set", "layerwise"
    c.pruning.distribution = "erk"
    c.data.name = "cifar10"
    c.model.name, c.model.gamma = "resnet18", "uniform"
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.5, 0.6, 0.8, 0.9, 0.95)
    c.epochs = 160
    c.schedule.kind = "step"
    return c
