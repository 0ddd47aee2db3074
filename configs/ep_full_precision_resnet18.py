"""Edge-popup with full-precision weights on ResNet-18 and CIFAR-10: five cards at 80% sparsity.

    python -m cards_jax.main --config=configs/ep_full_precision_resnet18.py --config.data.dir=FOLDER_OF_THE_ARCHIVE

configs/ep_resnet18.py with Gaussian weights in the place of signed constants, as in the paper's appendix C.2.
"""

from cards_jax.config import defaults


def get_config():
    c = defaults()
    c.name = "ep_full_precision_resnet18"
    c.method = "ep"
    c.popup.weight_init = "kaiming_normal"
    c.data.name = "cifar10"
    c.model.name = "resnet18"
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.8,)
    c.weight_decay = (5e-4,)
    c.batch_size = 256
    c.schedule.per = "epoch"
    return c
