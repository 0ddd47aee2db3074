"""Random crop alone, for images that a mirror would change into something else (digits, letters)."""

from jax import Array

from cards_jax.augment import standard


def views(key: Array, image_HWC: Array) -> Array:
    """One view, (1, H, W, C), shifted by up to 4 pixels."""
    return standard.crop(key, image_HWC)[None]
