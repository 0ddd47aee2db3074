"""Gradual magnitude pruning of Conv2, Conv4, Conv6 or Conv8 on CIFAR-10, five seeds at five sparsities, global scope.

    python -m cards_jax.main --config=configs/gmp_conv.py:conv4 --config.data.dir=FOLDER_OF_THE_ARCHIVE

Dense recipe of configs/dense_conv.py: 100 epochs, batch 128, SGD 0.01 with cosine decay, weight decay 1e-4. Sparsity
rises along the cubic from 10% to 75% of the training, every 100 steps: unverified defaults. No published number is
known for it: unverified.
"""

from cards_jax.config import defaults


def get_config(model="conv4"):
    c = defaults()
    c.name = f"gmp_{model}"
    c.method, c.scope = "gmp", "global"
    c.data.name = "cifar10"
    c.model.name = model
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.5, 0.6, 0.8, 0.9, 0.95)
    c.learning_rate = (0.01,)
    return c
