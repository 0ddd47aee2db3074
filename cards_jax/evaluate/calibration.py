"""Expected calibration error: how far confidence is from accuracy, over bins of confidence."""

import numpy as np

BINS = 15


def bins(confidence_N: np.ndarray, correct_N: np.ndarray, count: int = BINS) -> np.ndarray:
    """float64 (count, 3): images, correct ones and the sum of confidences in each of the equal bins of (0, 1].

    An upper edge belongs to its bin, as in Guo et al. 2017. The confidence of a network that answers NaN is 0.
    """
    confidence_N = np.nan_to_num(confidence_N)
    place = np.clip(np.ceil(confidence_N * np.float64(count)).astype(int) - 1, 0, count - 1)
    columns = (None, correct_N.astype(np.float64), confidence_N.astype(np.float64))
    return np.stack([np.bincount(place, weights, count) for weights in columns], -1)


def error(bins: np.ndarray) -> np.ndarray:
    """Mean over images of |accuracy - confidence| of their bin, in [0, 1]: of bins (..., count, 3) the shape (...)."""
    images, correct, confidence = np.moveaxis(bins, -1, 0)
    return np.abs(correct - confidence).sum(-1) / images.sum(-1)
