"""Corruptions of any test set, made on the devices while they are asked for; nothing is written."""

from collections.abc import Sequence
from functools import partial

import jax
import numpy as np

from cards_jax import corruptions
from cards_jax.config import ConfigError
from cards_jax.corruptions import bar, dataset
from cards_jax.corruptions.program import check_images
from cards_jax.data.corrupted import Clean, Source, digest, in_words


def source(clean: Clean, names: Sequence[str], count: int, seed: int) -> Source:
    """The first `count` images of a test set, corrupted: those that `corruptions.make` writes with this seed."""
    images, labels = clean.images[:count], clean.labels[:count]
    try:
        check_images(images)
    except ValueError as error:
        raise ConfigError(f"evaluate.corruptions: {error}") from None
    side, largest = max(images.shape[1:3]), bar.LARGEST_TURNED
    if bar.TURNED in names and side > largest:
        raise ConfigError(
            f"evaluate.corruptions: {bar.TURNED} of images of {side} pixels a side; allowed are up to {largest}"
        )
    flavours = corruptions.flavours(images.shape[1]) | {"seed": str(seed)}
    flavours = {k: v for k, v in flavours.items() if k in names or k == "seed"}
    everything = corruptions.flavours(images.shape[1])
    return Source(
        name=in_words(clean.title, flavours),
        kind="generated",
        identity=digest("generated", seed, everything, images, labels),
        names=tuple(names),
        labels=labels.astype(np.int32),
        image_HWC=images.shape[1:],
        read=partial(_made, images, seed),
        flavours=flavours,
    )


def _made(images: np.ndarray, seed: int, name: str, first: int, count: int) -> np.ndarray:
    piece, key = images[first : first + count], jax.random.key(seed)
    return np.stack(
        [
            dataset.spread(dataset.key_of(key, name, s), piece, name, s, first)
            for s in corruptions.SEVERITIES
        ]
    )
