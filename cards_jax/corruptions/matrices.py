"""Small linear filters as constant matrices: rows and columns of an image are filtered by A X A^T."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array, lax


def both_sides(matrix: Array, image: Array) -> Array:
    """A X A^T for every channel: matrix (K, H) and float image (H, H, C) give (K, K, C)."""
    exact = (
        lax.Precision.HIGHEST
    )  # a filter in reduced precision moves many truncated values by one
    half = jnp.einsum("yi,ijc->yjc", matrix, image, precision=exact)
    return jnp.einsum("xj,yjc->yxc", matrix, half, precision=exact)


def gaussian(size: int, sigma: float, truncate: float = 4.0, border: str = "edge") -> np.ndarray:
    """Gaussian filter of a line of pixels; border "edge" repeats the last one, "symmetric" mirrors at it."""
    radius = int(truncate * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    taps = np.exp(-0.5 * (offsets / sigma) ** 2) if sigma else np.ones(1)
    sources = np.arange(size)[:, None] + offsets
    if border == "edge":
        sources = sources.clip(0, size - 1)
    else:
        sources %= 2 * size
        sources = np.minimum(sources, 2 * size - 1 - sources)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], sources), taps / taps.sum())
    return matrix


def zoomed(size: int, factor: float) -> np.ndarray:
    """The middle part of a line of pixels, enlarged linearly to its whole length."""
    inner = int(np.ceil(size / factor))
    large = int(round(inner * factor))
    positions = np.arange(large) * (inner - 1) / (large - 1)
    left = np.minimum(positions.astype(int), inner - 2)
    right = positions - left
    matrix = np.zeros((large, size))
    row, first = np.arange(large), (size - inner) // 2
    matrix[row, first + left] = 1 - right
    matrix[row, first + left + 1] += right
    trim = (large - size) // 2
    return matrix[trim : trim + size]


@functools.cache
def gaussians(sigmas: tuple[float, ...], size: int, **how) -> np.ndarray:
    """One matrix (S, size, size) of `gaussian` for every sigma."""
    return np.stack([gaussian(size, sigma, **how) for sigma in sigmas])


@functools.cache
def zooms(factors: tuple[float, ...], size: int) -> np.ndarray:
    """One matrix (S, size, size) of `zoomed` for every factor."""
    return np.stack([zoomed(size, factor) for factor in factors])
