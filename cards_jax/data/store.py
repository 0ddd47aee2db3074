"""The cache folder: arrays that took long to make, kept as .npy files, verified when read."""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]
Notes = dict[str, object]

INDEX = "index.json"
log = logging.getLogger(__name__)


def cache_folder(cache_dir: str | None) -> Path:
    """`cache_dir`, or the environment variable CARDS_JAX_CACHE, or ~/.cache/cards_jax."""
    named = cache_dir or os.environ.get("CARDS_JAX_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "cards_jax"


def recall(
    entry: Path, wanted: tuple[str, ...], make: Callable[[], tuple[Arrays, Notes]]
) -> tuple[Arrays, Notes]:
    """The wanted arrays of an entry (a folder), and its notes.

    They are made and kept when the entry is not there or does not agree with its SHA-256s. A cache
    that cannot be written costs time, not the run: it is said in one line.
    """
    if (found := _kept(entry, wanted)) is not None:
        return found
    with _alone(entry):
        if (found := _kept(entry, wanted, quiet=True)) is not None:  # another process made it
            return found
        arrays, notes = make()
        try:
            _write(entry, arrays, notes)
        except OSError as error:
            log.warning("cannot keep decoded data in %s: %s", entry, error)
    return {name: arrays[name] for name in wanted}, notes


def _kept(entry: Path, wanted: tuple[str, ...], quiet: bool = False) -> tuple[Arrays, Notes] | None:
    """What an entry holds, None where it is not there or damaged."""
    try:
        if (entry / INDEX).is_file():
            return _read(entry, wanted)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if not quiet:
            log.warning("cached data in %s is damaged (%s); it is made again", entry, error)
    return None


@contextlib.contextmanager
def _alone(entry: Path) -> Iterator[None]:
    """One process after another, where the cache can be written: processes that start together decode once."""
    handle = None
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(entry.with_name(f".{entry.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _read(entry: Path, wanted: tuple[str, ...]) -> tuple[Arrays, Notes]:
    index = json.loads((entry / INDEX).read_text())
    if index["seal"] != _seal(index["sha256"], index["notes"]):
        raise ValueError(f"{INDEX} has another seal")
    arrays = {}
    for name in wanted:
        path = entry / f"{name}.npy"
        if _sha256(path) != index["sha256"][name]:
            raise ValueError(f"{path.name} has another SHA-256")
        arrays[name] = np.load(path, allow_pickle=False)
    return arrays, index["notes"]


def _write(entry: Path, arrays: Arrays, notes: Notes) -> None:
    """Writes beside the entry and renames, so that an entry is never seen half done."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    try:
        for name, array in arrays.items():
            np.save(fresh / f"{name}.npy", array, allow_pickle=False)
        sums = {name: _sha256(fresh / f"{name}.npy") for name in arrays}
        index = {"sha256": sums, "notes": notes, "seal": _seal(sums, notes)}
        (fresh / INDEX).write_text(json.dumps(index))
        fresh.chmod(0o777 & ~_umask())  # a temporary folder is its owner's alone
        shutil.rmtree(entry, ignore_errors=True)  # a damaged one
        os.rename(fresh, entry)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _seal(sums: dict[str, str], notes: Notes) -> str:
    """The SHA-256 of the index itself."""
    return hashlib.sha256(json.dumps([sums, notes]).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
