"""What spatter takes from OpenCV, in its integer arithmetic: Canny edges, distances to them, 8-bit filters."""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cards_jax.corruptions import matrices

UNIT = 1 << 16  # distances have 16 bits after the point
DIAGONAL, KNIGHT = 91750, 143976  # 1.4 and 2.1969 as OpenCV rounds them
REACH = 20
TAN_22 = 13573  # tan(22.5 degrees) with 15 bits after the point


def canny(image: Array, low: int, high: int) -> Array:
    """Edges, bool (H, W), of int32 (H, W): Sobel gradients over 3 pixels, their absolute sum as strength."""
    dy, dx = _sobel(image)
    strength = jnp.abs(dy) + jnp.abs(dx)
    maximal = (strength > low) & _is_ridge(strength, dy, dx)
    grown = lambda edges: maximal & _near(edges)
    start = maximal & (strength > high)
    return lax.while_loop(
        lambda state: jnp.any(state[0] != state[1]),
        lambda state: (state[1], grown(state[1])),
        (start, grown(start)),
    )[1]


def _sobel(image: Array) -> tuple[Array, Array]:
    padded = jnp.pad(image, 1, mode="edge")
    at = lambda y, x: _window(padded, 1, y, x)
    dx = at(-1, 1) + 2 * at(0, 1) + at(1, 1) - at(-1, -1) - 2 * at(0, -1) - at(1, -1)
    dy = at(1, -1) + 2 * at(1, 0) + at(1, 1) - at(-1, -1) - 2 * at(-1, 0) - at(-1, 1)
    return dy, dx


def _is_ridge(strength: Array, dy: Array, dx: Array) -> Array:
    """Whether no neighbour across the edge is stronger; of equal ones along a row or column the first stays."""
    padded = jnp.pad(strength, 1)
    at = lambda y, x: _window(padded, 1, y, x)
    across = jnp.abs(dx) * TAN_22
    steep = jnp.abs(dy) << 15
    beside = (strength > at(0, -1)) & (strength >= at(0, 1))
    above = (strength > at(-1, 0)) & (strength >= at(1, 0))
    falling = (strength > at(-1, -1)) & (strength > at(1, 1))
    rising = (strength > at(-1, 1)) & (strength > at(1, -1))
    diagonal = jnp.where((dx ^ dy) < 0, rising, falling)
    upright = steep > across + (jnp.abs(dx) << 16)
    return jnp.where(steep < across, beside, jnp.where(upright, above, diagonal))


def _near(edges: Array) -> Array:
    """The edges and their eight neighbours."""
    padded = jnp.pad(edges, ((1, 1), (0, 0)))
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    padded = jnp.pad(rows, ((0, 0), (1, 1)))
    return padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]


def distance(edges: Array) -> Array:
    """Chamfer distance to the nearest edge, int32 (H, W) in units of 1 / 65536, at most REACH pixels.

    The distance grows with both offsets, so of every row only the edge nearest in columns can be nearest.
    """
    padded = jnp.pad(edges, ((0, 0), (REACH, REACH)))
    across = jnp.full(edges.shape, REACH)
    for offset in range(-REACH, REACH + 1):
        there = padded[:, REACH + offset : REACH + offset + edges.shape[1]]
        across = jnp.where(there, jnp.minimum(across, abs(offset)), across)
    padded = jnp.pad(across, ((REACH, REACH), (0, 0)), constant_values=REACH)
    nearest = jnp.full(edges.shape, REACH * UNIT)
    for offset in range(-REACH, REACH + 1):
        row = padded[REACH + offset : REACH + offset + len(edges)]
        nearest = jnp.minimum(nearest, _chamfer(row, abs(offset)))
    return nearest


def _chamfer(across: Array, down: int) -> Array:
    """Length of the shortest path of moves by 1 (straight), 1.4 (diagonal) and 2.1969 (a knight's).

    Paths take the two moves nearest in direction, so the length is linear within each of 16 sectors; it is
    convex, so the greatest of these linear functions is right everywhere.
    """
    flat, slanted = KNIGHT - 2 * UNIT, KNIGHT - DIAGONAL
    rest = DIAGONAL - slanted
    first = jnp.maximum(UNIT * across + flat * down, flat * across + UNIT * down)
    second = jnp.maximum(slanted * across + rest * down, rest * across + slanted * down)
    return jnp.maximum(first, second)


def sum_3x3(image: Array) -> Array:
    """Sums over 3x3 pixels of int32 (H, H), mirrored at border pixels; exact below 2^24."""
    size = len(image)
    line = np.pad(np.eye(size, dtype=np.float32), ((1, 1), (0, 0)), mode="reflect")
    three = line[:-2] + line[1:-1] + line[2:]
    return matrices.both_sides(jnp.asarray(three), image[..., None].astype(jnp.float32))[
        ..., 0
    ].astype(jnp.int32)


def equalized(image: Array, most: int) -> Array:
    """Histogram equalisation to 0..255 of int32 (H, W) with values 0..most."""
    levels = jnp.arange(most + 1)
    counts = jnp.sum(image[None] == levels[:, None, None], (1, 2))
    first = jnp.argmax(counts > 0)
    rest = image.size - counts[first]
    scale = 255.0 / jnp.maximum(rest, 1).astype(jnp.float32)
    upto = (jnp.cumsum(counts) - counts[first]).astype(jnp.float32)
    table = jnp.clip(jnp.round(upto * scale), 0, 255).astype(jnp.int32)
    return jnp.where(rest > 0, table[image], image)


def filtered_3x3(image: Array, kernel: tuple[tuple[int, ...], ...]) -> Array:
    """Correlation of int32 (H, W) with a 3x3 kernel, saturated at 0 and 255."""
    padded = jnp.pad(image, 1, mode="reflect")
    weights = np.array(kernel)
    total = sum(int(weights[y, x]) * _window(padded, 1, y - 1, x - 1) for y, x in np.ndindex(3, 3))
    return jnp.clip(total, 0, 255)


def _window(padded: Array, border: int, y: int, x: int) -> Array:
    """The image inside a border, seen y rows lower and x columns farther right."""
    height, width = padded.shape[0] - 2 * border, padded.shape[1] - 2 * border
    return padded[border + y : border + y + height, border + x : border + x + width]
