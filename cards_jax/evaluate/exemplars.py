"""Images on which compressed networks as a population disagree with dense ones (Hooker et al. 2019)."""

import numpy as np


def modal(predicted_RN: np.ndarray) -> np.ndarray:
    """The class that most of the networks give, (...): of integers (R, ...); of several that tie the lowest."""
    predicted = np.asarray(predicted_RN)
    best = np.zeros(predicted.shape[1:], predicted.dtype)
    most = np.zeros(predicted.shape[1:], np.int64)
    for k in range(int(predicted.max()) + 1):
        votes = (predicted == k).sum(0)
        best = np.where(votes > most, predicted.dtype.type(k), best)
        most = np.maximum(votes, most)
    return best


def disagree(compressed_RN: np.ndarray, dense_RN: np.ndarray) -> np.ndarray:
    """bool (...): whether the modal class of the compressed networks is another than that of the dense ones."""
    return modal(compressed_RN) != modal(dense_RN)
