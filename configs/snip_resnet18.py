"""SNIP, pruning at initialisation by connection sensitivity: ResNet-18 on CIFAR-10, five seeds.

    python -m cards_jax.main --config=configs/snip_resnet18.py --config.data.dir=FOLDER_OF_THE_ARCHIVE

|w dL/dw| of one training batch, as published; --config.pruning.saliency_batches for more. Recipe of
configs/lrr_resnet18.py. No published number is known for it: unverified.
"""

from cards_jax.config import defaults


def get_config():
    c = defaults()
    c.name = "snip_resnet18"
    c.method, c.scope = "snip", "global"
    c.data.name = "cifar10"
    c.model.name, c.model.gamma = "resnet18", "uniform"
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.5, 0.6, 0.8, 0.9, 0.95)
    c.epochs = 160
    c.schedule.kind = "step"
    return c
