"""Some images as their photographic negatives."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array


@dataclasses.dataclass(frozen=True)
class Views:
    """One view, (1, H, W, C): with probability p every value x in [0, 1] becomes 1 - x."""

    p: float = 0.5

    def __call__(self, key: Array, image_HWC: Array) -> Array:
        chosen = jax.random.bernoulli(key, self.p)
        return jnp.where(chosen, 1 - image_HWC, image_HWC)[None]
