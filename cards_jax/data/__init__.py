"""Images and labels: every source ends as uint8 images_NHWC and int32 labels_N.

A source is a module of this folder that defines

    load(split, dir, download, cache_dir, image_size) -> (images_NHWC, labels_N)

and the constants `CLASSES`, `MEAN` and `STD` where it knows them. Where classes depend on the
files, it defines `classes(dir, download, cache_dir, image_size)` instead; a missing MEAN or STD is
measured on the training images.
"""

import difflib
import hashlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import numpy as np

from cards_jax.config import ConfigError
from cards_jax.data import partition, pixels

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Description:
    """Names of the classes, and mean and standard deviation per channel in units of [0, 1]."""

    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Data:
    """What a run trains and measures on.

    Images are uint8 NHWC, labels int32 in [0, len(classes)). Holdout images were taken out of the
    training images; `holdout_hash` names that list and is None when there is none. `mean`, `std`
    and `fingerprint` (of every image, label and class name) belong to the whole data set, before
    holdout and subset, so they change with neither.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    holdout_images: np.ndarray
    holdout_labels: np.ndarray
    holdout_hash: str | None
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str


def names() -> list[str]:
    """Names of all sources."""
    modules = (info.name for info in pkgutil.iter_modules(__path__))
    return [name for name in modules if hasattr(import_module(f"{__name__}.{name}"), "load")]


def load(
    name: str,
    split: str,
    dir: str | None = None,
    *,
    download: bool = False,
    cache_dir: str | None = None,
    image_size: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """All images (uint8 NHWC) and labels (int32 N) of a split, 'train' or 'test', in a fixed order.

    `image_size` resizes to that many pixels a side. Raises ConfigError, naming the field or the
    file, for whatever is unknown, missing, damaged or refused.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    _check_image_size(image_size)
    images, labels = _source(name).load(split, dir, download, cache_dir, image_size)
    return pixels.resized(images, image_size), labels


def describe(
    name: str,
    dir: str | None = None,
    *,
    download: bool = False,
    cache_dir: str | None = None,
    image_size: int | None = None,
) -> Description:
    """Classes, mean and standard deviation of a source, measured where it does not know them."""
    place = dict(dir=dir, download=download, cache_dir=cache_dir, image_size=image_size)
    source = _source(name)
    images = None if hasattr(source, "MEAN") else load(name, "train", **place)[0]
    return _description(source, place, images)


def prepare(c) -> Data:
    """The data that config `c` asks for: fields `c.data.*` and `c.holdout` (images, 0 = none).

    The holdout is chosen from the full training split, so it is the same list whatever the subset
    or the seed. Raises ConfigError before anything is read where a number cannot be right.
    """
    d = c.data
    _check_numbers(c)
    place = dict(dir=d.dir, download=d.download, cache_dir=d.cache_dir, image_size=d.image_size)
    train_images, train_labels = load(d.name, "train", **place)
    test_images, test_labels = load(d.name, "test", **place)
    about = _description(_source(d.name), place, train_images)
    fingerprint = digest(train_images, train_labels, test_images, test_labels, words=about.classes)
    held = partition.holdout(train_labels, c.holdout, len(about.classes))
    kept = np.delete(np.arange(len(train_labels)), held)
    kept = kept[partition.subset(train_labels[kept], d.subset, d.subset_per_class)]
    return Data(
        train_images=train_images[kept],
        train_labels=train_labels[kept],
        test_images=test_images,
        test_labels=test_labels,
        holdout_images=train_images[held],
        holdout_labels=train_labels[held],
        holdout_hash=digest(held, words=(d.name, fingerprint)) if c.holdout else None,
        classes=about.classes,
        mean=about.mean,
        std=about.std,
        fingerprint=fingerprint,
    )


def digest(*arrays: np.ndarray, words: Sequence[str] = ()) -> str:
    """First 16 hexadecimal digits of the SHA-256 of arrays (shape, dtype, contents) and words."""
    sha = hashlib.sha256(repr(tuple(words)).encode())
    for array in arrays:
        sha.update(f"{array.shape} {array.dtype.str}".encode())
        sha.update(np.ascontiguousarray(array))
    return sha.hexdigest()[:16]


def _source(name: str) -> ModuleType:
    allowed = names()
    if name not in allowed:
        near = difflib.get_close_matches(str(name), allowed, 1, 0.4)
        nearest = f"; the nearest name is {near[0]!r}" if near else ""
        raise ConfigError(
            f"data.name: {name!r} is not known; allowed are {', '.join(allowed)}{nearest}"
        )
    return import_module(f"{__name__}.{name}")


def _description(source: ModuleType, place: dict, train_images: np.ndarray | None) -> Description:
    classes = source.CLASSES if hasattr(source, "CLASSES") else source.classes(**place)
    if hasattr(source, "MEAN"):
        return Description(classes, source.MEAN, source.STD)
    return Description(classes, *pixels.mean_and_std(train_images))


def _check_image_size(size: int | None) -> None:
    if size is not None and not 1 <= size <= 1024:
        raise ConfigError(f"data.image_size: got {size}; allowed are None (as it is) and 1 to 1024")


def _check_numbers(c) -> None:
    _check_image_size(c.data.image_size)
    fields = {
        "holdout": c.holdout,
        "data.subset": c.data.subset,
        "data.subset_per_class": c.data.subset_per_class,
    }
    for field, value in fields.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ConfigError(f"{field}: got {value!r}; allowed is a whole number from 0")
    if c.data.subset and c.data.subset_per_class:
        raise ConfigError(
            f"data.subset: got {c.data.subset} while data.subset_per_class is "
            f"{c.data.subset_per_class}; at most one of them may differ from 0"
        )
