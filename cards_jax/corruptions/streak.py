"""Motion blur as ImageMagick does it: one-sided Gaussian taps at whole pixels along a line."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cards_jax.corruptions.pixels import pick
from cards_jax.corruptions.severity import at


@functools.cache
def taps(shapes: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Weights (S, K) of (radius, sigma) pairs, filled up with zeros to the longest."""
    table = np.zeros((len(shapes), max(_width(radius) for radius, _ in shapes)))
    for row, (radius, sigma) in zip(table, shapes, strict=True):
        width = _width(radius)
        row[:width] = np.exp(-(np.arange(width) ** 2) / (2 * sigma**2))
    return table / table.sum(1, keepdims=True)


def streaked(
    image: Array, severity: int | Array, angle: Array, shapes: tuple[tuple[float, float], ...]
) -> Array:
    """Bytes (H, W, C), uint8, smeared along `angle` (degrees) with the (radius, sigma) of a severity."""
    weights = at(taps(shapes), severity)
    count = at([_width(radius) for radius, _ in shapes], severity)
    down, right = jnp.sin(jnp.deg2rad(angle)), jnp.cos(jnp.deg2rad(angle))
    height, width = image.shape[:2]
    row, column = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    whole = lambda offset: jnp.ceil(offset - 0.5).astype(jnp.int32)

    def add(step, total):
        y = jnp.clip(row + whole(step * down), 0, height - 1)
        x = jnp.clip(column + whole(step * right), 0, width - 1)
        return total + weights[step] * pick(source, y, x)

    # ImageMagick sums in 16 bits a value, of which 8 bits are kept in the end.
    source = image.astype(jnp.float32) * 257
    total = lax.fori_loop(0, count, add, jnp.zeros_like(source))
    return ((total + 0.5).astype(jnp.int32) // 257).astype(jnp.uint8)


def _width(radius: float) -> int:
    return 2 * int(np.ceil(radius)) + 1
