"""Reading and writing pixels: truncation to bytes, borders, bilinear sampling."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

# In even areas matrix products fall short of a whole number by a rounding that depends on how many images
# are multiplied at once; what is added before the result is cut off makes it the same for any number.
TIE = 1e-4


def floats(image: Array) -> Array:
    """Bytes as float32 from 0 to 255."""
    return image.astype(jnp.float32)


def truncated(values: Array) -> Array:
    """Values from 0 to 255 as bytes, cut off and not rounded, as the published data are."""
    return jnp.clip(values, 0, 255).astype(jnp.uint8)


def reflect_101(index: Array, size: int) -> Array:
    """Fold an index at the centres of the border pixels: -1 becomes 1."""
    index = jnp.abs(index) % (2 * size - 2)
    return jnp.minimum(index, 2 * size - 2 - index)


def symmetric(index: Array, size: int) -> Array:
    """Fold an index at the outer edges of the border pixels: -1 becomes 0."""
    index = index % (2 * size)
    return jnp.minimum(index, 2 * size - 1 - index)


def bilinear(image: Array, y: Array, x: Array, fold: Callable[[Array, int], Array]) -> Array:
    """Values (H, W, C) of a float image at float positions y, x (H, W); `fold` answers beyond the border."""
    corner = lambda row, column: pick(
        image, fold(row, image.shape[0]), fold(column, image.shape[1])
    )
    return _mixed(corner, y, x)


def bilinear_on_black(image: Array, y: Array, x: Array) -> Array:
    """Values (H, W, C) of a float image at float positions y, x (H, W); black beyond the border."""
    height, width = image.shape[:2]

    def corner(row, column):
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        value = pick(image, jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1))
        return jnp.where(inside[..., None], value, 0)

    return _mixed(corner, y, x)


def pick(image: Array, row: Array, column: Array) -> Array:
    """Pixels (..., C) of an image (H, W, C) at integer positions within it."""
    flat = image.reshape(-1, image.shape[-1])
    return flat.at[row * image.shape[1] + column].get(mode="promise_in_bounds")


def grid(size: int) -> tuple[Array, Array]:
    """Row and column (size, size) of every pixel, float32."""
    line = jnp.arange(size, dtype=jnp.float32)
    y, x = jnp.meshgrid(line, line, indexing="ij")
    return y, x


def _mixed(corner: Callable[[Array, Array], Array], y: Array, x: Array) -> Array:
    top, left = jnp.floor(y), jnp.floor(x)
    down, right = (y - top)[..., None], (x - left)[..., None]
    row, column = top.astype(jnp.int32), left.astype(jnp.int32)
    above = corner(row, column) * (1 - right) + corner(row, column + 1) * right
    below = corner(row + 1, column) * (1 - right) + corner(row + 1, column + 1) * right
    return above * (1 - down) + below * down
