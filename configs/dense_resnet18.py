"""Dense ResNet-18 on CIFAR-10: the five networks that cards are compared with, trained at once.

    python -m cards_jax.main --config=configs/dense_resnet18.py --config.data.dir=FOLDER_OF_THE_ARCHIVE

Dense recipe of the public biprop code: 100 epochs, batch 256, SGD 0.1 with cosine decay, weight decay 5e-4, learnable
BatchNorm. It publishes no accuracy: unverified. A finished run's folder serves as `--config.baseline=FOLDER`.
"""

from cards_jax.config import defaults


def get_config():
    c = defaults()
    c.name = "dense_resnet18"
    c.method = "dense"
    c.data.name = "cifar10"
    c.model.name = "resnet18"
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.0,)
    c.weight_decay = (5e-4,)
    c.batch_size = 256
    c.schedule.per = "epoch"
    return c
