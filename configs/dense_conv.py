"""Dense Conv2, Conv4, Conv6 or Conv8 on CIFAR-10: the five networks that cards are compared with, trained at once.

    python -m cards_jax.main --config=configs/dense_conv.py:conv4 --config.data.dir=FOLDER_OF_THE_ARCHIVE

Dense recipe of the public hidden-networks and biprop codes: 100 epochs, batch 128, SGD 0.01 with cosine decay, weight
decay 1e-4. No published number is known for it: unverified. A finished run's folder serves as
`--config.baseline=FOLDER`.
"""

from cards_jax.config import defaults


def get_config(model="conv4"):
    c = defaults()
    c.name = f"dense_{model}"
    c.method = "dense"
    c.data.name = "cifar10"
    c.model.name = model
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.0,)
    c.learning_rate = (0.01,)
    c.schedule.per = "epoch"
    return c
