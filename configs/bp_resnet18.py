"""Biprop on ResNet-18 and CIFAR-10: five binary-weight cards at 80% sparsity, trained at once.

    python -m cards_jax.main --config=configs/bp_resnet18.py --config.data.dir=FOLDER_OF_THE_ARCHIVE

Recipe of the public biprop code (100 epochs, SGD 0.1, cosine, weight decay 5e-4 on scores, batch 256). Its README gives
94.66% for one seed at this sparsity.
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
