"""Trees of image files train/<class>/<image> and test/<class>/<image>: folder, .tar, .tar.gz, .zip.

The tree is decoded once into the cache. `val` and `valid` serve as test where there is no `test`.
Images are dealt from the classes in turn, each class in the order of its file names, so that the
first n of them are balanced.
"""

import hashlib
import io
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from cards_jax.config import ConfigError
from cards_jax.data import pixels, store, trees

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")
SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val", "valid")}
FOLDERS = {folder for folders in SPLIT_FOLDERS.values() for folder in folders}
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
PIXEL_LIMIT = 2**26  # below the size at which Pillow itself warns of a decompression bomb
VERSION = 2  # of the way images become arrays: another one leaves the old cache entries alone


@dataclass(frozen=True)
class Item:
    """An image of the tree: its file name, split, row in the array of the split, and label."""

    name: str
    split: str
    row: int
    label: int


def load(
    split: str,
    dir: str | None = None,
    download: bool = False,
    cache_dir: str | None = None,
    image_size: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Images (uint8 RGB, all of one size) and labels (int32, classes sorted by name) of a split."""
    arrays, _ = _recall((f"{split}_images", f"{split}_labels"), dir, cache_dir, image_size)
    return arrays[f"{split}_images"], arrays[f"{split}_labels"]


def classes(
    dir: str | None,
    download: bool = False,
    cache_dir: str | None = None,
    image_size: int | None = None,
) -> tuple[str, ...]:
    """Names of the class folders below train/, sorted."""
    return tuple(_recall((), dir, cache_dir, image_size)[1]["classes"])


def _recall(wanted: tuple[str, ...], dir: str | None, cache_dir: str | None, size: int | None):
    if dir is None or not Path(dir).expanduser().exists():
        state = "is not given" if dir is None else f"{dir} does not exist"
        raise ConfigError(
            f"data.dir: {state}; allowed with data.name=folder is a folder, .tar, .tar.gz or .zip "
            "that holds train/<class>/<image> and test/<class>/<image>"
        )
    path = Path(dir).expanduser().resolve()
    entry = store.cache_folder(cache_dir) / "folder" / _key(path, size)
    return store.recall(entry, wanted, lambda: _decode(path, size))


def _key(path: Path, size: int | None) -> str:
    """Names the cache entry: differs by place, and by sizes and times of the source's files."""
    sha = hashlib.sha256(f"{VERSION} {path} {size}".encode())
    if path.is_file():
        sha.update(f"{path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    else:
        top = os.path.join(path, "")
        for name, length, _ in sorted(trees.files(path), key=lambda file: file[0]):
            changed = os.stat(top + name).st_mtime_ns
            sha.update(f"{name} {length} {changed}\n".encode(errors="surrogateescape"))
    return sha.hexdigest()[:16]


def _decode(path: Path, size: int | None) -> tuple[store.Arrays, store.Notes]:
    """Decodes every image into its place; walks the tree once for the names, once for the bytes."""
    lengths = _lengths(path)
    items, names = _arranged(path, lengths)
    # Threads pay for photographs; for thumbnails Python itself is the work, and they cost time.
    threads = sum(lengths[name] for name in items) > 16_384 * len(items)
    decoded = _decoded(path, items, size, threads)
    bar = tqdm(decoded, "decode", len(items), unit=" images", disable=None)
    return _collected(path, items, bar), {"classes": names}


def _collected(
    path: Path, items: dict[str, Item], decoded: Iterable[tuple[Item, np.ndarray]]
) -> store.Arrays:
    arrays: store.Arrays = {}
    missing = len(items)
    for item, image in decoded:
        if not arrays:
            first, arrays = item, _allocated(path, items, image.shape)
        images = arrays[f"{item.split}_images"]
        if image.shape != images.shape[1:]:
            raise ConfigError(
                f"data.image_size: {path}: {item.name} has height and width {image.shape[:2]}, "
                f"{first.name} has {images.shape[1:3]}; give data.image_size to bring all images "
                "to one size"
            )
        images[item.row] = image
        arrays[f"{item.split}_labels"][item.row] = item.label
        missing -= 1
    if missing:
        raise ConfigError(f"data.dir: {path} changed while it was read")
    return arrays


def _lengths(path: Path) -> dict[str, int]:
    lengths: dict[str, int] = {}
    for name, length, _ in trees.files(path):
        if name in lengths:
            raise ConfigError(f"data.dir: {path} holds {name!r} twice")
        lengths[name] = length
    return lengths


def _arranged(path: Path, names: Iterable[str]) -> tuple[dict[str, Item], list[str]]:
    """The images among the names, each with its place in the arrays; and the classes."""
    groups: dict[str, dict[str, list[str]]] = {}
    tops = set()
    for name in names:
        if parts := _parts(path, name):
            top, folder, label = parts
            tops.add(top)
            groups.setdefault(folder, {}).setdefault(label, []).append(name)
    if len(tops) > 1:
        raise ConfigError(f"data.dir: {path} holds several trees, below {sorted(tops)}; name one")
    labels = sorted(groups.get("train", ()))
    items = {}
    for split, folders in SPLIT_FOLDERS.items():
        group = next((groups[folder] for folder in folders if folder in groups), None)
        if group is None:
            raise ConfigError(
                f"data.dir: {path} holds no {split} images; allowed is "
                f"{' or '.join(f'{folder}/<class>/<image>' for folder in folders)}"
            )
        if unknown := sorted(set(group) - set(labels)):
            raise ConfigError(f"data.dir: {path}: class {unknown[0]!r} of {split} is not in train")
        for row, (label, name) in enumerate(_dealt(group)):
            items[name] = Item(name, split, row, labels.index(label))
    return items, labels


def _parts(path: Path, name: str) -> tuple[str, str, str] | None:
    """Folder around the tree, split folder and class of an image file; None for any other file."""
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") for part in parts) or parts[0] == "__MACOSX"
    if hidden or PurePosixPath(name).suffix.lower() not in SUFFIXES:
        return None
    at = next((i for i in (0, 1) if parts[i : i + 1] and parts[i] in FOLDERS), None)
    if at is None:
        return None
    if len(parts) < at + 3:
        raise ConfigError(f"data.dir: {path}: {name!r} lies in no class folder")
    if not parts[at + 1].isprintable():
        raise ConfigError(f"data.dir: {path}: the class name {parts[at + 1]!r} is not printable")
    return "/".join(parts[:at]), parts[at], parts[at + 1]


def _dealt(group: dict[str, list[str]]) -> list[tuple[str, str]]:
    """(class, file name) pairs: the first file of every class, then the second, and so on."""
    columns = [[(label, name) for name in sorted(group[label])] for label in sorted(group)]
    return [pair for row in zip_longest(*columns) for pair in row if pair is not None]


def _allocated(path: Path, items: dict[str, Item], shape: tuple[int, ...]) -> store.Arrays:
    counts = Counter(item.split for item in items.values())
    needed = len(items) * math.prod(shape)
    if needed > (memory := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        raise ConfigError(
            f"data.image_size: {path} decodes to {needed:,} bytes at {shape[:2]}, more than the "
            f"{memory:,} bytes of this machine's memory; give a smaller data.image_size"
        )
    images = {f"{split}_images": np.empty((n, *shape), np.uint8) for split, n in counts.items()}
    labels = {f"{split}_labels": np.empty(n, np.int32) for split, n in counts.items()}
    return images | labels


def _decoded(
    path: Path, items: dict[str, Item], size: int | None, threads: bool
) -> Iterator[tuple[Item, np.ndarray]]:
    """Each item with its pixels, in the order of the tree."""

    def decode(pair: tuple[Item, bytes]) -> tuple[Item, np.ndarray]:
        return pair[0], _pixels(pair[1], size, f"{path}: {pair[0].name}")

    files = trees.files(path)
    found = ((items[name], read_bytes()) for name, _, read_bytes in files if name in items)
    if not threads:
        yield from map(decode, found)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while batch := list(islice(found, 256)):  # not all at once: their bytes wait in memory
            yield from pool.map(decode, batch)


def _pixels(raw: bytes, size: int | None, where: str) -> np.ndarray:
    try:
        return decoded(raw, size)
    except Exception as error:  # Pillow fails in a dozen ways on damaged files
        raise ConfigError(f"data.dir: {where} is no readable 8-bit image: {error}") from error


def _opened(raw: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(raw), formats=FORMATS)
    except UnidentifiedImageError:  # its message is the address of an object
        raise ValueError(f"it begins with {raw[:8]!r}; read are {', '.join(FORMATS)}") from None


def decoded(raw: bytes, size: int | None) -> np.ndarray:
    """RGB pixels, uint8 HWC, of an encoded image; of an animation or a file of several pages the first.

    The way up that a camera wrote down (EXIF) is kept to.

    What is damaged or refused raises many kinds of exceptions.
    """
    with _opened(raw) as image:
        if image.width * image.height > PIXEL_LIMIT:
            raise ValueError(f"{image.width}x{image.height} are more than {PIXEL_LIMIT:,} pixels")
        if image.mode in DEEP_MODES:
            raise ValueError(f"mode {image.mode}, more than 8 bits a channel")
        ImageOps.exif_transpose(image, in_place=True)
        if "transparency" in image.info:
            image = image.convert("RGBA")
        image = image.convert("RGB")
        return np.asarray(image if size is None else pixels.fitted(image, size))
