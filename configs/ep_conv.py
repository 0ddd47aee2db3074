"""Edge-popup on Conv2, Conv4, Conv6 or Conv8 and CIFAR-10: five cards at half sparsity, trained at once.

    python -m cards_jax.main --config=configs/ep_conv.py:conv4 --config.data.dir=FOLDER_OF_THE_ARCHIVE

Recipe of configs/bp_conv.py, from the public biprop code: 100 epochs, batch 128, SGD 0.1 with cosine decay per epoch,
weight decay 1e-4 on the scores; signed constant weights. No published number is known for it: unverified. Random
weights are scaled by sqrt(1 / density), as the edge-popup paper says; the public code scales by sqrt(1 / sparsity), the
same at half sparsity only.
"""

from cards_jax.config import defaults


def get_config(model="conv4"):
    c = defaults()
    c.name = f"ep_{model}"
    c.method = "ep"
    c.data.name = "cifar10"
    c.model.name = model
    c.seeds = (0, 1, 2, 3, 4)
    c.schedule.per = "epoch"
    return c
