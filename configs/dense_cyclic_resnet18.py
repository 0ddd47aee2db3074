"""Control: the training cycles of LRR without its pruning, ResNet-18 on CIFAR-10, five seeds.

    python -m cards_jax.main --config=configs/dense_cyclic_resnet18.py:7 --config.data.dir=FOLDER_OF_THE_ARCHIVE

As many cycles of the learning rate after the first as LRR needs levels; :7 is the number for 79.0%, 13 for 94.5%.
What LRR gains over this is due to pruning, what both gain over dense is due to longer training.
"""

from cards_jax.config import defaults


def get_config(levels="7"):
    c = defaults()
    c.name = f"dense_cyclic_resnet18_{levels}"
    c.method = "dense_cyclic"
    c.pruning.cycles = int(levels)
    c.data.name = "cifar10"
    c.model.name, c.model.gamma = "resnet18", "uniform"
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.0,)
    c.epochs = 160
    c.schedule.kind = "step"
    return c
