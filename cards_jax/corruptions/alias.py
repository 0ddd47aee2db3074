"""Walker's alias method: a sample from any of many discrete distributions for one table look-up."""

import numpy as np


def table(probabilities: np.ndarray) -> np.ndarray:
    """Tables for distributions over 256 outcomes: float64 (R, 256), rows sum to 1, gives uint32 (R, 256).

    An entry packs a threshold of 24 bits and, below it, an outcome of 8. Of 32 random bits the upper 8
    name an outcome and its entry; it stands if the lower 24 are below the threshold, else the entry's does.
    """
    share = probabilities * 256
    row = np.arange(len(share))
    threshold, other = np.ones_like(share), np.tile(np.arange(256), (len(share), 1))
    waiting = np.ones(share.shape, bool)
    for _ in range(
        255
    ):  # the poorest outcome takes from the richest what it lacks, in all rows at once
        poor = np.where(waiting, share, np.inf).argmin(1)
        rich = np.where(waiting, share, -np.inf).argmax(1)
        threshold[row, poor], other[row, poor] = share[row, poor], rich
        share[row, rich] -= 1 - share[row, poor]
        waiting[row, poor] = False
    full = threshold >= 1 - 2.0**-25
    cut = np.where(full, 0, np.rint(threshold.clip(0, 1) * 2**24)).astype(np.uint32)
    other = np.where(full, np.arange(256), other).astype(np.uint32)  # either way the outcome itself
    return (cut << 8) | other
