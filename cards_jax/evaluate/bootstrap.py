"""Confidence intervals over seeds and images: both are drawn anew, an image with all that was measured on it."""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

DRAWS = 2000
PIECE = 2**22  # numbers drawn at a time
NORMAL = 1.959964  # 97.5% quantile


class Estimate(NamedTuple):
    """A mean with its 95% interval, and the extremes over the seeds."""

    mean: float
    low: float
    high: float
    smallest: float
    largest: float
    n: int


def image_weights(images: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """float32 (draws, N): how often each image is in a sample with replacement, divided by N.

    Shared by everything that is compared, so that comparisons are paired by image.
    """
    rng = np.random.default_rng(seed)
    out = np.empty((draws, images), np.float32)
    step = max(1, PIECE // images)
    for first in range(0, draws, step):
        rows = out[first : first + step]
        chosen = rng.integers(0, images, rows.shape) + images * np.arange(len(rows))[:, None]
        counts = np.bincount(chosen.ravel(), minlength=rows.size)
        rows[:] = counts.reshape(rows.shape) / np.float32(images)
    return out


def interval(
    scores_RN: np.ndarray, weights_DN: np.ndarray, seed: int = 0, shared: int = 1
) -> Estimate:
    """The mean of scores and its 95% interval under seeds and images drawn anew (Owen 2007, "pigeonhole").

    scores_RN: one number for every seed and image, as the mean over the corruptions of whether a card was right: so all
    cells of one image stay together. weights_DN: from `image_weights`. The seeds' share of the deviations is widened so
    that over few seeds the interval is Student's; with one seed it speaks of images alone.

    shared: rows that each seed is in, below R: of decks whose cards are a window that moves over a ring of R seeds.
    Such rows are alike, and differ less than their mean is uncertain: their share is widened once more, with the
    degrees of freedom that are left.
    Raises ValueError where all rows are made of all seeds.
    """
    return _estimate(_parts(np.asarray(scores_RN, np.float64), weights_DN, seed, shared))


def difference(
    a_RN: np.ndarray, b_RN: np.ndarray, weights_DN: np.ndarray, paired: bool, shared: int = 1
) -> Estimate:
    """The mean of a - b with its interval, paired by image; `paired` says that row r of both has one seed.

    Not paired, seeds of a and b are drawn independently, and the extremes are those of a minus the mean of b.
    shared: as `interval` has it, of paired rows.
    """
    a, b = np.asarray(a_RN, np.float64), np.asarray(b_RN, np.float64)
    if paired:
        return interval(a - b, weights_DN, shared=shared)
    of_a, of_b = _parts(a, weights_DN, 0), _parts(b, weights_DN, 1)
    draws = of_a[1] - of_b[1]
    means = of_a[0] - of_b[0].mean()
    return _estimate((means, draws))


def _parts(
    scores: np.ndarray, weights: np.ndarray, seed: int, shared: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Means over the images (R,), and the mean of every draw (D,)."""
    means, count = scores.mean(1), len(scores)
    if not 1 <= shared < max(count, 2):
        raise ValueError(f"shared={shared}: allowed is 1 to {max(count - 1, 1)} for {count} rows")
    by_image = weights @ scores.T.astype(np.float32)  # (D, R)
    over_images = by_image - means
    if count == 1:
        return means, means.mean() + over_images[:, 0]
    rng = np.random.default_rng([seed, count])
    shares = rng.multinomial(count, np.full(count, 1 / count), len(weights)) / count
    wider = stdtrit(_freedom(count, shared), 0.975) / NORMAL * np.sqrt(count / (count - 1))
    # The variance of a ring's mean over what that of its windows would make it, were these independent.
    wider *= np.sqrt(shared * (count - 1) / (count - shared))
    over_seeds = (shares - 1 / count) @ means
    if count == 2:  # samples of two have three outcomes, whose quantiles are no interval
        wider = stdtrit(1, 0.975) / NORMAL
        over_seeds = rng.standard_normal(len(weights)) * means.std(ddof=1) / np.sqrt(2)
    return means, means.mean() + wider * over_seeds + (shares * over_images).sum(1)


def _freedom(count: int, shared: int) -> float:
    """Degrees of freedom of the variance among a ring's windows (Satterthwaite 1946): its spectrum is not even."""
    window = np.zeros(count)
    window[:shared] = 1
    powers = np.abs(np.fft.fft(window)[1:]) ** 2
    return float(powers.sum() ** 2 / (powers**2).sum())


def _estimate(parts: tuple[np.ndarray, np.ndarray]) -> Estimate:
    means, draws = parts
    low, high = np.quantile(draws, (0.025, 0.975))
    spread = float(means.min()), float(means.max())
    return Estimate(float(means.mean()), float(low), float(high), *spread, len(means))
