"""No augmentation."""

from jax import Array


def views(key: Array, image_HWC: Array) -> Array:
    """The image itself, (1, H, W, C)."""
    del key
    return image_HWC[None]
