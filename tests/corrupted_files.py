"""Corrupted test sets in small files of the published layout, on which accuracies are known."""

from pathlib import Path

import numpy as np

from cards_jax.corruptions import BENCHMARK, EXTRA
from cards_jax.data.corrupted import Clean

SEVERITIES, CLASSES, SIDE = 5, 4, 8


def labels(count: int = 20) -> np.ndarray:
    return (np.arange(count) % CLASSES).astype(np.int32)


def showing(classes: np.ndarray) -> np.ndarray:
    """Images whose first value is 50 times a class, which `logits` reads off."""
    images = np.random.default_rng(0).integers(0, 256, (len(classes), SIDE, SIDE, 3), np.uint8)
    images[:, 0, 0, 0] = 50 * classes
    return images


def logits(images: np.ndarray) -> np.ndarray:
    """What a classifier says that answers what the image shows, quite sure of it."""
    shown = np.asarray(images)[:, 0, 0, 0].astype(int) // 50
    return 5.0 * (shown[:, None] == np.arange(CLASSES))


def right(name: str, severity: int, count: int = 20) -> int:
    """How many images of a cell show their own class: none of those that the benchmark does not hold."""
    if name not in BENCHMARK:
        return 0
    return count - (3 * BENCHMARK.index(name) + 2 * severity) % (count // 2 + 1)


def write(folder: Path, names=BENCHMARK + EXTRA, count: int = 20) -> Path:
    """The files; the first images of each block are those that are answered rightly."""
    folder.mkdir(parents=True, exist_ok=True)
    own = labels(count)
    np.save(folder / "labels.npy", np.tile(own, SEVERITIES).astype(np.uint8))
    for name in names:
        blocks = [
            showing(np.where(np.arange(count) < right(name, s, count), own, (own + 1) % CLASSES))
            for s in range(1, SEVERITIES + 1)
        ]
        np.save(folder / f"{name}.npy", np.concatenate(blocks))
    return folder


def clean(count: int = 20) -> Clean:
    return Clean(showing(labels(count)), labels(count), "folder", "Squares")
