"""Published constants by image side and severity."""

import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

SEVERITIES = (1, 2, 3, 4, 5)


def rows(table: Mapping[int, tuple], size: int) -> tuple:
    """The five rows of constants for images of a side: those published for the nearest side, in ratio.

    The keys of a table are the sides of CIFAR-10-C (32), Tiny ImageNet-C (64) and ImageNet-C (224).
    """
    return table[min(table, key=lambda side: abs(math.log(side / size)))]


def at(values: Sequence | np.ndarray, severity: int | Array) -> Array:
    """The entry of a table of five for a severity, which may be traced."""
    return jnp.asarray(np.asarray(values))[severity - 1]


def constant(table: Mapping[int, tuple], size: int, severity: int | Array) -> Array:
    """The constant, or row of constants, for images of a side at a severity."""
    return at(rows(table, size), severity)
