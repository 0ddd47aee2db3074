"""1,797 handwritten digits of 8x8 pixels that come with scikit-learn: no network needed."""

import numpy as np
from PIL import Image

from cards_jax.config import ConfigError
from cards_jax.data import partition, pixels

CLASSES = tuple("0123456789")
TEST_IMAGES = 360


def load(
    split: str,
    dir: str | None = None,
    download: bool = False,
    cache_dir: str | None = None,
    image_size: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A fixed stratified split, 1,437 train and 360 test, resized to 32x32x3 or to `image_size`.

    There is nothing to find or fetch: `download` and `cache_dir` are not looked at. Raises ConfigError for a `dir`,
    which belongs to other images.
    """
    if dir is not None:
        raise ConfigError(
            f"data.dir={dir!r}: data.name='digits' comes with scikit-learn; allowed are None, or another data.name"
        )
    from sklearn.datasets import load_digits  # takes a second to import

    bunch = load_digits()
    labels = bunch.target.astype(np.int32)
    test = partition.chosen_per_class(labels, _test_counts(labels), "digits")
    rows = test if split == "test" else np.delete(np.arange(len(labels)), test)
    grey = np.rint(bunch.images[rows] * (255 / 16)).astype(np.uint8)
    size = image_size or 32
    images = np.stack([pixels.fitted(Image.fromarray(image), size) for image in grey])
    return np.repeat(images[..., None], 3, axis=3), labels[rows]


def _test_counts(labels_N: np.ndarray) -> np.ndarray:
    """Test images per class: in proportion, the rest to the classes that come closest to more."""
    shares_K = np.bincount(labels_N) * TEST_IMAGES / len(labels_N)
    counts_K = np.floor(shares_K).astype(int)
    order = np.argsort(counts_K - shares_K, kind="stable")
    counts_K[order[: TEST_IMAGES - counts_K.sum()]] += 1
    return counts_K
