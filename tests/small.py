"""Small configs and data on which whole trainings take seconds."""

import numpy as np

from cards_jax import config, realizations, validation
from cards_jax.data import Data
from cards_jax.trainer import Trainer


def data(train: int = 96, test: int = 40, side: int = 8, classes: int = 4) -> Data:
    """Noise with a bright square whose quadrant tells the class."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (train + test, side, side, 3), dtype=np.uint8)
    labels = rng.integers(0, classes, train + test).astype(np.int32)
    half = side // 2
    for image, label in zip(images, labels, strict=True):
        row, column = half * (label // 2), half * (label % 2)
        image[row : row + half, column : column + half] += 120
    return Data(
        train_images=images[:train],
        train_labels=labels[:train],
        test_images=images[train:],
        test_labels=labels[train:],
        holdout_images=images[:0],
        holdout_labels=labels[:0],
        holdout_hash=None,
        classes=tuple("abcd"[:classes]),
        mean=(0.3, 0.3, 0.3),
        std=(0.25, 0.25, 0.25),
        fingerprint="small",
    )


def tiny(**changes):
    """A validated config: Conv2 of width 4, batches of 16; changes by dotted field with __ for the dot."""
    c = config.defaults()
    c.model.name, c.model.width = "conv2", 4
    c.batch_size, c.epochs = 16, 4
    c.evaluate.batch_size = 16
    for field, value in changes.items():
        config.assign(c, field.replace("__", "."), value)
    return validation.validate(c)


def trainer(c, devices: int = 1, split: int = 0, points=None):
    """(trainer, group, state after entering the first phase) on so many devices."""
    points = points or config.points(c)
    layout = realizations.layout(len(points), split, c.batch_size, devices)
    t = Trainer(c, data(), layout)
    group = t.group(points)
    return t, group, t.enter(t.deal(group), group, 0)
