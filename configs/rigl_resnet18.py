"""RigL, sparse training that exchanges weights as it goes: ResNet-18 on CIFAR-10, five seeds at five sparsities.

    python -m cards_jax.main --config=configs/rigl_resnet18.py --config.data.dir=FOLDER_OF_THE_ARCHIVE

Published settings: layers by the Erdos-Renyi-kernel rule, every 100 steps up to 75% of the training 30% of the weights,
falling along a cosine. Its controls: configs/set_resnet18.py, where newcomers are drawn by chance, and
configs/random_resnet18.py with --config.scope=layerwise --config.pruning.distribution=erk, where none come. Recipe of
configs/lrr_resnet18.py. No published number is known for it: unverified.
"""

from cards_jax.config import defaults


def get_config():
    c = defaults()
    c.name = "rigl_resnet18"
    c.method, c.scope = "rigl", "layerwise"
    c.pruning.distribution = "erk"
    c.data.name = "cifar10"
    c.model.name, c.model.gamma = "resnet18", "uniform"
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.5, 0.6, 0.8, 0.9, 0.95)
    c.epochs = 160
    c.schedule.kind = "step"
    return c
