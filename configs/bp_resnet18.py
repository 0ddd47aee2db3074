"""Biprop on ResNet-18 and CIFAR-10: five binary-weight cards at 80% sparsity, trained at once.

    python -m cards_jax.main --config=configs/bp_resnet18.py --config.data.dir=FOLDER_OF_THE_ARCHIVE

Recipe of the public biprop code: 100 epochs, batch 256, SGD 0.1 with cosine decay per epoch, weight decay 5e-4 on the
scores. Its README gives 94.66% at this sparsity; it keeps the epoch of the best test accuracy, we keep the last one.
"""

from cards_jax.config import defaults


def get_config():
    c = defaults()
    c.name = "bp_resnet18"
    c.method = "bp"
    c.data.name = "cifar10"
    c.model.name = "resnet18"
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.8,)
    c.weight_decay = (5e-4,)
    c.batch_size = 256
    c.schedule.per = "epoch"
    return c
