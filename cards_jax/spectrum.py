"""What a batch of images looks like in frequency: radially averaged power, its reciprocal, distances between these.

Diffenderfer et al. (2021), section 3.2: F is the reciprocal of the radially averaged power spectrum, and a deck asks
which augmented training images have F / ||F|| nearest to the mean of that over a batch.
"""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

LUMA = (0.299, 0.587, 0.114)
COLOURS = ("luma", "channels")
BINNINGS = ("round", "floor")


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """What the paper leaves open of F; called with one image, uint8 or floats in [0, 1], it gives F / ||F||, (F,).

    colour: the power of the "luma", or the mean of the powers of all "channels".
    binning: how the distance from the centre becomes a radius, "round" or "floor".
    last: the largest radius; 0 is half the shorter side (Nyquist). The first is 0.

    An image of one colour has no power but its mean: its features are not finite.
    """

    colour: str = "luma"
    binning: str = "round"
    last: int = 0

    def __post_init__(self):
        for field, allowed in (("colour", COLOURS), ("binning", BINNINGS)):
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"{field}={getattr(self, field)!r}: allowed are {', '.join(allowed)}"
                )

    def __call__(self, image_HWC: Array) -> Array:
        reciprocal = 1 / self.power(image_HWC)
        varies = jnp.max(image_HWC) > jnp.min(image_HWC)
        return jnp.where(varies, reciprocal / jnp.linalg.norm(reciprocal), jnp.nan)

    def power(self, image_HWC: Array) -> Array:
        """|FFT|^2 averaged over the ring of every radius, (F,) float32; values in [0, 1]."""
        planes_CHW = self._planes(image_HWC)
        power_CHW = jnp.square(jnp.abs(jnp.fft.rfft2(planes_CHW)))
        rings = _rings(*planes_CHW.shape[1:], self.binning, self.last)
        mean_HW = jnp.mean(power_CHW, axis=0)
        return jnp.dot(rings, mean_HW.reshape(-1), precision=jax.lax.Precision.HIGHEST)

    def _planes(self, image_HWC: Array) -> Array:
        if image_HWC.dtype == jnp.uint8:
            image_HWC = image_HWC / jnp.float32(255)
        if self.colour == "luma" and image_HWC.shape[-1] == len(LUMA):
            image_HWC = jnp.dot(image_HWC, jnp.float32(LUMA), precision=jax.lax.Precision.HIGHEST)[
                ..., None
            ]
        return jnp.moveaxis(image_HWC, -1, 0)


@cache
def _rings(H: int, W: int, binning: str, last: int) -> np.ndarray:
    """(F, H * (W // 2 + 1)) float32: the weights of a ring's mean over the half plane that rfft2 gives."""
    v, u = np.fft.fftfreq(H, 1 / H), np.fft.rfftfreq(W, 1 / W)
    distance = np.hypot(v[:, None], u[None])
    radius = np.round(distance) if binning == "round" else np.floor(distance)
    # A column stands for its mirror image as well, except the two that are their own.
    twice = 2 - (u == 0) - (u * 2 == W)
    wanted = np.arange((last or min(H, W) // 2) + 1)
    rings = (radius[None] == wanted[:, None, None]) * twice
    counts = rings.sum((1, 2), keepdims=True)
    if not counts.all():
        raise ValueError(f"last={last}: images of {H} x {W} have radii up to {int(radius.max())}")
    return (rings / counts).reshape(len(wanted), -1).astype(np.float32)


@partial(jax.jit, static_argnums=1)
def features(images_NHWC: Array, spectrum: Spectrum) -> Array:
    """F / ||F|| of every image, (N, F) float32."""
    return jax.vmap(spectrum)(images_NHWC)


def nearest(references_PF: Array, features_MF: Array) -> Array:
    """d_ss: distance from the mean of a batch's features (not normalised again) to the nearest reference, ()."""
    # Differences, not |a|^2 - 2ab + |b|^2: unit vectors that are near each other would cancel.
    differences_PF = references_PF - jnp.mean(features_MF, axis=0, keepdims=True)
    return jnp.sqrt(jnp.min(jnp.sum(jnp.square(differences_PF), axis=1)))
