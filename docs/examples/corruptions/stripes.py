"""Stripes: black rows at a random offset, more of them with every severity."""

import jax
import jax.numpy as jnp
from jax import Array

from cards_jax.corruptions.severity import at

DISTANCE = (12, 9, 7, 5, 4)  # rows from one stripe to the next, at severities 1 to 5


def draw_stripes(key: Array, severity: Array, shape: tuple[int, int, int]) -> Array:
    """The first black row."""
    return jax.random.randint(key, (), 0, at(DISTANCE, severity))


def apply_stripes(image: Array, severity: Array, first: Array) -> Array:
    """uint8 (H, H, 3)."""
    row = jnp.arange(image.shape[0])[:, None, None]
    black = (row - first) % at(DISTANCE, severity) == 0
    return jnp.where(black, jnp.uint8(0), image)
