"""CIFAR-10: 50,000 training and 10,000 test photographs of 10 classes (Krizhevsky 2009)."""

import numpy as np

from cards_jax.data import cifar

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
MEAN = (0.491, 0.482, 0.447)
STD = (0.247, 0.243, 0.262)

LAYOUT = cifar.Layout(
    name="cifar10",
    classes=10,
    batches={
        "train": {f"data_batch_{i}": 10_000 for i in range(1, 6)},
        "test": {"test_batch": 10_000},
    },
    label_bytes=1,
    label_key="labels",
    binary=cifar.Form(
        cifar.remote(
            "cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
        "cifar-10-batches-bin",
        ".bin",
    ),
    python=cifar.Form(
        cifar.remote(
            "cifar-10-python.tar.gz",
            170_498_071,
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        ),
        "cifar-10-batches-py",
        "",
    ),
)


def load(
    split: str,
    dir: str | None = None,
    download: bool = False,
    cache_dir: str | None = None,
    image_size: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Images (uint8, N x 32 x 32 x 3) and labels (int32) of a split, in the official order."""
    return cifar.read(LAYOUT, split, dir, download, cache_dir)
