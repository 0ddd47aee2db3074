"""AugMix (Hendrycks et al. 2020): mixtures of chains of Pillow's operations."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from cards_jax import augment
from cards_jax.augment import _mixture, _pillow
from cards_jax.draws import shaped

OPERATIONS = (
    *("autocontrast", "equalize", "posterize", "solarize"),
    *("rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
)
COLOURS = 4  # the first of them look at grey levels, the others move pixels
ROTATE, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y = range(COLOURS, len(OPERATIONS))


class Draw(NamedTuple):
    """The random numbers of one step: index into OPERATIONS, level in [0.1, severity], direction -1 or 1."""

    operation: Array
    level: Array
    sign: Array


def draw(key: Array, shape: tuple[int, ...], severity: Array | float) -> Draw:
    """Independent draws; every operation has the same probability."""
    which, level, side = shaped(jax.random.uniform, key, (3, *shape))
    return Draw(
        operation=jnp.floor(which * len(OPERATIONS)).astype(jnp.int32),
        level=0.1 + level * (severity - 0.1),
        sign=jnp.where(side < 0.5, -1.0, 1.0),
    )


def matrix(draw: Draw, H: int, W: int) -> Array:
    """The inverse map (2, 3) of the geometric operation that was drawn."""
    one = lambda operation, value: jnp.where(draw.operation == operation, value, 0.0)
    shear = draw.sign * draw.level * 0.03
    shift = lambda side: draw.sign * jnp.floor(draw.level * (side / 3 / 10))
    degrees = one(ROTATE, draw.sign * jnp.floor(draw.level * 3))
    moved = [
        [0.0, one(SHEAR_X, shear), one(TRANSLATE_X, shift(W))],
        [one(SHEAR_Y, shear), 0.0, one(TRANSLATE_Y, shift(H))],
    ]
    return _pillow.rotation(degrees, H, W) + jnp.array(moved)


def step(image_HWC: Array, draw: Draw) -> Array:
    """The uint8 image after one operation."""
    part = lambda most: jnp.floor(draw.level * (most / 10)).astype(jnp.int32)
    operations = (
        _pillow.autocontrast,
        _pillow.equalize,
        lambda image: _pillow.posterize(image, 4 - part(4)),
        lambda image: _pillow.solarize(image, 256 - part(256)),
        lambda image: _pillow.affine(image, matrix(draw, *image.shape[:2])),
    )
    return lax.switch(jnp.minimum(draw.operation, COLOURS), operations, image_HWC)


@dataclasses.dataclass(frozen=True)
class Views:
    """The image augmented by `first` and two mixtures of it, (3, H, W, C).

    severity: highest level of an operation, of 10; it and alpha may be traced.
    width, depth: chains of a mixture, and operations of a chain (0: one to three).
    alpha: of the Dirichlet and Beta distributions of the weights.
    consistency: weight of the Jensen-Shannon loss; 0 gives one view, a mixture, (1, H, W, C).
    first: "standard", or "crop" or "plain" for images that have no mirror image.
    """

    severity: float = 3.0
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
        """One mixture; the chains work on grey levels, k / 255."""
        key_draw, key_depth, key_mix = jax.random.split(key, 3)
        grey = jnp.round(image_HWC * 255).astype(jnp.uint8)
        draws = draw(key_draw, (self.width, _mixture.steps(self.depth)), self.severity)
        chains = _mixture.chains(key_depth, grey, draws, step, self.depth)
        return _mixture.mixed(key_mix, image_HWC, chains / jnp.float32(255), self.alpha)
