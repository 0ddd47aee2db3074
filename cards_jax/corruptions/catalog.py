"""Which corruptions there are: found by the names of functions in the modules of this folder."""

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jax import Array

from cards_jax.config import ConfigError

# The fifteen whose mean is the accuracy on CIFAR-10-C, in its order; the four that are published beside them.
BENCHMARK = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
BAR = (
    *("blue_noise_sample", "brownish_noise", "checkerboard_cutout", "circular_motion_blur"),
    *("inverse_sparkles", "lines", "pinch_and_twirl", "ripple", "sparkles"),
    "transverse_chromatic_abberation",
)
SETS = {"benchmark": BENCHMARK, "extra": EXTRA, "bar": BAR}


@dataclass(frozen=True)
class Corruption:
    """The functions of a corruption; `draw` is None where nothing is random."""

    name: str
    family: str
    draw: Callable | None
    apply: Callable

    def __call__(self, key: Array, image: Array, severity: int | Array) -> Array:
        """One image, uint8 (H, H, 3), corrupted with fresh draws."""
        if self.draw is None:
            return self.apply(image, severity)
        return self.apply(image, severity, self.draw(key, severity, image.shape))


def names(family: str | None = None) -> list[str]:
    """Every corruption, or those of one family (noise, blur, weather, digital, bar)."""
    return sorted(c.name for c in _all().values() if family in (None, c.family))


def expand(wanted: Sequence[str]) -> tuple[str, ...]:
    """Names of corruptions, each once, where SETS may be among the wanted; ConfigError for what is neither.

    A word may hold several, separated by commas: a flag of a config gives them so.
    """
    words = [word for words in wanted for word in str(words).split(",")]
    found = [name for word in words for name in SETS.get(word, (word,))]
    for name in found:
        if name not in _all():
            known = [*SETS, *names()]
            near = difflib.get_close_matches(str(name), known, 1, 0)[0]
            raise ConfigError(
                f"evaluate.corruptions: {name!r} is not known; the nearest is {near!r}, allowed are {', '.join(known)}"
            )
    return tuple(dict.fromkeys(found))


def find(name: str) -> Corruption:
    """The corruption of a name; ConfigError names the nearest one and all if there is none."""
    if name not in _all():
        near = difflib.get_close_matches(str(name), names(), 1, 0)[0]
        raise ConfigError(
            f"corruption: {name!r} is not known; the nearest is {near!r}, allowed are {', '.join(names())}"
        )
    return _all()[name]


def _all() -> dict[str, Corruption]:
    return _in(tuple(importlib.import_module(__package__).__path__))


@functools.cache
def _in(places: tuple[str, ...]) -> dict[str, Corruption]:
    found = {}
    for module in pkgutil.iter_modules(places):
        functions = vars(importlib.import_module(f"{__package__}.{module.name}"))
        for name in [n.removeprefix("apply_") for n in functions if n.startswith("apply_")]:
            draw, apply = functions.get(f"draw_{name}"), functions[f"apply_{name}"]
            found[name] = Corruption(name, module.name, draw, apply)
    return found
