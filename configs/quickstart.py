"""Biprop on the embedded digits: two seeds x two sparsities in one program, beside a dense baseline.

    python -m cards_jax.main --config=configs/quickstart.py

A half-width Conv4 on 16 x 16 images. Takes a minute or two on a laptop's CPU; every card reaches 96% and more.
"""

from cards_jax.config import defaults


def get_config():
    c = defaults()
    c.name = "quickstart"
    c.method = "bp"
    c.seeds = (0, 1)
    c.sparsity = (0.5, 0.8)
    c.learning_rate = (0.1,)
    c.batch_size = 64
    c.epochs = 10
    c.augment = "plain"
    c.baseline = "auto"
    c.dense.learning_rate = (
        0.02  # at 0.05 one dense seed in four dies: its training accuracy stays at chance
    )
    c.data.image_size = 16
    c.model.name = "conv4"
    c.model.width = 32
    return c
