"""Control: a small dense network that takes no more bytes than a card, on CIFAR-10, five seeds.

    python -m cards_jax.main --config=configs/small_dense.py:resnet18,0.95,1 --config.data.dir=FOLDER_OF_THE_ARCHIVE
    python -m cards_jax.main --config=configs/small_dense.py:CARD.card --config.data.dir=FOLDER_OF_THE_ARCHIVE

Pruning is one way to be small, being narrow is another. The argument is a card by its model, sparsity and bits for
each kept weight (32; 1 of a binary one; 0 where a key draws the signs again), or a card file, whose data and length of
training then hold here too. The width is the largest at which weights, biases and BatchNorm in float32 take at most
what the card takes with its mask, gains and BatchNorm. Dense recipe of the public biprop code, as in
configs/dense_resnet18.py. No published number is known for it: unverified.
"""

from cards_jax import config, equal_bytes


def get_config(like="resnet18,0.95,1"):
    c = config.defaults()
    c.method = "dense"
    c.data.name = "cifar10"
    c.weight_decay = (5e-4,)
    c.batch_size = 256
    c.schedule.per = "epoch"
    model, width, fields = equal_bytes.network(like)
    for field, value in fields.items():
        config.assign(c, field, tuple(value) if isinstance(value, list) else value)
    c.model.name, c.model.width = model, width
    c.name = f"small_dense_{model}_{width}"
    c.seeds = (0, 1, 2, 3, 4)
    c.sparsity = (0.0,)
    c.learning_rate = (0.01,) if model.startswith("conv") else (0.1,)
    return c
