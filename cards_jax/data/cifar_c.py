"""CIFAR-10-C and CIFAR-100-C as published: NAME.npy with five blocks of severities, in a folder or in its .tar.

Nothing is unpacked and no pickle is read: arrays are mapped where they lie, the tar being uncompressed.
"""

import hashlib
import json
import math
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from cards_jax import corruptions
from cards_jax.config import ConfigError
from cards_jax.data import store
from cards_jax.data.corrupted import Clean, Source, digest, in_words, refuse_cifar100
from cards_jax.data.download import Remote, fetch

LABELS, RECORD = "labels", "made.json"
SEVERITIES = len(corruptions.SEVERITIES)
MOST = 1 << 20  # bytes of made.json
ARCHIVE = Remote(
    "CIFAR-10-C.tar",
    ("https://zenodo.org/records/2535967/files/CIFAR-10-C.tar",),
    2_918_471_680,
    "c72763e101c723b7c507b96205f7e938912a5d587376173b825850cf3cb876a7",
    "tar",
)
# Of CIFAR-100-C no SHA-256 is published: it is got by hand, and checked by its MD5.
OTHER = ("CIFAR-100-C.tar", "https://zenodo.org/records/3555552/files/CIFAR-100-C.tar")
CHECKSUMS = {
    "CIFAR-10-C": ("sha256", ARCHIVE.sha256),
    "CIFAR-100-C": ("md5", "11f0ed0f1191edbf9fa23466ae6021d3"),
}
OFFICIAL_LABELS = "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5"  # of CIFAR-10


@dataclass(frozen=True)
class Member:
    """Bytes of a file that hold a .npy file: all of it, or a member of a tar."""

    path: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"


def cached(data: str, download: bool, cache_dir: str | None) -> Path:
    """The published archive in the data cache, fetched if that is allowed; ConfigError if it is not there."""
    cache = store.cache_folder(cache_dir) / "corrupted"
    if data == "cifar100":
        name, url = OTHER
        if not (cache / name).is_file():
            raise ConfigError(
                f"evaluate.corruptions_dir: {cache} holds no {name}; get it by hand from {url}"
            )
        return cache / name
    if data != "cifar10":
        raise ConfigError(
            f"evaluate.corruptions_dir='published': allowed with data.name=cifar10, cifar100, not {data}"
        )
    if download or (cache / ARCHIVE.name).is_file():
        return fetch(ARCHIVE, cache)
    raise ConfigError(
        f"evaluate.corruptions_dir: {cache} holds no {ARCHIVE}; get it from {ARCHIVE.urls[0]} and put it there, "
        "or allow the download with data.download=True"
    )


def source(place: Path, clean: Clean, names: Sequence[str], count: int) -> Source:
    """The files of a folder or .tar, checked before anything is read.

    Raises ConfigError, naming the file, for what is missing, truncated, or no uint8 (5 N, H, W, C); for labels of
    another number or that differ between the blocks; and for an archive with another checksum than the published one.
    """
    members = _folder(place) if place.is_dir() else _archive(place)
    missing = [name for name in (LABELS, *names) if name not in members]
    if missing:
        raise ConfigError(
            f"evaluate.corruptions_dir: {place} lacks {', '.join(f'{n}.npy' for n in missing)}"
        )
    arrays = {name: _images(members[name]) for name in names}
    labels = _labels(members[LABELS])
    for name, array in arrays.items():
        wanted = (SEVERITIES * len(labels), *next(iter(arrays.values())).shape[1:])
        if array.shape != wanted:
            raise ConfigError(
                f"evaluate.corruptions_dir: {members[name]} has shape {array.shape}, not {wanted}"
            )
    if not 0 <= count <= len(labels):
        raise ConfigError(
            f"evaluate.corruption_images={count}: allowed are 0 (all) to {len(labels)}"
        )
    record = _record(place)
    benchmark, title, kind = _what(place, labels, arrays, clean)
    flavours = {}
    if record is not None:
        flavours = {k: v for k, v in record["flavours"].items() if k in names}
        flavours["seed"] = str(record["seed"])
        theirs = hashlib.sha256(np.ascontiguousarray(clean.images[: len(labels)])).hexdigest()
        of = clean.title if record["images"] == theirs else f"{place.name}, not of {clean.title}"
        benchmark, title, kind = None, in_words(of, flavours), "generated"
    state = sorted((m.name, m.size, m.path.stat().st_mtime_ns) for m in members.values())
    return Source(
        name=title,
        kind=kind,
        identity=digest("files", state, record, count, labels),
        names=tuple(names),
        labels=labels[: count or None],
        image_HWC=next(iter(arrays.values())).shape[1:],
        read=partial(_read, arrays, len(labels)),
        flavours=flavours,
        benchmark=benchmark,
    )


def _read(
    arrays: dict[str, np.ndarray], size: int, name: str, first: int, count: int
) -> np.ndarray:
    blocks = arrays[name].reshape(SEVERITIES, size, *arrays[name].shape[1:])
    return np.array(blocks[:, first : first + count])


