"""Weather: snow, frost, fog, brightness, spatter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cards_jax.corruptions import edges, frost, matrices, streak
from cards_jax.corruptions.pixels import floats, truncated
from cards_jax.corruptions.severity import at, constant, rows
from cards_jax.draws import shaped

SNOW = {  # mean and spread of the flakes, their enlargement, threshold, radius and sigma of their fall, image weight
    32: (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    64: (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
    ),
    224: (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
}
FROST = {  # weight of the image, weight of the frost
    32: ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    64: ((1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)),
    224: ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
}
FOG = {  # amount, decay of its roughness from one scale to the next
    32: ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
    64: ((0.4, 3.0), (0.7, 3.0), (1.0, 2.5), (1.5, 2.0), (2.0, 1.75)),
    224: ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
}
BRIGHTNESS = {
    32: (0.05, 0.1, 0.15, 0.2, 0.3),
    64: (0.1, 0.2, 0.3, 0.4, 0.5),
    224: (0.1, 0.2, 0.3, 0.4, 0.5),
}
SPATTER = {  # mean and spread of the liquid, its smoothing, threshold, strength (of mud: smoothing), mud or water
    32: (
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    64: (
        (0.62, 0.1, 0.7, 0.7, 0.6, 0),
        (0.65, 0.1, 0.8, 0.7, 0.6, 0),
        (0.65, 0.3, 1, 0.69, 0.6, 0),
        (0.65, 0.1, 0.7, 0.68, 0.6, 1),
        (0.65, 0.1, 0.5, 0.67, 0.6, 1),
    ),
    224: (
        (0.65, 0.3, 4, 0.69, 0.6, 0),
        (0.65, 0.3, 3, 0.68, 0.6, 0),
        (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1.5, 1),
        (0.67, 0.4, 1, 0.65, 1.5, 1),
    ),
}
GREY = (0.299, 0.587, 0.114)
WATER = (175, 238, 238)
MUD = (63, 42, 20)
RIPPLE = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))  # shades the water as if lit from one corner


def draw_snow(key: Array, severity: int | Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """(standard normal values (H, W), angle in degrees)."""
    del severity
    flakes, fall = jax.random.split(key)
    angle = jax.random.uniform(fall, minval=-135.0, maxval=-45.0)
    return shaped(jax.random.normal, flakes, shape[:2]), angle


def apply_snow(image: Array, severity: int | Array, draws: tuple[Array, Array]) -> Array:
    """The image whitened, under flakes that fall in one direction."""
    table = rows(SNOW, len(image))
    values, angle = draws
    mean, spread, _, threshold, _, _, weight = at(table, severity)
    zoom = at(matrices.zooms(tuple(row[2] for row in table), len(image)), severity)
    layer = matrices.both_sides(zoom, (mean + spread * values)[..., None])
    flakes = truncated(255 * jnp.where(layer < threshold, 0, layer))
    falling = floats(streak.streaked(flakes, severity, angle, tuple(row[4:6] for row in table)))
    clean = floats(image)
    grey = jnp.sum(clean * jnp.array(GREY).reshape(1, 1, 3), -1, keepdims=True)
    white = weight * clean + (1 - weight) * jnp.maximum(clean, grey * 1.5 + 127.5)
    return truncated(white + falling + falling[::-1, ::-1])


def draw_frost(key: Array, severity: int | Array, shape: tuple[int, ...]) -> Array:
    """A piece, uint8 (H, W, 3), of one of five textures (frost.py says where they are from)."""
    del severity
    textures = frost.textures(shape[0])
    which, top, left = jax.random.split(key, 3)
    number = jax.random.randint(which, (), 0, len(textures.extents))
    height, width = jnp.asarray(textures.extents)[number]
    row = jax.random.randint(top, (), 0, height - shape[0])
    column = jax.random.randint(left, (), 0, width - shape[1])
    piece = (1, *shape[:2], 3)
    return lax.dynamic_slice(jnp.asarray(textures.pixels), (number, row, column, 0), piece)[0]


def apply_frost(image: Array, severity: int | Array, draws: Array) -> Array:
    """A weighted sum of the image and a piece of texture."""
    table = at(_frost_tables(rows(FROST, len(image))), severity)
    where = (image.astype(jnp.int32) << 8) | draws.astype(jnp.int32)
    return table.at[where].get(mode="promise_in_bounds")


@functools.cache
def _frost_tables(weights: tuple[tuple[float, float], ...]) -> np.ndarray:
    """The result, uint8 (5, 256 * 256), for every value of image and texture: double precision decides ties."""
    byte = np.arange(256)
    sums = [a * byte[:, None] + b * byte for a, b in weights]
    return np.clip(sums, 0, 255).astype(np.uint8).reshape(len(weights), -1)


def draw_fog(key: Array, severity: int | Array, shape: tuple[int, ...]) -> list[Array]:
    """Uniform values in (-1, 1), (3, n, n) for n = 1, 2, 4, ... below the side."""
    del severity
    sides = [1 << scale for scale in range((shape[0] - 1).bit_length())]
    ends = np.cumsum([3 * side**2 for side in sides])
    pieces = jnp.split(jax.random.uniform(key, (ends[-1],), minval=-1.0, maxval=1.0), ends[:-1])
    return [piece.reshape(3, side, side) for piece, side in zip(pieces, sides, strict=True)]


def apply_fog(image: Array, severity: int | Array, draws: list[Array]) -> Array:
    """A cloud is added, and the sum dimmed to the image's own brightest value."""
    amount, decay = constant(FOG, len(image), severity)
    cloud = 255 * amount * _cloud(draws, decay)[: image.shape[0], : image.shape[1], None]
    brightest = jnp.max(floats(image))
    return truncated((floats(image) + cloud) * brightest / (brightest + 255 * amount))


