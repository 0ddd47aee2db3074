"""A whole set of corrupted images in files of the published layout, from any test set."""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

from cards_jax import files
from cards_jax.config import ConfigError
from cards_jax.corruptions import frost
from cards_jax.corruptions.catalog import BENCHMARK, EXTRA, find
from cards_jax.corruptions.program import check_images, corrupt, flavours
from cards_jax.corruptions.severity import SEVERITIES

LABELS, RECORD = "labels.npy", "made.json"
PIECE = 2000  # images on their way between host and devices


def make(
    images: np.ndarray,
    labels: np.ndarray,
    folder: str | Path,
    seed: int = 0,
    names: Sequence[str] | None = None,
    progress: bool = True,
) -> Path:
    """Write NAME.npy for every name: uint8 (5 N, H, H, 3), the images at severity 1, then 2, ...; gives the folder.

    images: uint8 (N, H, H, 3). labels: integers (N,), written five times over to labels.npy. names: those of
    CIFAR-10-C by default. What an image becomes depends on seed, name, severity and its place in the set,
    and not on the other names. A file appears when it is complete and is not made again; made.json says
    from what, and in which flavours, the folder was made. All local devices share the work.

    Raises ConfigError for an unknown name or a folder made from something else, ValueError for images or
    labels of another kind, OSError where the folder cannot be written.
    """
    names = list(BENCHMARK + EXTRA if names is None else names)
    for name in names:
        find(name)
    check_images(images)
    images, labels, folder = np.asarray(images), np.asarray(labels), Path(folder)
    _check_labels(labels, len(images))
    folder.mkdir(parents=True, exist_ok=True)
    _record(folder, images, seed)
    with _complete(folder / LABELS) as file:
        np.save(
            file, np.tile(labels, len(SEVERITIES)).astype(np.min_scalar_type(int(labels.max())))
        )
    missing = [name for name in names if not _is_complete(folder / f"{name}.npy", images)]
    total = len(missing) * len(SEVERITIES) * len(images)
    with tqdm(total=total, unit="image", disable=not progress) as bar:
        for name in missing:
            bar.set_description(name)
            _write(folder / f"{name}.npy", name, images, jax.random.key(seed), bar.update)
    return folder


def key_of(key: Array, name: str, severity: int) -> Array:
    """The key of one corruption at one severity: the same for every set of names."""
    digest = hashlib.sha256(name.encode()).digest()
    return jax.random.fold_in(jax.random.fold_in(key, int.from_bytes(digest[:4])), severity)


def _write(
    path: Path, name: str, images: np.ndarray, key: Array, advance: Callable[[int], None]
) -> None:
    shape = (len(SEVERITIES) * len(images), *images.shape[1:])
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with _complete(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for severity in SEVERITIES:
            for first in range(0, len(images), PIECE):
                piece = images[first : first + PIECE]
                made = spread(key_of(key, name, severity), piece, name, severity, first)
                file.write(made.tobytes())
                advance(len(piece))


def spread(key: Array, images: np.ndarray, name: str, severity: int, first: int = 0) -> np.ndarray:
    """What `corrupt` gives, with the images split over all local devices."""
    count = len(images)
    each = -(-count // jax.local_device_count())
    blank = ((0, each * jax.local_device_count() - count), (0, 0), (0, 0), (0, 0))
    program = _program(name, each, frost.chosen())
    return np.asarray(program(key, np.pad(images, blank), severity, first))[:count]


@functools.lru_cache(maxsize=4)
def _program(name: str, each: int, textures: str | None) -> Callable:
    """`corrupt` with the images split over the local devices, `each` on every one."""
    del textures  # what frost takes while it is traced
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("images",), (AxisType.Auto,), devices=devices)

    def part(key, images, severity, first):
        start = first + each * jax.lax.axis_index("images")
        return corrupt(key, images, name, severity, start)

    split = P("images")
    return jax.jit(
        jax.shard_map(
            part, mesh=mesh, in_specs=(P(), split, P(), P()), out_specs=split, check_vma=False
        )
    )


def _record(folder: Path, images: np.ndarray, seed: int) -> None:
    """Write what the folder is made from, or check it against what is written there."""
    mine = {
        "images": hashlib.sha256(np.ascontiguousarray(images)).hexdigest(),
        "shape": list(images.shape),
        "seed": int(seed),
        "flavours": flavours(images.shape[1]),
    }
    path = folder / RECORD
    if not path.exists():
        files.write_atomically(path, json.dumps(mine, indent=1) + "\n")
        return
    try:
        its = json.loads(path.read_text())
        differs = next((field for field in mine if its[field] != mine[field]), None)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{str(path)!r} cannot be read ({error}); remove the folder") from None
    if differs:
        raise ConfigError(
            f"{str(folder)!r} was made with {differs} {its[differs]}, not {mine[differs]}: "
            "choose another folder"
        )


def _is_complete(path: Path, images: np.ndarray) -> bool:
    if not path.exists():
        return False
    shape = (len(SEVERITIES) * len(images), *images.shape[1:])
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        return False
    return found.shape == shape and found.dtype == np.uint8


@contextlib.contextmanager
def _complete(path: Path) -> Iterator[BinaryIO]:
    """A file to be written, which has its name only when it is whole and on the disk."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    files.sync(path.parent)


def _check_labels(labels: np.ndarray, count: int) -> None:
    whole = labels.shape == (count,) and np.issubdtype(labels.dtype, np.integer)
    if not count or not whole or labels.min() < 0:
        raise ValueError(
            f"labels: got {labels.dtype} {labels.shape}; "
            f"allowed are {count or 'one or more'} whole numbers from 0, one for every image"
        )
