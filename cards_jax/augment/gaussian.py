"""Gaussian noise over the whole of some images, as Kireev et al. (2021) train against corruptions."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from cards_jax import augment
from cards_jax.draws import shaped


def noisy(key: Array, image_HWC: Array, sigma: Array | float) -> Array:
    """Independent noise of that standard deviation on every value, clamped to [0, 1]."""
    return jnp.clip(image_HWC + sigma * shaped(jax.random.normal, key, image_HWC.shape), 0, 1)


@dataclasses.dataclass(frozen=True)
class Views:
    """One view, (1, H, W, C): augmented by `first`, then noisy with probability p.

    sigma: standard deviation, of images in [0, 1]; it and p may be traced.
    first: "standard", or "crop" or "plain" for images that have no mirror image.
    """

    sigma: float = 0.1
    p: float = 0.5
    first: str = "standard"

    def __call__(self, key: Array, image_HWC: Array) -> Array:
        key_first, key_chance, key_noise = jax.random.split(key, 3)
        view = augment.views(self.first)(key_first, image_HWC)
        chosen = jax.random.bernoulli(key_chance, self.p)
        return jnp.where(chosen, noisy(key_noise, view, self.sigma), view)
