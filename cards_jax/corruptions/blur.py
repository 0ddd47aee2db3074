"""Blur: defocus_blur, glass_blur, motion_blur, zoom_blur, gaussian_blur."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from scipy import ndimage

from cards_jax.corruptions import matrices, streak
from cards_jax.corruptions.pixels import TIE, floats, truncated
from cards_jax.corruptions.severity import SEVERITIES, at, constant, rows
from cards_jax.draws import shaped

GAUSSIAN_SIGMA = {
    32: (0.4, 0.6, 0.7, 0.8, 1.0),
    64: (0.5, 0.75, 1.0, 1.25, 1.5),
    224: (1.0, 2.0, 3.0, 4.0, 6.0),
}
DEFOCUS = {  # radius of the disc, sigma of what smooths its rim
    32: ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
    64: ((0.5, 0.6), (1.0, 0.1), (1.5, 0.1), (2.5, 0.01), (3.0, 0.1)),
    224: ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)),
}
GLASS_SIGMA = {
    32: (0.05, 0.25, 0.4, 0.25, 0.4),
    64: (0.1, 0.5, 0.6, 0.7, 0.9),
    224: (0.7, 0.9, 1.0, 1.1, 1.5),
}
GLASS_REACH = {32: (1, 1, 1, 1, 1), 64: (1, 1, 1, 2, 2), 224: (1, 2, 2, 3, 4)}
GLASS_ROUNDS = {32: (1, 1, 1, 2, 2), 64: (1, 1, 2, 1, 2), 224: (2, 1, 3, 2, 2)}
MOTION = {  # radius, sigma
    32: ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),
    64: ((10, 1.0), (10, 1.5), (10, 2.0), (10, 2.5), (12, 3.0)),
    224: ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0)),
}
ZOOM = {  # end and step of the zoom factors, which begin at 1
    32: ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    64: ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    224: ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
}
ONE_MATRIX = 32  # up to this side the whole zoom blur is one (side^2, side^2) matrix
FEW_TAPS = 25


def apply_gaussian_blur(image: Array, severity: int | Array) -> Array:
    """Every channel filtered by a Gaussian."""
    matrix = at(matrices.gaussians(rows(GAUSSIAN_SIGMA, len(image)), len(image)), severity)
    return truncated(matrices.both_sides(matrix, floats(image)) + TIE)


def apply_defocus_blur(image: Array, severity: int | Array) -> Array:
    """Every point becomes a disc with a softened rim."""
    kernel = at(_discs(rows(DEFOCUS, len(image))), severity)
    return truncated(_correlated(floats(image), kernel))


@functools.cache
def _discs(shapes: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Kernels (5, K, K), cut to the smallest odd K that holds all of them."""
    discs = [_disc(*shape) for shape in shapes]
    reach = max(_used(disc) for disc in discs)
    padded = [np.pad(disc, reach)[_middle(len(disc) + 2 * reach, reach)] for disc in discs]
    return np.stack(padded)


def _disc(radius: float, sigma: float) -> np.ndarray:
    """A disc, smoothed over 3 pixels, or 5 where it is large."""
    most = max(8, int(radius))
    y, x = np.mgrid[-most : most + 1, -most : most + 1]
    disc = (x**2 + y**2 <= radius**2).astype(float)
    reach = 1 if radius <= 8 else 2
    taps = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    smooth = lambda array, axis: ndimage.correlate1d(array, taps / taps.sum(), axis, mode="mirror")
    return smooth(smooth(disc / disc.sum(), 0), 1)


