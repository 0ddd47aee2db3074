"""Fourier bases of images: real waves of unit norm, one for every pair of opposite frequencies.

Cell (i, j) of a map of H x W frequencies stands for u = i - H // 2 cycles along the height and v = j - W // 2 along
the width: low frequencies are in the centre. A wave and that of the opposite frequency are the same array, so that
32 x 32 cells have 514 distinct waves (Yin et al. 2019, A Fourier Perspective on Model Robustness in Computer Vision).
"""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

PHASE = math.pi / 4  # of the authors' code, where a coefficient is (1 + i) / 2


@cache
def frequencies(H: int, W: int) -> np.ndarray:
    """int32 (D, 2): (u, v) of the distinct waves, the first of each pair in raster order. Raises ValueError below 1."""
    first, _ = _pairs(H, W)
    return np.stack([first // W - H // 2, first % W - W // 2], -1).astype(np.int32)


@cache
def mirror(H: int, W: int) -> np.ndarray:
    """int32 (H, W): which of the distinct waves each cell of the map has."""
    return _pairs(H, W)[1]


@cache
def weights(H: int, W: int) -> np.ndarray:
    """float64 (D,), of sum 1: the share of the cells of a map that have each of the distinct waves."""
    return np.bincount(mirror(H, W).ravel()) / (H * W)


def _pairs(H: int, W: int) -> tuple[np.ndarray, np.ndarray]:
    if H < 1 or W < 1:
        raise ValueError(f"images of {H} x {W} pixels have no frequencies")
    i, j = np.indices((H, W))
    opposite = (2 * (H // 2) - i) % H * W + (2 * (W // 2) - j) % W
    first, inverse = np.unique(np.minimum(i * W + j, opposite), return_inverse=True)
    return first, inverse.reshape(H, W).astype(np.int32)


def spread(values: np.ndarray, H: int, W: int) -> np.ndarray:
    """(..., D) of the distinct waves as maps (..., H, W)."""
    return values[..., mirror(H, W)]


def wave(u: Array, v: Array, H: int, W: int, phase: float = PHASE) -> Array:
    """float32 (H, W), of Frobenius norm 1: sqrt(2 / HW) * cos(2 pi (u y / H + v x / W) + phase).

    Where a frequency is its own opposite: +-1 / sqrt(HW), whatever the phase. The phase matters where few phases are
    sampled: at a period of 4 pixels the peak is 0.0442 with phase 0, and 0.0313 with pi / 4, at 32 x 32.
    """
    y, x = jnp.arange(H)[:, None], jnp.arange(W)[None]
    turns = (u * y * W + v * x * H) % (H * W)  # whole numbers: no rounding for high frequencies
    alone = ((2 * u) % H == 0) & ((2 * v) % W == 0)
    angle = turns * np.float32(2 * math.pi / (H * W)) + jnp.where(alone, 0, np.float32(phase))
    scale = jnp.where(alone, 1, np.float32(math.sqrt(2))) / np.float32(math.sqrt(H * W))
    return scale * jnp.cos(angle)


def signs(key: Array, frequency: Array, image: Array, channels: int) -> Array:
    """float32 (channels,): -1 or +1, of one image under one wave, whatever the batch that it is in."""
    drawn = jax.random.fold_in(jax.random.fold_in(key, frequency), image)
    return jax.random.rademacher(drawn, (channels,), jnp.float32)


def perturb(
    image_HWC: Array, wave_HW: Array, sign_C: Array, eps: Array, clip: bool = True
) -> Array:
    """An image in [0, 1] plus sign * eps * wave: eps is the L2 norm in each channel, before clipping to [0, 1]."""
    changed = image_HWC + (eps * sign_C)[None, None] * wave_HW[:, :, None]
    return jnp.clip(changed, 0, 1) if clip else changed


def radius(H: int, W: int) -> np.ndarray:
    """float64 (H, W): how far each cell is from frequency zero, in units of the highest one along an axis."""
    u, v = (np.abs(np.arange(n) - n // 2) / max(n / 2, 1) for n in (H, W))
    return np.hypot(u[:, None], v[None])
