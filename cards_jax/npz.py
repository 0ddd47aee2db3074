"""Card files of the first format, an .npz of whole arrays: still read, no longer written."""

import functools
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from cards_jax import models
from cards_jax.card import Card
from cards_jax.tree import flatten, map_leaves, unflatten

MAGIC = b"PK\x03\x04"  # of a zip
FORMAT = 1
PARTS = ("params", "mask", "stats")
DEFLATE_MOST = 1032  # the deflate format packs no byte stream smaller than by this factor


def is_archive(path: str | Path) -> bool:
    """Whether a file is a zip, by its first bytes; OSError where it cannot be read."""
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def decode(content: bytes) -> tuple[Card, models.Spec, dict[str, Any]]:
    """(card, spec, meta) of a file's content, without ever allocating more than its arrays take.

    Damaged content raises a dozen kinds of exceptions.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return _read(archive, len(content))


def _read(archive: zipfile.ZipFile, most: int) -> tuple[Card, models.Spec, dict[str, Any]]:
    header = _member(archive, "header", most)
    digest = hashlib.sha256(header).digest()
    if _member(archive, "sha256", most).tobytes() != digest:
        raise ValueError("header does not fit its SHA-256")
    content = json.loads(header.tobytes())
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}, an .npz has format {FORMAT}")
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in content["spec"].items()}
    spec, promises = models.Spec(**fields), content["arrays"]
    if sorted(archive.namelist()) != sorted(f"{x}.npy" for x in ("header", "sha256", *promises)):
        raise ValueError("arrays do not fit the header")
    _check_promises(promises, spec)
    arrays = {name: _array(archive, name, promises[name], most) for name in promises}
    return _card(arrays), spec, content["meta"]


def _check_promises(promises: dict[str, dict], spec: models.Spec) -> None:
    """Raise ValueError unless the header lists the arrays of its network: all, but that masks may be missing."""
    wanted = _wanted(spec)
    lacking = [name for name in wanted if name not in promises and not name.startswith("mask/")]
    foreign = [name for name in promises if name not in wanted]
    if lacking or foreign:
        raise ValueError(f"its network {'lacks' if lacking else 'has no'} {(lacking + foreign)[0]}")
    for name, promise in promises.items():
        if {k: promise[k] for k in ("dtype", "shape")} != wanted[name]:
            raise ValueError(f"{name} is {promise['dtype']}{promise['shape']}, not {wanted[name]}")


@functools.cache
def _wanted(spec: models.Spec) -> dict[str, dict[str, Any]]:
    """{name: dtype and shape} of every array that a card of this network may have."""
    described = lambda x: {"dtype": str(x.dtype), "shape": list(x.shape)}
    params, stats = (flatten(x) for x in models.shapes(spec))
    out = {f"params/{path}": described(x) for path, x in params.items()}
    out.update({f"stats/{path}": described(x) for path, x in stats.items()})
    bits = {f"mask/{path}": -(-int(np.prod(x.shape)) // 8) for path, x in params.items()}
    return out | {name: {"dtype": "uint8", "shape": [count]} for name, count in bits.items()}


def _member(
    archive: zipfile.ZipFile, name: str, most: int, shape: list | None = None
) -> np.ndarray:
    """An array of bytes or floats from a zip of `most` bytes, its size checked before anything is allocated."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_size > most or info.file_size > DEFLATE_MOST * info.compress_size:
        raise ValueError(f"{name} cannot hold {info.file_size} bytes")
    file = io.BytesIO(archive.read(info))
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{name} is of another numpy format")
    found, _, dtype = np.lib.format.read_array_header_1_0(file)
    if shape is not None and list(found) != shape:
        raise ValueError(f"{name} has shape {found}, not {tuple(shape)}")
    return np.frombuffer(file.read(), dtype).reshape(found)


def _array(archive: zipfile.ZipFile, name: str, promise: dict, most: int) -> np.ndarray:
    x = _member(archive, name, most, promise["shape"])
    if str(x.dtype) != promise["dtype"] or hashlib.sha256(x).hexdigest() != promise["sha256"]:
        raise ValueError(f"{name} does not fit its SHA-256")
    return x


def _card(arrays: dict[str, np.ndarray]) -> Card:
    parts: dict[str, dict] = {part: {} for part in PARTS}
    for name, x in arrays.items():
        part, path = name.split("/", 1)
        parts[part][path] = x
    for path, bits in parts["mask"].items():
        shape = parts["params"][path].shape
        mask = np.unpackbits(bits, count=int(np.prod(shape)))
        parts["mask"][path] = mask.astype(bool).reshape(shape)
    params = unflatten(parts["params"])
    nothing = map_leaves(lambda _: None, params)
    holes = {path: parts["mask"].get(path) for path in parts["params"]}
    return Card(params, nothing, unflatten(holes), unflatten(parts["stats"]))
