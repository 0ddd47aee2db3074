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
        # Asked of the image: what sums of waves leave of nothing depends on the compiler.
        varies = jnp.any(jnp.max(image_HWC, axis=(0, 1)) > jnp.min(image_HWC, axis=(0, 1)))
        return jnp.where(varies, reciprocal / jnp.linalg.norm(reciprocal), jnp.nan)

    def power(self, image_HWC: Array) -> Array:
        """|FFT|^2 averaged over the ring of every radius, (F,) float32; values in [0, 1]."""
        planes = self._planes(image_HWC)
        H, W = planes[0].shape
        across, down = _waves(W)[0], _waves(H)[0]
        # In this order a batch of images is two products of matrices and one transposition between them.
        squares = [jnp.square(_dot(_dot(plane_HW, across).T, down)) for plane_HW in planes]
        mean_WH = sum(squares) / len(squares)
        return _dot(mean_WH.reshape(-1), _rings(H, W, self.binning, self.last))

    def _planes(self, image_HWC: Array) -> list[Array]:
        scale = np.float32(1 / 255 if image_HWC.dtype == jnp.uint8 else 1)
        # Sums of slices: a product with a matrix of three rows takes longer than all that follows.
        planes = [image_HWC[..., c].astype(jnp.float32) for c in range(image_HWC.shape[-1])]
        if self.colour == "luma" and len(planes) == len(LUMA):
            planes = [sum(np.float32(w) * plane for w, plane in zip(LUMA, planes, strict=True))]
        return [plane * scale for plane in planes]


def _dot(a: Array, b: np.ndarray) -> Array:
    return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)


@cache
def _waves(side: int) -> tuple[np.ndarray, np.ndarray]:
    """((side, side) float32, whose columns are cosines, then sines; the frequency of every column).

    No complex numbers are needed: a ring has (v, u) and (-v, u) alike, and their power together is twice the sum of the
    squares of the four products of a cosine or sine in v and one in u.
    """
    cosines, sines = np.arange(side // 2 + 1), np.arange(1, (side + 1) // 2)
    angles = lambda v: 2 * np.pi * (np.outer(np.arange(side), v) % side) / side
    waves = np.concatenate([np.cos(angles(cosines)), np.sin(angles(sines))], axis=1)
    return waves.astype(np.float32), np.concatenate([cosines, sines])


@cache
def _rings(H: int, W: int, binning: str, last: int) -> np.ndarray:
    """(W * H, F) float32: the weights of a ring's mean over the squares that `power` makes."""
    u, v = _waves(W)[1][:, None], _waves(H)[1][None]
    distance = np.hypot(u, v)
    radius = np.round(distance) if binning == "round" else np.floor(distance)
    # Frequencies that are their own mirror image stand for themselves alone, the others for two.
    times = (2 - (u % W == -u % W)) * (2 - (v % H == -v % H))
    rings = radius[..., None] == np.arange((last or min(H, W) // 2) + 1)
    counts = rings.sum((0, 1))  # as many as the plane has frequencies in the ring
    if not counts.all():
        raise ValueError(f"last={last}: images of {H} x {W} have radii up to {int(radius.max())}")
    return (times[..., None] * rings / counts).reshape(W * H, -1).astype(np.float32)


@partial(jax.jit, static_argnums=1)
def features(images_NHWC: Array, spectrum: Spectrum) -> Array:
    """F / ||F|| of every image, (N, F) float32."""
    return jax.vmap(spectrum)(images_NHWC)


def nearest(references_PF: Array, features_MF: Array) -> Array:
    """d_ss: distance from the mean of a batch's features (not normalised again) to the nearest reference, ()."""
    # Differences, not |a|^2 - 2ab + |b|^2: unit vectors that are near each other would cancel.
    differences_PF = references_PF - jnp.mean(features_MF, axis=0, keepdims=True)
    return jnp.sqrt(jnp.min(jnp.sum(jnp.square(differences_PF), axis=1)))
