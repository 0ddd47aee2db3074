"""Operations of Pillow on one uint8 image (H, W, C), grey level by grey level."""

import jax.numpy as jnp
from jax import Array

from cards_jax.augment import _bilinear


def autocontrast(image_HWC: Array) -> Array:
    """Each channel stretched to the full range, truncated; a flat one stays as it is."""
    x = image_HWC.astype(jnp.float32)
    low, high = x.min((0, 1), keepdims=True), x.max((0, 1), keepdims=True)
    stretched = jnp.floor((x - low) * 255 / jnp.maximum(high - low, 1))
    return jnp.where(high > low, stretched, x).astype(jnp.uint8)


def equalize(image_HWC: Array) -> Array:
    """Each channel's histogram flattened: a level becomes the number of pixels below it, in steps.

    A step is a 255th of the pixels below the highest level; a channel with fewer than 255 of these stays as it is.
    """
    channel = jnp.arange(image_HWC.shape[-1])[None, None]
    counts_GC = jnp.zeros((256, channel.size)).at[image_HWC, channel].add(1)
    below_GC = jnp.cumsum(counts_GC, 0) - counts_GC
    highest = image_HWC.max((0, 1)).astype(jnp.int32)
    step = jnp.floor(jnp.take_along_axis(below_GC, highest[None], 0) / 255)
    table_GC = jnp.floor((jnp.floor(step / 2) + below_GC) / jnp.maximum(step, 1))
    table_GC = jnp.where(step > 0, jnp.minimum(table_GC, 255), jnp.arange(256.0)[:, None])
    return table_GC.astype(jnp.uint8)[image_HWC, channel]


def posterize(image_HWC: Array, bits: Array | int) -> Array:
    """The highest `bits` of every value, 1 to 8; the others are zero."""
    return image_HWC & jnp.left_shift(0xFF, 8 - bits).astype(jnp.uint8)


def solarize(image_HWC: Array, threshold: Array | int) -> Array:
    """Values from `threshold` on become their negative."""
    return jnp.where(image_HWC < threshold, image_HWC, 255 - image_HWC)


def affine(image_HWC: Array, matrix: Array) -> Array:
    """The image under the inverse map `matrix` (2, 3): output (x, y, 1) to input (x, y), centres of pixels at a half.

    Bilinear between the pixels around, the rim continued by half a pixel, black outside, truncated.
    """
    H, W, _ = image_HWC.shape
    y, x = jnp.mgrid[:H, :W] + 0.5
    (a, b, c), (d, e, f) = matrix
    x, y = a * x + b * y + c, d * x + e * y + f
    inside = (x >= 0) & (x < W) & (y >= 0) & (y < H)
    value = _bilinear.sample(image_HWC, y - 0.5, x - 0.5)
    return jnp.where(inside[..., None], value, 0).astype(jnp.uint8)


def rotation(degrees: Array | float, H: int, W: int) -> Array:
    """The matrix for `affine` that turns counter-clockwise about the centre."""
    angle = jnp.deg2rad(jnp.float32(degrees))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x, y = W / 2, H / 2
    return jnp.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]])
