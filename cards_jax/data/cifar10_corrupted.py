"""`cifar10_corrupted` of tensorflow-datasets, prepared: one folder for every corruption and severity."""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cards_jax import corruptions
from cards_jax.config import ConfigError
from cards_jax.data import tfds
from cards_jax.data.corrupted import Clean, Source, digest, refuse_cifar100

NAMES = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}  # of the library


def source(place: Path, clean: Clean, names: Sequence[str], count: int) -> Source:
    """Prepared folders .../cifar10_corrupted/NAME_SEVERITY/VERSION, in the order in which they were prepared.

    That order is the same for all of them, which is checked by their labels. Raises ConfigError for what is not
    prepared or not installed.
    """
    refuse_cifar100(place, clean)
    folders = {name: [_prepared(place, name, s) for s in corruptions.SEVERITIES] for name in names}
    images, labels = _decode(next(iter(folders.values()))[0])
    if not 0 <= count <= len(labels):
        raise ConfigError(
            f"evaluate.corruption_images={count}: allowed are 0 (all) to {len(labels)}"
        )
    whole = len(labels) == 10_000 and (np.bincount(labels, minlength=10) == 1000).all()
    infos = sorted(place.glob(f"*_[1-5]/*/{tfds.INFO}"))
    state = [(f.parts[-3:-1], f.stat().st_size, f.stat().st_mtime_ns) for f in infos]
    return Source(
        name="CIFAR-10-C (tensorflow-datasets)" if whole else f"corrupted images in {place.name}",
        kind="tfds",
        identity=digest("tfds", state, count, labels),
        names=tuple(names),
        labels=labels[: count or None],
        image_HWC=images.shape[1:],
        read=_Reader(folders, labels),
        benchmark="cifar10" if whole else None,
    )


class _Reader:
    """Decodes a corruption when its first rows are asked for, and keeps it until another one is."""

    def __init__(self, folders: dict[str, list[Path]], labels: np.ndarray):
        self.folders, self.labels = folders, labels
        self.name, self.images = None, None

    def __call__(self, name: str, first: int, count: int) -> np.ndarray:
        if self.name != name:
            self.images = None  # its memory goes first
            self.images = np.stack([self._block(folder) for folder in self.folders[name]])
            self.name = name
        return self.images[:, first : first + count]

    def _block(self, folder: Path) -> np.ndarray:
        images, labels = _decode(folder)
        if not np.array_equal(labels, self.labels):
            raise ConfigError(
                f"evaluate.corruptions_dir: {folder} holds its images in another order than the other folders"
            )
        return images


def _prepared(place: Path, name: str, severity: int) -> Path:
    found = f"{NAMES.get(name, name)}_{severity}"
    versions = [f.parent for f in (place / found).glob(f"*/{tfds.INFO}")]
    if not versions:
        command = (
            f"tfds.builder('cifar10_corrupted/{found}', data_dir='{place.parent}')"
            ".download_and_prepare(file_format='array_record')"
        )
        raise ConfigError(
            f"evaluate.corruptions_dir: {place} holds no prepared {found}; run, where TensorFlow is: {command}"
        )
    number = lambda f: [int(x) for x in re.findall(r"\d+", f.name)]
    return max(versions, key=number)


def _decode(path: Path) -> tuple[np.ndarray, np.ndarray]:
    tfds.check_features(path)
    try:
        library = importlib.import_module("tensorflow_datasets")
        builder = library.builder_from_directory(path)
        count = builder.info.splits["test"].num_examples
        pairs = ((e["image"], e["label"]) for e in tfds.examples(builder, "test"))
        return tfds.stacked(pairs, count, None, f"decode {path.parent.name}")
    except ConfigError:
        raise
    except ImportError as error:
        raise tfds.uninstalled(path, error) from error
    except Exception as error:  # its readers fail in their own ways
        raise ConfigError(f"evaluate.corruptions_dir: {path} cannot be read: {error}") from error
