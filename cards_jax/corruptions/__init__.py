"""Common corruptions on the device: CIFAR-10-C, and CIFAR-10-C-bar.

A corruption NAME is a pair of functions, in a module of this folder that is its family:

    draw_NAME(key, severity, shape) -> draws      what is random; absent where nothing is
    apply_NAME(image, severity, draws) -> image   uint8 (H, H, 3); without draws where nothing is random

for one square image, and a severity 1 to 5 that may be traced. A new corruption is one such pair, in one
of the modules or in a new one. Constants are those of CIFAR-10-C (Hendrycks and Dietterich, 2019) at 32
pixels a side, of Tiny ImageNet-C at 64 and of ImageNet-C at 224, and the nearest of them elsewhere.
"""

from cards_jax.corruptions.catalog import (
    BAR,
    BENCHMARK,
    EXTRA,
    SETS,
    Corruption,
    expand,
    find,
    names,
)
from cards_jax.corruptions.dataset import make
from cards_jax.corruptions.program import corrupt, flavours
from cards_jax.corruptions.severity import SEVERITIES

__all__ = [
    "BAR",
    "BENCHMARK",
    "EXTRA",
    "SETS",
    "SEVERITIES",
    "Corruption",
    "corrupt",
    "expand",
    "find",
    "flavours",
    "make",
    "names",
]
