"""Effective robustness: accuracy under a shift beyond what clean accuracy predicts (Taori et al. 2020)."""

import numpy as np
from scipy.special import expit, logit

LEAST = 3  # networks that a line is fitted through


def fit(clean: np.ndarray, shifted: np.ndarray) -> tuple[float, float] | None:
    """(slope, intercept) of logit(shifted) over logit(clean) through a population of networks, by least squares.

    Accuracies are fractions. None for fewer than LEAST networks or where all have one clean accuracy: no line is
    determined.
    """
    x, y = _logits(clean), _logits(shifted)
    if len(x) < LEAST or np.ptp(x) < 1e-6:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(intercept)


def residual(line: tuple[float, float], clean: np.ndarray, shifted: np.ndarray) -> np.ndarray:
    """Shifted accuracy minus that on the line at the same clean accuracy, as fractions."""
    slope, intercept = line
    return np.asarray(shifted) - expit(slope * _logits(clean) + intercept)


def _logits(accuracies: np.ndarray) -> np.ndarray:
    """Of accuracies from 0 to 1; those of 0 and 1 stay finite."""
    return logit(np.clip(np.asarray(accuracies, np.float64), 1e-6, 1 - 1e-6))
