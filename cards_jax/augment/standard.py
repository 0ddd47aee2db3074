"""Random crop after padding with 4 black pixels, and a random horizontal flip."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array, lax

PADDING = 4


def crop(key: Array, image_HWC: Array) -> Array:
    """A window of the image's own size, shifted by up to 4 pixels; black outside (padded before normalising)."""
    padded = jnp.pad(image_HWC, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    y, x = jax.random.randint(key, (2,), 0, 2 * PADDING + 1)
    return lax.dynamic_slice(padded, (y, x, 0), image_HWC.shape)


def flip(key: Array, image_HWC: Array) -> Array:
    """Left and right exchanged with probability one half."""
    return jnp.where(jax.random.bernoulli(key), image_HWC[:, ::-1], image_HWC)


@dataclasses.dataclass(frozen=True)
class Views:
    """One view, (1, H, W, C): flipped, then cropped."""

    def __call__(self, key: Array, image_HWC: Array) -> Array:
        key_flip, key_crop = jax.random.split(key)
        return crop(key_crop, flip(key_flip, image_HWC))[None]