def _used(kernel: np.ndarray) -> int:
    """How far from the middle a square kernel is not zero."""
    return int(np.abs(np.argwhere(kernel > 1e-12) - len(kernel) // 2).max())


def _middle(size: int, reach: int) -> tuple[slice, slice]:
    middle = slice(size // 2 - reach, size // 2 + reach + 1)
    return middle, middle


def _correlated(image: Array, kernel: Array) -> Array:
    """Correlation of every channel of a float image (H, W, C) with a kernel (K, K), mirrored at border pixels."""
    reach = len(kernel) // 2
    padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    if kernel.size <= FEW_TAPS:
        height, width = image.shape[:2]
        shifted = lambda y, x: padded[y : y + height, x : x + width]
        return sum(kernel[y, x] * shifted(y, x) for y, x in np.ndindex(kernel.shape))
    channels = jnp.moveaxis(padded, -1, 0)[:, None]
    out = lax.conv(channels, kernel[None, None], (1, 1), "VALID", precision=lax.Precision.HIGHEST)
    return jnp.moveaxis(out[:, 0], 0, -1)


def draw_glass_blur(key: Array, severity: int | Array, shape: tuple[int, ...]) -> Array:
    """Offsets (dx, dy), int32 (rounds, H, W, 2), to the pixel that each pixel is replaced by."""
    reach = constant(GLASS_REACH, shape[0], severity).astype(jnp.uint32)
    most = max(rows(GLASS_ROUNDS, shape[0]))
    bits = shaped(jax.random.bits, key, (most, *shape[:2], 1), jnp.uint32)
    # 16 bits are plenty to choose among 2 to 8 offsets.
    halves = jnp.concatenate([bits >> 16, bits & 0xFFFF], -1)
    return ((halves * 2 * reach) >> 16).astype(jnp.int32) - reach.astype(jnp.int32)


def apply_glass_blur(image: Array, severity: int | Array, draws: Array) -> Array:
    """Blurred, pixels replaced by near ones, blurred again."""
    size = len(image)
    matrix = at(matrices.gaussians(rows(GLASS_SIGMA, size), size), severity)
    reach = constant(GLASS_REACH, size, severity)
    rounds = constant(GLASS_ROUNDS, size, severity)
    chains = max(rows(GLASS_REACH, size)) > 1
    source = jnp.arange(size * size)
    for number, offsets in enumerate(draws):
        moved = _shuffle(offsets, reach, chains)
        source = jnp.where(number < rounds, source[moved], source)
    blurred = truncated(matrices.both_sides(matrix, floats(image)) + TIE)
    shuffled = blurred.reshape(-1, 3).at[source].get(mode="promise_in_bounds")
    return truncated(matrices.both_sides(matrix, floats(shuffled.reshape(image.shape))) + TIE)


def _shuffle(offsets: Array, reach: Array, chains: bool) -> Array:
    """Which pixel (H * W,) each pixel shows after one round.

    The original walks backwards over the pixels farther than `reach` from the border and copies to each
    the pixel at its offset. A source before it is still old. One after it is already new (`chains`), and
    shows what its own source showed: such chains are followed to their ends.
    """
    size = offsets.shape[0]
    row, column = jnp.arange(size)[:, None], jnp.arange(size)[None, :]
    visited = lambda line: (line > reach) & (line <= size - reach)
    inside = (visited(row) & visited(column)).reshape(-1)
    own = jnp.arange(size * size)
    target = (row + offsets[..., 1]) * size + column + offsets[..., 0]
    source = jnp.where(inside, target.reshape(-1), own)
    if not chains:
        return source
    new = (source > own) & inside[source]
    link = lax.while_loop(
        lambda link: jnp.any(link[link] != link),
        lambda link: link[link],
        jnp.where(new, source, own),
    )
    return source[link]


def draw_motion_blur(key: Array, severity: int | Array, shape: tuple[int, ...]) -> Array:
    """The angle in degrees, float32."""
    del severity, shape
    return jax.random.uniform(key, minval=-45.0, maxval=45.0)


def apply_motion_blur(image: Array, severity: int | Array, draws: Array) -> Array:
    """The camera moved on a straight line."""
    return streak.streaked(image, severity, draws, rows(MOTION, len(image)))


def apply_zoom_blur(image: Array, severity: int | Array) -> Array:
    """The mean of the image and of its enlarged middle parts."""
    size = len(image)
    zooms, number = _zooms(rows(ZOOM, size), size)
    factors, count = at(zooms, severity), at(number, severity)
    blurred = _one_matrix if size <= ONE_MATRIX else _one_by_one
    return truncated((floats(image) + blurred(factors, floats(image))) / (count + 1) + TIE)


@functools.cache
def _zooms(ranges: tuple[tuple[float, float], ...], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices (5, Z, size, size), filled up with zeros, and the number of them (5,)."""
    factors = [
        np.arange(1, end, step) for end, step in ranges
    ]  # 1.06 by 0.01 gives seven: so it was published
    zooms = np.zeros((len(SEVERITIES), max(map(len, factors)), size, size), np.float32)
    for row, each in zip(zooms, factors, strict=True):
        row[: len(each)] = [matrices.zoomed(size, factor) for factor in each]
    return zooms, np.array([len(each) for each in factors], np.float32)


def _one_matrix(factors: Array, image: Array) -> Array:
    size, exact = len(image), lax.Precision.HIGHEST
    whole = jnp.einsum("zyi,zxj->yxij", factors, factors, precision=exact)
    flat = image.reshape(size * size, -1)
    return jnp.dot(whole.reshape(size**2, -1), flat, precision=exact).reshape(image.shape)


def _one_by_one(factors: Array, image: Array) -> Array:
    add = lambda total, matrix: (total + matrices.both_sides(matrix, image), None)
    return lax.scan(add, jnp.zeros_like(image), factors)[0]
