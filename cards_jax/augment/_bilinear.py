"""Bilinear sampling of one image between its pixels."""

import jax.numpy as jnp
from jax import Array


def sample(image_HWC: Array, y: Array, x: Array) -> Array:
    """The image at positions of any shape, (..., C) float32; its rim continues outside.

    Integers are the centres of pixels.
    """
    H, W, _ = image_HWC.shape
    top, left = jnp.floor(y), jnp.floor(x)
    rows = [jnp.clip(top.astype(jnp.int32) + i, 0, H - 1) for i in (0, 1)]
    columns = [jnp.clip(left.astype(jnp.int32) + i, 0, W - 1) for i in (0, 1)]
    lower, right = (y - top)[..., None], (x - left)[..., None]

    def row(i: int) -> Array:
        near, far = (image_HWC[rows[i], column].astype(jnp.float32) for column in columns)
        return near + (far - near) * right

    return row(0) + (row(1) - row(0)) * lower