def _folder(place: Path) -> dict[str, Member]:
    found = sorted(place.glob("*.npy"))
    return {p.stem: Member(p, p.name, 0, p.stat().st_size) for p in found if p.is_file()}


def _archive(path: Path) -> dict[str, Member]:
    found: dict[str, Member] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for info in archive:
                name = PurePosixPath(info.name)
                if info.isfile() and not info.issparse() and name.suffix == ".npy":
                    if name.stem in found:
                        raise ConfigError(
                            f"evaluate.corruptions_dir: {path} holds {name.name} twice"
                        )
                    found[name.stem] = Member(path, name.name, info.offset_data, info.size)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"evaluate.corruptions_dir: {path} is no .tar, or damaged: {error}"
        ) from None
    return found


def _images(member: Member) -> np.ndarray:
    array = _mapped(member)
    if array.dtype != np.uint8 or array.ndim != 4 or len(array) % SEVERITIES or not array.size:
        raise ConfigError(
            f"evaluate.corruptions_dir: {member} holds {array.dtype} {array.shape}; "
            f"allowed are uint8 ({SEVERITIES} N, H, W, C)"
        )
    return array


def _labels(member: Member) -> np.ndarray:
    """int32 (N,)."""
    array = _mapped(member)
    fits = np.issubdtype(array.dtype, np.integer) and array.ndim == 1 and array.size
    if not fits or len(array) % SEVERITIES:
        raise ConfigError(
            f"evaluate.corruptions_dir: {member} holds {array.dtype} {array.shape}; "
            f"allowed are whole numbers ({SEVERITIES} N,)"
        )
    blocks = array.astype(np.int64).reshape(SEVERITIES, -1)
    if (blocks != blocks[0]).any() or blocks.min() < 0:
        raise ConfigError(
            f"evaluate.corruptions_dir: {member}: allowed are the same labels, from 0, for each severity"
        )
    return blocks[0].astype(np.int32)


def _mapped(member: Member) -> np.ndarray:
    """The array of a .npy file, not read yet; its size is compared with the file's before."""
    with member.path.open("rb") as file:
        file.seek(member.offset)
        opening = file.read(64)
        file.seek(member.offset)
        try:
            version = np.lib.format.read_magic(file)
            headers = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            shape, fortran, dtype = headers[version](file)
        except (ValueError, KeyError, EOFError, SyntaxError, TypeError):
            web = opening.lstrip().startswith(b"<")
            reason = "a web page" if web else f"no .npy file (it begins with {opening[:8]!r})"
            raise ConfigError(f"evaluate.corruptions_dir: {member} is {reason}") from None
        start = file.tell()
    if dtype.hasobject or fortran:
        raise ConfigError(
            f"evaluate.corruptions_dir: {member} holds {'objects' if dtype.hasobject else 'columns'}; "
            "allowed are plain numbers in C order"
        )
    needed = start - member.offset + math.prod(shape) * dtype.itemsize
    there = min(member.size, member.path.stat().st_size - member.offset)  # a tar may be cut
    if needed != there:
        raise ConfigError(
            f"evaluate.corruptions_dir: {member} has {there:,} bytes, but its header "
            f"promises {needed:,}: truncated or damaged"
        )
    if not math.prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(member.path, dtype, "r", start, shape)


def _record(place: Path) -> dict | None:
    """What made.json says of files that were made, None where there is none."""
    path = place / RECORD
    if not place.is_dir() or not path.exists():
        return None
    try:
        if path.stat().st_size > MOST:
            raise ValueError("too large")
        record = json.loads(path.read_text())
        flavours = {str(k): str(v) for k, v in record["flavours"].items()}
        return {"flavours": flavours, "seed": int(record["seed"]), "images": str(record["images"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"evaluate.corruptions_dir: {path} cannot be read ({error}); remove the folder"
        ) from None


def _what(
    place: Path, labels: np.ndarray, arrays: dict, clean: Clean
) -> tuple[str | None, str, str]:
    """(benchmark, name, kind) of files without a record: a published set only where its labels, or checksum, say so."""
    side = next(iter(arrays.values())).shape[1:] if arrays else ()
    data = _official(labels, clean) if len(labels) == 10_000 and side == (32, 32, 3) else None
    known = {"cifar10": "CIFAR-10-C", "cifar100": "CIFAR-100-C"}.get(data)
    if data == "cifar10":
        refuse_cifar100(place, clean)
    if known is None:
        return None, f"corrupted images in {place.name}", "files"
    if place.is_dir():
        return data, f"{known} (unpacked files, whose labels are the official ones)", "published"
    kind, wanted = CHECKSUMS[known]
    with place.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != wanted:
        raise ConfigError(
            f"evaluate.corruptions_dir: {place} has the {kind.upper()} {found}, {known} has {wanted}"
        )
    return data, known, "published"


def _official(labels: np.ndarray, clean: Clean) -> str | None:
    if hashlib.sha256(labels.astype(np.uint8)).hexdigest() == OFFICIAL_LABELS:
        return "cifar10"
    return "cifar100" if clean.data == "cifar100" and np.array_equal(labels, clean.labels) else None
