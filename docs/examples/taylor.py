"""A method, a network, an augmentation and a corruption that live outside of the package, on the embedded digits.

python -m cards_jax.main --config=docs/examples/taylor.py
"""

from pathlib import Path

from cards_jax import augment, corruptions, methods, models
from cards_jax.config import defaults

for package in (methods, models, augment, corruptions):  # each of them now has a second folder
    folder = str(Path(__file__).parent / package.__name__.rpartition(".")[2])
    if folder not in package.__path__:
        package.__path__.append(folder)


def get_config():
    c = defaults()
    c.name = "taylor"
    c.method = "taylor"
    c.model.name = "lenet"
    c.augment = "negative"
    c.negative.p = 0.3
    c.seeds = (0, 1)
    c.sparsity = (0.5, 0.8)
    c.learning_rate = (0.05,)
    c.batch_size = 64
    c.epochs = 10
    c.data.image_size = 16
    c.evaluate.corruptions = ("stripes",)
    return c
