"""PRIME (Modas et al. 2022): mixtures of chains of random deformations, colour curves and filters."""

import dataclasses
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cards_jax import augment
from cards_jax.augment import _bilinear, _mixture
from cards_jax.draws import shaped

MODES = 100  # most frequencies of a deformation, and of a colour curve
FEWEST = 2  # modes of a deformation
KERNEL = 3


class Draw(NamedTuple):
    """The random numbers of one step; those of arrays come from its key.

    primitive: 0 deformation, 1 colour curve, 2 filter.
    cut, heat: modes and variance of a deformation.
    frequencies, temperature: of a colour curve.
    sigma: of a filter.
    """

    primitive: Array
    key: Array
    cut: Array
    heat: Array
    frequencies: Array
    temperature: Array
    sigma: Array


def deformation_heat(share: Array, cut: Array, strength: Array | float, side: int) -> Array:
    """The variance at `share` of the allowed range: from moves of half a pixel to the onset of overhangs."""
    least = 1 / (jnp.pi * side**2 * jnp.log(cut))
    most = strength * 4 / (jnp.pi**3 * cut**2 * jnp.log(cut))
    return least + share * jnp.maximum(most - least, 0)


@cache
def _spread(side: int) -> tuple[np.ndarray, np.ndarray]:
    """(std (MODES + 1, F, F) of the coefficients by cut, waves (side, F)) of a random field on that many pixels.

    A field is sum_ij c_ij sin(pi i x) sin(pi j y) over i^2 + j^2 < (cut + 1/2)^2, with c_ij ~ N(0, 1 / (i^2 + j^2)). On
    pixels, modes beyond the grid's own are copies of these up to their sign: their variances add, and a field needs no
    more than (side - 2)^2 random numbers.
    """
    own, period = side - 2, 2 * (side - 1)
    k = np.arange(1, MODES + 1)
    folded = np.minimum(k % period, -k % period)
    to = (folded[:, None] == np.arange(1, min(own, MODES) + 1)[None]).astype(np.float64)
    square = k[:, None] ** 2 + k[None] ** 2
    within = square[None] < (np.arange(MODES + 1)[:, None, None] + 0.5) ** 2
    variance = np.einsum("kij,ia,jb->kab", within / square, to, to, optimize=True)
    x = np.linspace(0, 1, side)[:, None]
    waves = np.sin(np.pi * x * np.arange(1, to.shape[1] + 1)[None])
    return np.sqrt(variance).astype(np.float32), waves.astype(np.float32)


def deform(image_HWC: Array, draw: Draw) -> Array:
    """A smooth random deformation (Petrini et al. 2021), bilinear, the rim continued."""
    H, W, _ = image_HWC.shape
    if H != W:
        raise ValueError(f"PRIME deforms square images, got {H} x {W}")
    spread, waves = map(jnp.asarray, _spread(H))
    coefficients = (
        shaped(jax.random.normal, draw.key, (2, *spread.shape[1:])) * spread[draw.cut][None]
    )
    moves = H * jnp.sqrt(draw.heat) * (waves @ coefficients @ waves.T)
    y, x = (jnp.clip(p, 0, H - 1) for p in jnp.mgrid[:H, :W] - moves)
    return _bilinear.sample(image_HWC, y, x)


