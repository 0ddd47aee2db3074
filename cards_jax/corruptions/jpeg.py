"""What JPEG does to pixels, in the integer arithmetic of libjpeg-turbo, so bit for bit; entropy coding loses nothing.

Colours are coded as by Pillow's default: 4:2:0, the tables of the standard's Annex K, the slow integer
transforms, smooth ("fancy") upsampling. Differs from IJG libjpeg 7 to 9, which scale chroma by larger transforms.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

BLOCK = 8
LUMA_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
) + ((99,) * 8,) * 4
# The slow integer transform is linear up to one rounding: these are its sums of constants of 13 bits.
COSINES = np.array(
    (
        (8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192),
        (11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363),
        (10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703),
        (9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633),
        (8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192),
        (6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437),
        (4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433),
        (2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260),
    ),
    np.int32,
)


@functools.cache
def steps(qualities: tuple[int, ...]) -> np.ndarray:
    """Quantisation steps, int32 (Q, 2, 8, 8), of luma and chroma at every quality."""
    base = np.array((LUMA_STEPS, CHROMA_STEPS))
    scale = np.array([5000 // q if q < 50 else 200 - 2 * q for q in qualities])
    return ((base * scale[:, None, None, None] + 50) // 100).clip(1, 255).astype(np.int32)


def compressed(image: Array, steps: Array) -> Array:
    """A square image, uint8 (H, H, 3), after compression with int32 (2, 8, 8) steps and decompression."""
    size = len(image)
    half, whole = -(-size // 2), -(-size // (2 * BLOCK)) * 2 * BLOCK
    luma, chroma = _to_luma_and_chroma(image.astype(jnp.int32))
    # Beyond the border the last pixels are repeated: of columns before chroma is halved, of rows after.
    chroma = _halved(_filled(chroma, 2 * half, whole))
    planes = jnp.concatenate(
        [_quarters(_filled(luma, whole, whole)), _filled(chroma, whole // 2, whole // 2)]
    )
    # The quarters of the luma plane are as large as the chroma planes: all six are coded together.
    planes = _coded(planes, steps[np.array([0, 0, 0, 0, 1, 1])])
    chroma = _doubled(planes[4:, :half, :half])[:, :size, :size]
    return _to_rgb(_joined(planes[:4])[:size, :size], *chroma).astype(jnp.uint8)


def _filled(planes: Array, height: int, width: int) -> Array:
    """Planes (..., H, W) with their last row and column repeated."""
    more = ((0, height - planes.shape[-2]), (0, width - planes.shape[-1]))
    return jnp.pad(planes, ((0, 0),) * (planes.ndim - 2) + more, mode="edge")


def _quarters(plane: Array) -> Array:
    half = len(plane) // 2
    return plane.reshape(2, half, 2, half).swapaxes(1, 2).reshape(4, half, half)


def _joined(quarters: Array) -> Array:
    half = quarters.shape[1]
    return quarters.reshape(2, 2, half, half).swapaxes(1, 2).reshape(2 * half, 2 * half)


def _to_luma_and_chroma(image: Array) -> tuple[Array, Array]:
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    middle = (128 << 16) + 32767
    luma = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    chroma_blue = (-11059 * red - 21709 * green + 32768 * blue + middle) >> 16
    chroma_red = (32768 * red - 27439 * green - 5329 * blue + middle) >> 16
    return luma, jnp.stack([chroma_blue, chroma_red])


def _to_rgb(luma: Array, chroma_blue: Array, chroma_red: Array) -> Array:
    blueness, redness = chroma_blue - 128, chroma_red - 128
    red = luma + ((91881 * redness + 32768) >> 16)
    green = luma + ((-22554 * blueness - 46802 * redness + 32768) >> 16)
    blue = luma + ((116130 * blueness + 32768) >> 16)
    return jnp.clip(jnp.stack([red, green, blue], -1), 0, 255)


def _halved(planes: Array) -> Array:
    """Means of 2x2 pixels, rounded down and up in turn along a row."""
    total = (
        planes[:, ::2, ::2] + planes[:, 1::2, ::2] + planes[:, ::2, 1::2] + planes[:, 1::2, 1::2]
    )
    rounding = 1 + jnp.arange(total.shape[2]) % 2
    return (total + rounding[None, None, :]) >> 2


def _doubled(planes: Array) -> Array:
    """Twice as large: three parts of the nearer pixel and one of the farther, down and then across."""
    above = jnp.concatenate([planes[:, :1], planes[:, :-1]], 1)
    below = jnp.concatenate([planes[:, 1:], planes[:, -1:]], 1)
    tall = _interleaved(3 * planes + above, 3 * planes + below, 1)
    left = jnp.concatenate([tall[..., :1], tall[..., :-1]], 2)
    right = jnp.concatenate([tall[..., 1:], tall[..., -1:]], 2)
    return _interleaved((3 * tall + left + 8) >> 4, (3 * tall + right + 7) >> 4, 2)


def _interleaved(even: Array, odd: Array, axis: int) -> Array:
    shape = list(even.shape)
    shape[axis] *= 2
    return jnp.stack([even, odd], axis + 1).reshape(shape)


def _coded(planes: Array, steps: Array) -> Array:
    """Square planes (P, H, H) of bytes as int32, transformed, quantised by (P, 8, 8) steps, and back."""
    scaled = _twice(
        lambda x, shift: _transformed(x.swapaxes(1, 2), COSINES, shift), planes - 128, 11, 15
    )
    blocks = planes.shape[1] // BLOCK
    step = jnp.tile(steps, (1, blocks, blocks))
    level = (jnp.abs(scaled) + 4 * step) // (
        8 * step
    )  # the transform gives 8 times the coefficient
    coefficients = jnp.sign(scaled) * level * step
    back = _twice(
        lambda x, shift: _transformed(x, COSINES.T, shift).swapaxes(1, 2), coefficients, 11, 18
    )
    return jnp.clip(back + 128, 0, 255)


def _twice(transform: Callable[[Array, Array], Array], planes: Array, *shifts: int) -> Array:
    """Both directions in a loop, lest XLA fuse them and compute the first eight times over."""
    return lax.scan(lambda x, shift: (transform(x, shift), None), planes, jnp.array(shifts))[0]


def _transformed(planes: Array, matrix: np.ndarray, shift: Array) -> Array:
    """Every 8 rows of planes (P, H, H) times a matrix, rounded after `shift` bits."""
    count, size, _ = planes.shape
    lines = planes.reshape(count, size // BLOCK, BLOCK, size)
    weights = matrix.reshape(1, 1, BLOCK, BLOCK, 1)
    total = sum(weights[:, :, :, i] * lines[:, :, i : i + 1] for i in range(BLOCK))
    return ((total + (1 << (shift - 1))) >> shift).reshape(planes.shape)