def _cloud(draws: list[Array], decay: Array) -> Array:
    """Heights from 0 to 1 by the diamond-square algorithm on a torus.

    A grid is refined until it is fine enough: first the centres of its squares, then the middles of their
    sides, each the mean of its four neighbours and noise, which decays by decay^2 with every scale.
    """
    corners = jnp.zeros((1, 1))
    for scale, noise in enumerate(draws):
        corners = _refined(corners, noise / decay ** (2 * scale))
    corners -= jnp.min(corners)
    return corners / jnp.max(corners)


def _refined(corners: Array, noise: Array) -> Array:
    down = lambda grid: jnp.roll(grid, -1, 0)
    right = lambda grid: jnp.roll(grid, -1, 1)
    pairs = corners + down(corners)
    centres = (pairs + right(pairs)) / 4 + noise[0]
    across = (corners + right(corners) + centres + jnp.roll(centres, 1, 0)) / 4 + noise[1]
    along = (corners + down(corners) + centres + jnp.roll(centres, 1, 1)) / 4 + noise[2]
    whole = jnp.stack([jnp.stack([corners, across], -1), jnp.stack([along, centres], -1)], 1)
    return whole.reshape(2 * len(corners), 2 * len(corners))


def apply_brightness(image: Array, severity: int | Array) -> Array:
    """V of HSV raised, which scales the three channels alike; black becomes grey."""
    table = _brightened(rows(BRIGHTNESS, len(image)))
    light = jnp.max(image, -1, keepdims=True)
    raised = at(table, severity)[light.astype(jnp.int32)]
    whole = at(np.floor(table), severity)[light.astype(jnp.int32)]  # cut off in double precision
    scaled = floats(image) * (raised / jnp.maximum(floats(light), 1))
    return truncated(jnp.where(image == light, whole, scaled))


@functools.cache
def _brightened(amounts: tuple[float, ...]) -> np.ndarray:
    """255 V' (5, 256) for every V, in double precision."""
    return np.clip(np.arange(256) / 255 + np.array(amounts)[:, None], 0, 1) * 255


def draw_spatter(key: Array, severity: int | Array, shape: tuple[int, ...]) -> Array:
    """Standard normal values (H, W)."""
    del severity
    return shaped(jax.random.normal, key, shape[:2])


def apply_spatter(image: Array, severity: int | Array, draws: Array) -> Array:
    """Drops of water (severities 1 to 3) or splashes of mud (4 and 5) on the lens."""
    size, table = len(image), rows(SPATTER, len(image))
    mean, spread, _, threshold, strength, is_mud = at(table, severity)
    smooth = at(matrices.gaussians(tuple(row[2] for row in table), size), severity)
    layer = matrices.both_sides(smooth, (mean + spread * draws)[..., None])[..., 0]
    layer = jnp.where(layer < threshold, 0, layer)
    # Smoothing of mud has its strength for a sigma; that of water is never asked for.
    smear = at(matrices.gaussians(tuple(row[4] for row in table), size), severity)
    mud = lambda: _with_mud(image, layer > threshold, smear)
    return lax.cond(is_mud > 0, mud, lambda: _with_water(image, layer, strength))


def _with_water(image: Array, layer: Array, strength: Array) -> Array:
    liquid = (255 * layer).astype(jnp.int32) & 0xFF  # above 255 the original wraps around
    depth = edges.distance(edges.canny(liquid, 50, 150))
    depth = edges.sum_3x3(depth) // (9 * edges.UNIT)  # the mean, cut off
    shade = edges.filtered_3x3(edges.equalized(depth, edges.REACH), RIPPLE)
    shade = (2 * edges.sum_3x3(shade) + 9) // 18  # the mean, rounded
    light = (liquid * shade).astype(jnp.float32)
    light = light / jnp.maximum(jnp.max(light), 1) * strength
    water = jnp.array(WATER, jnp.float32).reshape(1, 1, 3)
    return truncated(floats(image) + light[..., None] * water)


def _with_mud(image: Array, splashes: Array, smear: Array) -> Array:
    cover = matrices.both_sides(smear, splashes.astype(jnp.float32)[..., None])
    cover = jnp.where(cover < 0.8, 0, cover)
    return truncated(
        floats(image) * (1 - cover) + cover * jnp.array(MUD, jnp.float32).reshape(1, 1, 3)
    )
