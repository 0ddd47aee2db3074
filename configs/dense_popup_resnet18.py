"""Control: a dense ResNet-18 with the recipe and the fixed BatchNorm of edge-popup and biprop, five seeds.

    python -m cards_jax.main --config=configs/dense_popup_resnet18.py --config.data.dir=FOLDER_OF_THE_ARCHIVE

As configs/bp_resnet18.py but for the method: 100 epochs, batch 256, SGD 0.1 with cosine decay per epoch, weight decay
5e-4, BatchNorm without scale and bias, no bias in the last layer.
"""

from cards_jax.config import defaults


def get_config():
    c = defaults()
    c.name = "dense_popup_resnet18"
    c.method = "dense"
    c.data.name = "cifar10"
    c.model.name, c.model.affine = "resnet18", False
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.0,)
    c.weight_decay = (5e-4,)
    c.batch_size = 256
    c.schedule.per = "epoch"
    return c
