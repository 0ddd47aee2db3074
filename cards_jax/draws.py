"""Random arrays in programs that compile fast."""

import math
from collections.abc import Callable

from jax import Array


def shaped(draw: Callable, key: Array, shape: tuple[int, ...], *args, **kwargs) -> Array:
    """draw(key, shape, ...) of jax.random, the same numbers: drawn as a vector, which then takes its shape.

    Threefry counts places in row-major order whatever the shape. XLA's CPU backend however unrolls the rounds of the
    generator over small last dimensions, and compiles the bits of a (3, 3, 16, 16) kernel ten times as long as those of
    its 2,304 numbers in a row.
    """
    return draw(key, (math.prod(shape),), *args, **kwargs).reshape(shape)
