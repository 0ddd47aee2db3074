"""Corruptions of many images in one compiled program."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cards_jax.config import ConfigError
from cards_jax.corruptions import frost
from cards_jax.corruptions.catalog import find
from cards_jax.corruptions.severity import SEVERITIES

# Images at a time: on a CPU what its caches hold is up to twice as fast.
PIECE = {"cpu": 128, "other": 4096}


def corrupt(
    key: Array, images: Array, name: str, severity: int | Array, first: int | Array = 0
) -> Array:
    """Images uint8 (N, H, H, 3) corrupted at a severity from 1 to 5, which may be traced: uint8 of that shape.

    Image i draws from fold_in(key, first + i): with `first`, pieces of a set give what the whole gives; of corruptions
    that are large matrix products (circular_motion_blur), whose rounding may depend on the number of images, all but
    1 in 1,000 values, and those by 1. One compilation serves all severities. Raises ConfigError for a name or severity
    that does not exist, and ValueError for images of another kind.
    """
    find(name)
    check_severity(severity)
    check_images(images)
    return _corrupted(key, images, severity, first, name, frost.chosen())


@functools.partial(jax.jit, static_argnames=("name", "textures"))
def _corrupted(
    key: Array, images: Array, severity: Array, first: Array, name: str, textures: str | None
) -> Array:
    del textures  # what frost takes while it is traced
    corruption = find(name)
    each = jax.vmap(lambda i, image: corruption(jax.random.fold_in(key, i), image, severity))
    pieces = -(-len(images) // PIECE.get(jax.default_backend(), PIECE["other"]))
    size = -(-len(images) // pieces)
    number = first + jnp.arange(pieces * size).reshape(pieces, size)
    padded = jnp.pad(images, ((0, pieces * size - len(images)), (0, 0), (0, 0), (0, 0)))
    split = padded.reshape(pieces, size, *images.shape[1:])
    made = jax.lax.map(lambda piece: each(*piece), (number, split))
    return made.reshape(padded.shape)[: len(images)]


def flavours(size: int = 32) -> dict[str, str]:
    """What differs between the ways in which such data have been made, in words that belong beside results."""
    return {
        "frost": f"textures: {frost.flavour(size)}",
        "elastic_transform": "positions not rounded (OpenCV 5, SciPy 1.17)",
        "jpeg_compression": "libjpeg-turbo",
    }


def check_severity(severity: int | Array) -> None:
    """Raise ConfigError unless a severity is traced or a whole number from 1 to 5."""
    if isinstance(severity, jax.core.Tracer):
        return
    try:
        known = operator.index(severity) in SEVERITIES
    except TypeError:
        known = False
    if not known:
        raise ConfigError(
            f"severity: got {severity!r}; allowed are {', '.join(map(str, SEVERITIES))}"
        )


def check_images(images: Array) -> None:
    """Raise ValueError unless images are uint8 (N, H, H, 3)."""
    shape, dtype = np.shape(images), getattr(images, "dtype", None)
    square = len(shape) == 4 and shape[0] and shape[1] == shape[2] >= 8 and shape[3] == 3
    if not square or dtype != jnp.uint8:
        raise ValueError(
            f"images: got {dtype} {shape}; allowed are uint8 (N, H, H, 3) with H of 8 or more"
        )
