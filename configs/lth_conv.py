"""Weight rewinding of Conv2, Conv4, Conv6 or Conv8 on CIFAR-10: five seeds at the paper's levels.

    python -m cards_jax.main --config=configs/lth_conv.py:conv4 --config.data.dir=FOLDER_OF_THE_ARCHIVE

Dense recipe of configs/dense_conv.py: 100 epochs, batch 128, SGD 0.01 with cosine decay, weight decay 1e-4. Every
level removes 20% of what is left; one trajectory per seed delivers the cards of all levels asked for. Weights return
to their values at step 1000, an unverified default (--config.pruning.rewind_steps). 80% and the like instead of the
levels: --config.pruning.targets=exact. No published number is known for it: unverified.
"""

from cards_jax.config import defaults


def get_config(model="conv4"):
    c = defaults()
    c.name = f"lth_{model}"
    c.method, c.scope = "lth", "global"
    c.data.name = "cifar10"
    c.model.name = model
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.488, 0.59, 0.79, 0.893, 0.945, 0.956)
    c.learning_rate = (0.01,)
    return c
