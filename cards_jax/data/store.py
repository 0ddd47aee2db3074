"""The cache folder: arrays that took long to make, kept as .npy files, verified when read."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
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
    if (entry / INDEX).is_file():
        try:
            return _read(entry, wanted)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("cached data in %s is damaged (%s); it is made again", entry, error)
    arrays, notes = make()
    try:
        _write(entry, arrays, notes)
    except OSError as error:
        log.warning("cannot keep decoded data in %s: %s", entry, error)
    return {name: arrays[name] for name in wanted}, notes


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
        shutil.rmtree(entry, ignore_errors=True)  # a damaged one
        os.rename(fresh, entry)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _seal(sums: dict[str, str], notes: Notes) -> str:
    """The SHA-256 of the index itself."""
    return hashlib.sha256(json.dumps([sums, notes]).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
