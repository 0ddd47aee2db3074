"""N:M structured pruning (2 of 4, 1 of 4): ResNet-18 on CIFAR-10, five seeds.

    python -m cards_jax.main --config=configs/nm_resnet18.py --config.data.dir=FOLDER_OF_THE_ARCHIVE

Dense training, one prune by magnitude within blocks of four inputs, the same training again. The first layer, whose
27 inputs are no multiple of four, stays dense. Recipe of configs/lrr_resnet18.py. No published number is known for
it: unverified.
"""

from cards_jax.config import defaults


def get_config():
    c = defaults()
    c.name = "nm_resnet18"
    c.method, c.scope = "nm", "layerwise"
    c.data.name = "cifar10"
    c.model.name, c.model.gamma = "resnet18", "uniform"
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.5, 0.75)
    c.epochs = 160
    c.schedule.kind = "step"
    return c
