"""Antialiased lines in closed form: what A. Zingl's rasterising algorithm (2012) draws step by step."""

import jax.numpy as jnp
from jax import Array


def cover(start: Array, end: Array, size: int) -> Array:
    """How far a line covers each pixel, 0 to 1, float32 (size, size); start and end are int32 (2,) of (row, column).

    The algorithm goes along the longer side one pixel at a time. In every step it draws the pixel nearest to
    the line, the next one in the direction of the slope, and on changing over also the last one of before.
    """
    row, column = jnp.arange(size)[:, None], jnp.arange(size)[None, :]
    extent = end - start
    down = (row - start[0]) * jnp.where(extent[0] > 0, 1, -1)
    right = (column - start[1]) * jnp.where(extent[1] > 0, 1, -1)
    tall, wide = jnp.abs(extent)
    steep = tall > wide
    along, aside = jnp.where(steep, down, right), jnp.where(steep, right, down)
    return _cover(along, aside, jnp.maximum(tall, wide), jnp.minimum(tall, wide))


def _cover(along: Array, aside: Array, long: Array, short: Array) -> Array:
    length = jnp.sqrt((long**2 + short**2).astype(jnp.float32))
    nearest = lambda step: (2 * step + 1) * short // jnp.maximum(2 * long, 1)
    here, before = nearest(along), nearest(along - 1)
    distance = jnp.abs(aside * long - along * short) / jnp.maximum(length, 1)
    ahead = (aside == here + 1) & (along < long)
    left = (aside == before) & (here == before + 1) & (along > 0)
    drawn = (aside == here) | ((ahead | left) & (distance < 1))
    return jnp.where(drawn & (along >= 0) & (along <= long), 1 - distance, 0)
