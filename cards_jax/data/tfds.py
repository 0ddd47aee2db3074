"""A data set of tensorflow-datasets: `data.dir` is its prepared folder, like .../cifar10/3.0.2.

Prepared folders in the array_record format are read without TensorFlow; everything else (preparing,
the tfrecord format) needs TensorFlow to be installed.
"""

import hashlib
import importlib
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from cards_jax.config import ConfigError
from cards_jax.data import pixels, store

INFO = "dataset_info.json"
FEATURES = "features.json"
SPLIT_NAMES = {"train": ("train",), "test": ("test", "validation")}
VERSION = 1  # of the way examples become arrays


def load(
    split: str,
    dir: str | None = None,
    download: bool = False,
    cache_dir: str | None = None,
    image_size: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Images (uint8 RGB) and labels (int32) of a split, in the order in which they were prepared.

    `download` allows preparing the folder, for which tensorflow-datasets needs TensorFlow.
    """
    arrays, _ = _recall(
        (f"{split}_images", f"{split}_labels"), dir, download, cache_dir, image_size
    )
    return arrays[f"{split}_images"], arrays[f"{split}_labels"]


def classes(
    dir: str | None,
    download: bool = False,
    cache_dir: str | None = None,
    image_size: int | None = None,
) -> tuple[str, ...]:
    """Names of the classes, as the prepared folder gives them."""
    return tuple(_recall((), dir, download, cache_dir, image_size)[1]["classes"])


def _recall(wanted: tuple[str, ...], dir: str | None, download: bool, cache_dir: str | None, size):
    if dir is None:
        raise ConfigError(
            "data.dir: is not given; data.name=tfds needs the prepared folder of a data set, like "
            "~/tensorflow_datasets/cifar10/3.0.2"
        )
    path = Path(dir).expanduser().resolve()
    if not (path / INFO).is_file():
        _prepare(path, download)
    sha = hashlib.sha256(f"{VERSION} {path} {size}".encode())
    for file in sorted(path.iterdir()):
        sha.update(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}".encode())
    entry = store.cache_folder(cache_dir) / "tfds" / sha.hexdigest()[:16]
    return store.recall(entry, wanted, lambda: _decode(path, size))


def uninstalled(path: Path, error: ImportError) -> ConfigError:
    return ConfigError(f'data.name: tfds cannot use {path}: {error}; pip install "cards_jax[tfds]"')


def _prepare(path: Path, download: bool) -> None:
    """Has tensorflow-datasets fill a folder .../<name>/<version>, if allowed and possible."""
    name, version, top = path.parent.name, path.name, path.parent.parent
    command = (
        f"tfds.builder('{name}:{version}', data_dir='{top}')"
        ".download_and_prepare(file_format='array_record')"
    )
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        inside = sorted(str(file.parent) for file in path.glob(f"*/{INFO}"))
        hint = f"it holds {', '.join(inside)}" if inside else "it should end in <name>/<version>"
        raise ConfigError(f"data.dir: {path} is no prepared folder (no {INFO}); {hint}")
    if not download:
        raise ConfigError(
            f"data.dir: {path} is not prepared (no {INFO}); set data.download=True or run {command}"
        )
    if find_spec("tensorflow") is None:
        raise ConfigError(
            f"data.dir: {path} is not prepared (no {INFO}), and preparing it needs TensorFlow: "
            f"pip install tensorflow, or run where TensorFlow is and copy the folder: {command}"
        )
    try:
        library = importlib.import_module("tensorflow_datasets")
        builder = library.builder(f"{name}:{version}", data_dir=top)
        builder.download_and_prepare(file_format="array_record")
    except ImportError as error:
        raise uninstalled(path, error) from error
    except Exception as error:  # not ours: network, disk, unknown name, ...
        raise ConfigError(f"data.dir: preparing {path} failed: {error}") from error


def _decode(path: Path, size: int | None) -> tuple[store.Arrays, store.Notes]:
    check_features(path)
    try:
        library = importlib.import_module("tensorflow_datasets")
        builder = library.builder_from_directory(path)
        image_key, label_key = builder.info.supervised_keys or ("image", "label")
        names = builder.info.features[label_key].names
        arrays: store.Arrays = {}
        for split, allowed in SPLIT_NAMES.items():
            found = next((name for name in allowed if name in builder.info.splits), None)
            if found is None:
                raise ValueError(f"it has no split {' or '.join(allowed)}")
            count = builder.info.splits[found].num_examples
            found_examples = examples(builder, found)
            pairs = ((example[image_key], example[label_key]) for example in found_examples)
            images, labels = stacked(pairs, count, size, f"decode {split}")
            if labels.min() < 0 or labels.max() >= len(names):
                raise ValueError(f"labels {labels.min()} to {labels.max()}, {len(names)} names")
            arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    except ConfigError:
        raise
    except ImportError as error:
        raise uninstalled(path, error) from error
    except Exception as error:  # its readers fail in their own ways
        raise ConfigError(f"data.dir: {path} cannot be read: {error}") from error
    return arrays, {"classes": names}


def examples(builder, split: str):
    """The examples of a split as dictionaries of numpy arrays."""
    if builder.info.file_format.value == "array_record":
        return builder.as_data_source(split=split)
    if find_spec("tensorflow") is None:
        raise ValueError(
            f"its format {builder.info.file_format.value} needs TensorFlow, array_record does not; "
            "convert it with `tfds convert_format` where TensorFlow is"
        )
    return importlib.import_module("tensorflow_datasets").as_numpy(builder.as_dataset(split=split))


def stacked(pairs, count: int, size: int | None, title: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = None, np.empty(count, np.int32)
    for i, (image, label) in enumerate(tqdm(pairs, title, count, unit=" images", disable=None)):
        rgb = _rgb(image, size)
        if images is None:
            images = np.empty((count, *rgb.shape), np.uint8)
        if rgb.shape != images.shape[1:]:
            raise ConfigError(
                f"data.image_size: image {i} has shape {rgb.shape}, the first {images.shape[1:]}; "
                "give data.image_size to bring all to one size"
            )
        images[i], labels[i] = rgb, label
    return images, labels


def _rgb(image: np.ndarray, size: int | None) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise ValueError(f"an image has dtype {image.dtype} and shape {image.shape}")
    rgb = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
    return rgb if size is None else np.asarray(pixels.fitted(Image.fromarray(rgb), size))


def check_features(path: Path) -> None:
    """Refuses features of classes outside the library, whose modules it would import."""
    try:
        features = json.loads((path / FEATURES).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"data.dir: {path / FEATURES} cannot be read: {error}") from error
    for name in _class_names(features):
        if not re.fullmatch(r"tensorflow_datasets\.core\.features\.[\w.]+", name):
            raise ConfigError(f"data.dir: {path / FEATURES} names {name!r}; it is not read")


def _class_names(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        keys = ("pythonClassName", "python_class_name", "type")
        yield from (node[key] for key in keys if isinstance(node.get(key), str))
        node = list(node.values())
    for child in node if isinstance(node, list) else ():
        yield from _class_names(child)
