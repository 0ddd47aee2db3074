"""What the authors' functions drew from numpy's generator, in the form of this package's draws."""

import jax
import numpy as np

from cards_jax.corruptions import blur, digital, frost, noise
from cards_jax.corruptions.severity import rows

# The order by which the golden arrays were seeded.
ORDER = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur"),
    *("motion_blur", "zoom_blur", "snow", "frost", "fog", "brightness", "contrast"),
    *("elastic_transform", "pixelate", "jpeg_compression"),
    *("speckle_noise", "gaussian_blur", "spatter", "saturate"),
)


def golden_draws(name: str, severity: int, images: np.ndarray):
    """The draws of the golden array of a random corruption, stacked over images."""
    return draws(name, severity, images, 1000 + 10 * ORDER.index(name) + severity)


def draws(name: str, severity: int, images: np.ndarray, seed: int):
    """Draws of a random corruption, image after image, from numpy's legacy generator."""
    rng = np.random.RandomState(seed)
    each = [globals()[f"_{name}"](image, severity, rng) for image in images]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *each)


def _at(table, image, severity):
    return rows(table, len(image))[severity - 1]


def _gaussian_noise(image, severity, rng):
    return rng.normal(size=image.shape).astype(np.float32)


_speckle_noise = _gaussian_noise


def _shot_noise(image, severity, rng):
    """Bits that the table turns into the level of the Poisson count that numpy drew."""
    most = _at(noise.SHOT_COUNTS, image, severity)
    level = (np.clip(rng.poisson(image / 255 * most) / most, 0, 1) * 255).astype(np.uint8)
    table = noise._shot_tables(rows(noise.SHOT_COUNTS, len(image)))[severity - 1]
    entry = table.reshape(256, 256)[image, level]
    assert np.all((entry >> 8 > 0) | (entry & 0xFF == level)), "a level that cannot be drawn"
    return level.astype(np.uint32) << 24


def _impulse_noise(image, severity, rng):
    amount = _at(noise.IMPULSE_AMOUNT, image, severity)
    choice = lambda p: rng.choice([True, False], size=image.shape, p=[p, 1 - p])
    return choice(amount), choice(0.5)


def _glass_blur(image, severity, rng):
    size, reach = len(image), _at(blur.GLASS_REACH, image, severity)
    offsets = np.zeros((max(rows(blur.GLASS_ROUNDS, size)), size, size, 2), np.int32)
    for number in range(_at(blur.GLASS_ROUNDS, image, severity)):
        for row in range(size - reach, reach, -1):
            for column in range(size - reach, reach, -1):
                offsets[number, row, column] = rng.randint(-reach, reach, size=2)
    return offsets


def _motion_blur(image, severity, rng):
    return np.float32(rng.uniform(-45, 45))


def _snow(image, severity, rng):
    flakes = rng.normal(size=image.shape[:2]).astype(np.float32)
    return flakes, np.float32(rng.uniform(-135, -45))


def _frost(image, severity, rng):
    textures, size = frost.textures(len(image)), len(image)
    number = rng.randint(5)
    height, width = textures.extents[number]
    row, column = rng.randint(0, height - size), rng.randint(0, width - size)
    return textures.pixels[number, row : row + size, column : column + size]


def _fog(image, severity, rng):
    sides = [1 << scale for scale in range((len(image) - 1).bit_length())]
    square = lambda side: rng.uniform(-1, 1, (side, side))
    return [np.stack([square(side) for _ in range(3)]).astype(np.float32) for side in sides]


def _elastic_transform(image, severity, rng):
    size = len(image)
    reach = _at(digital.ELASTIC, image, severity)[2] * size
    points = rng.uniform(-reach, reach, size=(3, 2)).astype(np.float32)
    fields = [rng.uniform(-1, 1, (size, size)) for _ in range(2)]
    return points, np.stack(fields).astype(np.float32)


def _spatter(image, severity, rng):
    return rng.normal(size=image.shape[:2]).astype(np.float32)
