"""Control: masks that another run found, trained from fresh random weights, ResNet-18 on CIFAR-10, five seeds.

    python -m cards_jax.main --config=configs/ticket_reinit_resnet18.py --config.data.dir=FOLDER_OF_THE_ARCHIVE

The pattern stays, the draw of the weights is another (a branch of open_lth). The run that found the masks is named on
the command line, with the same seeds and sparsities: --config.ticket.source=FOLDER. Recipe of
configs/lrr_resnet18.py.
"""

from cards_jax.config import defaults


def get_config():
    c = defaults()
    c.name = "ticket_reinit_resnet18"
    c.method, c.scope = "ticket", "global"
    c.ticket.weights = "fresh"
    c.data.name = "cifar10"
    c.model.name, c.model.gamma = "resnet18", "uniform"
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.79,)
    c.epochs = 160
    c.schedule.kind = "step"
    return c
