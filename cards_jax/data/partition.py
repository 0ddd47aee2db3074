"""Which training images are held out, which are kept: the same on every machine, for every seed."""

import hashlib

import numpy as np

from cards_jax.config import ConfigError


def chosen_per_class(labels_N: np.ndarray, counts_K: np.ndarray, salt: str) -> np.ndarray:
    """Sorted indices of counts_K[k] images of each class k, scattered over the class.

    The order of preference is by SHA-256 of salt and index: random streams may change between numpy
    releases, this does not. A larger count contains the smaller one's choice.
    """
    chosen = []
    for k, count in enumerate(counts_K):
        members = np.flatnonzero(labels_N == k)
        ranked = sorted(members, key=lambda i: hashlib.sha256(f"{salt}:{i}".encode()).digest())
        chosen += ranked[:count]
    return np.sort(np.array(chosen, np.int64))


def holdout(labels_N: np.ndarray, count: int, classes: int) -> np.ndarray:
    """Sorted indices of `count` images: as many of each class, or one more of the first classes."""
    available = max(0, np.bincount(labels_N, minlength=classes).min() - 1) * classes
    if count > available:
        raise ConfigError(
            f"holdout: got {count}; allowed are 0 to {available}, the same number of each of the "
            f"{classes} classes and one image of each left to train on"
        )
    counts_K = np.full(classes, count // classes) + (np.arange(classes) < count % classes)
    return chosen_per_class(labels_N, counts_K, "holdout")


def subset(labels_N: np.ndarray, first: int, per_class: int) -> np.ndarray:
    """Sorted indices of the `first` images, or of the first `per_class` of each class; 0 is all."""
    total, smallest = len(labels_N), np.unique(labels_N, return_counts=True)[1].min()
    if first > total:
        raise ConfigError(f"data.subset: got {first}; allowed are 0 (all) to {total} images")
    if per_class > smallest:
        raise ConfigError(
            f"data.subset_per_class: got {per_class}; allowed are 0 (all) to {smallest}, "
            "the number of training images of the smallest class"
        )
    if per_class:
        members = [np.flatnonzero(labels_N == k)[:per_class] for k in np.unique(labels_N)]
        return np.sort(np.concatenate(members))
    return np.arange(first or total)
