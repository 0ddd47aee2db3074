"""Digital: contrast, elastic_transform, pixelate, jpeg_compression, saturate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cards_jax.corruptions import jpeg, matrices
from cards_jax.corruptions.pixels import bilinear, floats, grid, reflect_101, symmetric, truncated
from cards_jax.corruptions.severity import at, constant, rows
from cards_jax.draws import shaped

CONTRAST = {
    32: (0.75, 0.5, 0.4, 0.3, 0.15),
    64: (0.4, 0.3, 0.2, 0.1, 0.05),
    224: (0.4, 0.3, 0.2, 0.1, 0.05),
}
ELASTIC = {  # amplitude and smoothness of the field, reach of the affine map, in sides of the image
    32: ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    64: ((0, 0, 0.08), (0.05, 0.3, 0.06), (0.1, 0.08, 0.06), (0.1, 0.03, 0.03), (0.16, 0.03, 0.02)),
    224: tuple(
        tuple(part * 244 / 224 for part in row)  # the published constants are for a side of 244
        for row in (
            (2, 0.7, 0.1),
            (2, 0.08, 0.2),
            (0.05, 0.01, 0.02),
            (0.07, 0.01, 0.02),
            (0.12, 0.01, 0.02),
        )
    ),
}
PIXELATE = {
    32: (0.95, 0.9, 0.85, 0.75, 0.65),
    64: (0.9, 0.8, 0.7, 0.6, 0.5),
    224: (0.6, 0.5, 0.4, 0.3, 0.25),
}
JPEG_QUALITY = {32: (80, 65, 58, 50, 40), 64: (65, 58, 50, 40, 25), 224: (25, 18, 15, 10, 7)}
SATURATE = {  # factor and offset of S
    32: ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    64: ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
    224: ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
}


def apply_contrast(image: Array, severity: int | Array) -> Array:
    """Every channel drawn towards its mean."""
    factor = constant(CONTRAST, len(image), severity)
    mean = jnp.mean(floats(image), (0, 1), keepdims=True)
    return truncated((floats(image) - mean) * factor + mean)


def apply_saturate(image: Array, severity: int | Array) -> Array:
    """S of HSV scaled and raised; greys, whose hue is red by convention, become reddish."""
    factor, offset = constant(SATURATE, len(image), severity)
    values = floats(image)
    light = jnp.max(values, -1, keepdims=True)
    spread = light - jnp.min(values, -1, keepdims=True)
    colour = spread > 0
    # (S factor + offset) / S, at most 1 / S, where S = spread / light
    inverse = light / jnp.where(colour, spread, 1)
    coloured = light - (light - values) * jnp.minimum(factor + offset * inverse, inverse)
    red = jnp.arange(3).reshape(1, 1, 3) == 0
    grey = jnp.where(red, light, light * (1 - offset))
    return truncated(jnp.where(colour, coloured, grey))


def apply_jpeg_compression(image: Array, severity: int | Array) -> Array:
    """Compressed by libjpeg-turbo."""
    return jpeg.compressed(image, at(jpeg.steps(rows(JPEG_QUALITY, len(image))), severity))


def apply_pixelate(image: Array, severity: int | Array) -> Array:
    """Shrunk by averages over boxes and enlarged by repetition, in the fixed-point arithmetic of Pillow."""
    sources, weights = _boxes(rows(PIXELATE, len(image)), len(image))
    source, weight = at(sources, severity), at(weights, severity)
    across = _boxed(image.astype(jnp.int32).swapaxes(0, 1), source, weight).swapaxes(0, 1)
    return _boxed(across, source, weight).astype(jnp.uint8)


def _boxed(lines: Array, source: Array, weight: Array) -> Array:
    """Weighted sums, rounded to bytes, of lines (H, ...) at source (H, T)."""
    taps = range(source.shape[1])
    total = sum(weight[:, t, None, None] * lines[source[:, t]] for t in taps)
    return jnp.clip((total + (1 << 21)) >> 22, 0, 255)


@functools.cache
def _boxes(scales: tuple[float, ...], size: int) -> tuple[np.ndarray, np.ndarray]:
    """For every severity and pixel of the result: its source pixels and 22-bit weights, int32 (5, size, T)."""
    boxes = [_box(size, int(size * scale)) for scale in scales]
    most = max(len(line) for box in boxes for line in box)
    table = np.zeros((2, len(scales), size, most), np.int32)
    for number, box in enumerate(boxes):
        for pixel in range(size):
            line = box[int((pixel + 0.5) * len(box) / size)]
            table[0, number, pixel, : len(line)] = line
            table[1, number, pixel, : len(line)] = int(0.5 + (1 << 22) / len(line))
    return table[0], table[1]


def _box(size: int, small: int) -> list[np.ndarray]:
    """The pixels of `size` whose centres lie in each of `small` equal parts, rounded as Pillow does."""
    scale = size / small
    boxes = []
    for middle in (np.arange(small) + 0.5) * scale:
        near = np.arange(int(middle - scale / 2 + 0.5), min(int(middle + scale / 2 + 0.5), size))
        away = (near - middle + 0.5) * (1 / scale)
        boxes.append(near[(-0.5 < away) & (away <= 0.5)])
    return boxes


def draw_elastic_transform(
    key: Array, severity: int | Array, shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """(shifts of three points in pixels (3, 2) as (x, y), uniform field in (-1, 1) of (dx, dy), (2, H, W))."""
    affine, field = jax.random.split(key)
    reach = constant(ELASTIC, shape[0], severity)[2] * shape[0]
    points = shaped(jax.random.uniform, affine, (3, 2), minval=-1.0, maxval=1.0) * reach
    return points, shaped(jax.random.uniform, field, (2, *shape[:2]), minval=-1.0, maxval=1.0)


def apply_elastic_transform(
    image: Array, severity: int | Array, draws: tuple[Array, Array]
) -> Array:
    """A random affine map, then displacement by a smooth random field; sampled bilinearly without rounding.

    This is what current OpenCV and SciPy give. The versions that made the published data rounded
    positions to 1/32 pixel, and mirrored differently at the border.
    """
    size, table = len(image), rows(ELASTIC, len(image))
    points, field = draws
    y, x = grid(size)
    moved = bilinear(floats(image), *_affine(points, size), reflect_101)
    sigmas = tuple(row[1] * size for row in table)
    smooth = at(matrices.gaussians(sigmas, size, truncate=3.0, border="symmetric"), severity)
    amplitude = at(table, severity)[0] * size
    shift = matrices.both_sides(smooth, jnp.moveaxis(field, 0, -1)) * amplitude
    return truncated(bilinear(moved, y + shift[..., 1], x + shift[..., 0], symmetric))


def _affine(shifts: Array, size: int) -> tuple[Array, Array]:
    """Row and column that each pixel comes from under the affine map that takes three points to their places."""
    middle, reach = size // 2, size // 3
    high, low = float(middle + reach), float(middle - reach)
    end = jnp.array([[high, high], [high, low], [low, low]]) + shifts
    # Sides of the triangle, as (x, y). The map back takes the first to (0, 2 reach), the second to (2 reach, 0).
    (a, c), (b, d) = end[0] - end[1], end[1] - end[2]
    scale = 2 * reach / (a * d - b * c)
    y, x = grid(size)
    right, down = x - end[1, 0], y - end[1, 1]
    return low + scale * (d * right - b * down), high + scale * (a * down - c * right)
