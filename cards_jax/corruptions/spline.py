"""Cubic splines as SciPy samples images: smooth curves through, or near, the pixels of a line."""

import numpy as np
from jax import Array


def weights(positions: Array | np.ndarray, size: int) -> Array | np.ndarray:
    """Weights (..., size) of a line's pixels at positions (...); mirrored at border pixels, zero outside of them."""
    xp = positions.__array_namespace__()
    at = positions[..., None]
    pixel = xp.arange(size, dtype=positions.dtype).reshape((1,) * positions.ndim + (size,))
    before = xp.where(pixel == 1, _cubic(at + 1), 0)
    beyond = xp.where(pixel == size - 2, _cubic(at - size), 0)
    return xp.where((at >= 0) & (at <= size - 1), _cubic(at - pixel) + before + beyond, 0)


def through_pixels(size: int) -> np.ndarray:
    """Matrix (size, size) from pixels to the coefficients of the spline that passes through them."""
    return np.linalg.inv(weights(np.arange(size, dtype=float), size))


def _cubic(distance: Array | np.ndarray) -> Array | np.ndarray:
    """The cubic B-spline."""
    xp = distance.__array_namespace__()
    away = xp.abs(distance)
    near = 2 / 3 - away**2 + away**3 / 2
    return xp.where(away < 1, near, xp.maximum(2 - away, 0) ** 3 / 6)