def colour(image_HWC: Array, draw: Draw) -> Array:
    """A smooth random curve for the levels of each channel: x + sum_k c_k sin(pi k x), clamped."""
    k = jnp.arange(1, MODES + 1)
    wanted = jnp.sqrt(draw.temperature) * (k <= draw.frequencies)
    c_KC = wanted[:, None] * shaped(jax.random.normal, draw.key, (MODES, image_HWC.shape[-1]))
    angle = jnp.pi * image_HWC
    twice = 2 * jnp.cos(angle)

    # Clenshaw's recurrence: a sine per value instead of MODES of them.
    def term(i, sums):
        one, two = sums
        return c_KC[MODES - 1 - i][None, None] + twice * one - two, one

    none = jnp.zeros_like(image_HWC)
    total, _ = lax.fori_loop(0, MODES, term, (none, none), unroll=MODES // 5)
    return jnp.clip(image_HWC + total * jnp.sin(angle), 0, 1)


def filtered(image_HWC: Array, draw: Draw) -> Array:
    """The image plus a random filter of it, the same for all channels, black outside, clamped.

    The published code adds the image shifted by a pixel in both directions: its identity stands in the filter's corner.
    """
    H, W, _ = image_HWC.shape
    kernel = draw.sigma * shaped(jax.random.normal, draw.key, (KERNEL, KERNEL))
    pad = KERNEL // 2
    padded = jnp.pad(image_HWC, ((pad, pad), (pad, pad), (0, 0)))
    shifted = [padded[i : i + H, j : j + W] for i in range(KERNEL) for j in range(KERNEL)]
    change = sum(weight * part for weight, part in zip(kernel.reshape(-1), shifted, strict=True))
    return jnp.clip(image_HWC + change, 0, 1)


PRIMITIVES = (deform, colour, filtered)


def step(image_HWC: Array, draw: Draw) -> Array:
    """The image after one primitive."""
    primitives = [lambda image, f=f: f(image, draw) for f in PRIMITIVES]
    return lax.switch(draw.primitive, primitives, image_HWC)


@dataclasses.dataclass(frozen=True)
class Views:
    """The image augmented by `first` and two mixtures of it, (3, H, W, C), square images only.

    deformation: part of the largest deformation without overhangs that is allowed.
    temperature: largest variance of a colour curve's coefficients.
    sigma: largest standard deviation of a filter's weights. These three and alpha may be traced.
    width, depth: chains of a mixture, and primitives of a chain (0: one to three).
    alpha: of the Dirichlet and Beta distributions of the weights.
    consistency: weight of the Jensen-Shannon loss; 0 gives one view, a mixture, (1, H, W, C).
    first: "standard", or "crop" or "plain" for images that have no mirror image.

    Every step of every image has its own draws; the original shares them over a batch.
    """

    deformation: float = 1.0
    temperature: float = 0.01
    sigma: float = 4.0
    width: int = 3
    depth: int = 0
    alpha: float = 1.0
    consistency: float = 12.0
    first: str = "standard"

    def __call__(self, key: Array, image_HWC: Array) -> Array:
        key_first, key_mixture = jax.random.split(key)
        image = augment.views(self.first)(key_first, image_HWC)[0]
        return _mixture.views(key_mixture, image, self.mixture, self.consistency)

    def mixture(self, key: Array, image_HWC: Array) -> Array:
        """One mixture."""
        key_draw, key_depth, key_mix = jax.random.split(key, 3)
        shape = (self.width, _mixture.steps(self.depth))
        draws = self.draw(key_draw, shape, len(image_HWC))
        chains = _mixture.chains(key_depth, image_HWC, draws, step, self.depth)
        return _mixture.mixed(key_mix, image_HWC, chains, self.alpha)

    def draw(self, key: Array, shape: tuple[int, ...], side: int) -> Draw:
        """Independent draws; every primitive has the same probability."""
        key_numbers, key_steps = jax.random.split(key)
        uniform = shaped(jax.random.uniform, key_numbers, (7, *shape))
        whole = lambda u, low, high: low + jnp.floor(u * (high + 1 - low)).astype(jnp.int32)
        # sin^2 of a uniform angle is Beta(1/2, 1/2), which prefers both ends
        bent = jnp.square(jnp.sin(jnp.pi / 2 * uniform[:2]))
        most = whole(uniform[2], FEWEST + 1, MODES)
        cut = jnp.minimum(whole(bent[0], FEWEST, most), most)
        return Draw(
            primitive=whole(uniform[3], 0, len(PRIMITIVES) - 1),
            key=shaped(jax.random.split, key_steps, shape),
            cut=cut,
            heat=deformation_heat(bent[1], cut, self.deformation, side),
            frequencies=whole(uniform[4], 1, MODES),
            temperature=self.temperature * uniform[5],
            sigma=self.sigma * uniform[6],
        )
