"""Noise: gaussian_noise, shot_noise, impulse_noise, speckle_noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.special import gammaln

from cards_jax.corruptions import alias
from cards_jax.corruptions.pixels import floats, truncated
from cards_jax.corruptions.severity import at, constant, rows
from cards_jax.draws import shaped

GAUSSIAN_SIGMA = {
    32: (0.04, 0.06, 0.08, 0.09, 0.10),
    64: (0.04, 0.08, 0.12, 0.15, 0.18),
    224: (0.08, 0.12, 0.18, 0.26, 0.38),
}
SHOT_COUNTS = {32: (500, 250, 100, 75, 50), 64: (250, 100, 50, 30, 15), 224: (60, 25, 12, 5, 3)}
IMPULSE_AMOUNT = {
    32: (0.01, 0.02, 0.03, 0.05, 0.07),
    64: (0.01, 0.02, 0.05, 0.08, 0.14),
    224: (0.03, 0.06, 0.09, 0.17, 0.27),
}
SPECKLE_SIGMA = {
    32: (0.06, 0.1, 0.12, 0.16, 0.2),
    64: (0.15, 0.2, 0.25, 0.3, 0.35),
    224: (0.15, 0.2, 0.35, 0.45, 0.6),
}


def draw_gaussian_noise(key: Array, severity: int | Array, shape: tuple[int, ...]) -> Array:
    """Standard normal values, one for every value of the image."""
    del severity
    return shaped(jax.random.normal, key, shape)


def apply_gaussian_noise(image: Array, severity: int | Array, draws: Array) -> Array:
    """Noise of one strength for all values."""
    sigma = constant(GAUSSIAN_SIGMA, len(image), severity)
    return truncated(floats(image) + 255 * sigma * draws)


def draw_speckle_noise(key: Array, severity: int | Array, shape: tuple[int, ...]) -> Array:
    """Standard normal values, one for every value of the image."""
    del severity
    return shaped(jax.random.normal, key, shape)


def apply_speckle_noise(image: Array, severity: int | Array, draws: Array) -> Array:
    """Noise in proportion to the value."""
    sigma = constant(SPECKLE_SIGMA, len(image), severity)
    return truncated(floats(image) * (1 + sigma * draws))


def draw_impulse_noise(
    key: Array, severity: int | Array, shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """(hit, salt), bool: which values are replaced, and by white rather than black."""
    bits = shaped(jax.random.bits, key, shape, jnp.uint32)
    amount = constant(IMPULSE_AMOUNT, shape[0], severity)
    return (bits >> 1) < (amount * 2.0**31).astype(jnp.uint32), (bits & 1) == 1


def apply_impulse_noise(image: Array, severity: int | Array, draws: tuple[Array, Array]) -> Array:
    """Salt and pepper on single values, so in colours."""
    del severity
    hit, salt = draws
    return jnp.where(hit, jnp.where(salt, 255, 0).astype(jnp.uint8), image)


def draw_shot_noise(key: Array, severity: int | Array, shape: tuple[int, ...]) -> Array:
    """32 random bits, uint32, for every value of the image."""
    del severity
    return shaped(jax.random.bits, key, shape, jnp.uint32)


def apply_shot_noise(image: Array, severity: int | Array, draws: Array) -> Array:
    """As if the camera had counted few photons: every value becomes a Poisson count, scaled back.

    Only 256 values meet a severity, so the noisy value comes from one of 256 known distributions.
    """
    table = at(_shot_tables(rows(SHOT_COUNTS, len(image))), severity)
    outcome, fraction = draws >> 24, draws & 0xFFFFFF
    where = (image.astype(jnp.uint32) << 8) | outcome
    entry = table.at[where].get(mode="promise_in_bounds")
    return jnp.where(fraction < (entry >> 8), outcome, entry & 0xFF).astype(jnp.uint8)


@functools.cache
def _shot_tables(counts: tuple[int, ...]) -> np.ndarray:
    """Alias tables, uint32 (5, 256 * 256), of the noisy byte given the severity and the clean one."""
    return np.stack([alias.table(_shot_probabilities(c)).reshape(-1) for c in counts])


def _shot_probabilities(most: int) -> np.ndarray:
    """P(noisy byte | clean byte), float64 (256, 256), where white counts `most` photons on average."""
    counts = np.arange(int(most + 12 * most**0.5 + 40))
    rate = most * np.arange(256)[:, None] / 255
    with np.errstate(divide="ignore", invalid="ignore"):
        log = counts * np.log(rate) - rate - gammaln(counts + 1)
    poisson = np.where(rate > 0, np.exp(log), counts == 0)
    noisy = (np.minimum(counts / most, 1) * 255).astype(np.uint8)
    probabilities = poisson @ (noisy[:, None] == np.arange(256))
    return probabilities / probabilities.sum(1, keepdims=True)
