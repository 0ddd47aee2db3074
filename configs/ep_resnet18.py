"""Edge-popup on ResNet-18 and CIFAR-10: five cards at 80% sparsity over signed constant weights, trained at once.

    python -m cards_jax.main --config=configs/ep_resnet18.py --config.data.dir=FOLDER_OF_THE_ARCHIVE

Recipe of configs/bp_resnet18.py, from the public biprop code: 100 epochs, batch 256, SGD 0.1 with cosine decay per
epoch, weight decay 5e-4 on the scores. Expect about its accuracy, as the two differ in the magnitudes of their random
weights alone; no published number is known for this sparsity: unverified.
"""

from cards_jax.config import defaults


def get_config():
    c = defaults()
    c.name = "ep_resnet18"
    c.method = "ep"
    c.data.name = "cifar10"
    c.model.name = "resnet18"
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.8,)
    c.weight_decay = (5e-4,)
    c.batch_size = 256
    c.schedule.per = "epoch"
    return c
