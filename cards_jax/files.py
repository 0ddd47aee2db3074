"""Files that are whole or do not exist, and folders that can prove they are unharmed."""

import contextlib
import errno
import hashlib
import io
import json
import os
import secrets
from pathlib import Path

import numpy as np

MANIFEST = "manifest.json"


class Damaged(ValueError):
    """A sealed folder is not what was sealed; the message names the file and what is wrong."""


class Unreadable(Damaged):
    """A file could not be read this time: what is in it may be whole."""


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """Write a whole file, so that a crash leaves the old content or the new one, never a part.

    Raises OSError where the folder cannot be written or the disk is full; the old file stays.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # of a read-only disk
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):  # which, from a full disk, does not say of which file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    sync(path.parent)


def check_place(path: Path) -> None:
    """Make the folder of a file that shall be written after long work; OSError where it cannot be written there."""
    folder = path.absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"its folder cannot be made ({error.strerror})"
        raise OSError(error.errno, reason, str(path)) from None
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, allowed is a file", str(path))
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, "its folder cannot be written", str(path))


def deliver(path: Path, content: bytes | str) -> Path:
    """Write a whole file like `write_atomically`, in a folder that is made where there is none; the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return path


def deliver_arrays(path: Path, **arrays: np.ndarray) -> Path:
    """`deliver` of an .npz with these arrays."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return deliver(path, content.getvalue())


def sync(path: str | Path) -> None:
    """Wait until a file, or a directory's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        if hasattr(os, "posix_fadvise"):  # forget the cached pages: the next read is the disk's
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        # Some network file systems cannot sync a directory; nothing better is to be had there.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's content, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path, note: dict) -> None:
    """Write a folder's manifest: the size and SHA-256 of every other file, and a note.

    Every file is on the disk before the manifest is, so that a manifest never vouches for what
    a power cut can still take. The note must be JSON; `inspect` gives it back.
    """
    paths = sorted(path for path in folder.rglob("*") if path != folder / MANIFEST)
    sizes = {path: path.stat().st_size for path in paths if path.is_file()}
    files = {
        path.relative_to(folder).as_posix(): {"bytes": size, "sha256": sha256(path)}
        for path, size in sizes.items()
    }
    for path in [*paths, folder, folder.parent]:
        sync(path)
    _write_manifest(folder, files, note)


def inspect(folder: Path, hashes: bool = True) -> dict:
    """The note of a sealed folder, after comparing every file with the manifest.

    Without `hashes` only the sizes are compared, which reads no file but the manifest.
    Raises Damaged, and PermissionError where a file may not be read.
    """
    manifest = _read_manifest(folder)
    for name, entry in manifest["files"].items():
        _compare(folder, name, entry, hashes)
    return manifest["note"]


def amend(folder: Path, note: dict) -> None:
    """Replace the note of a sealed folder, whose files stay vouched for by their old hashes."""
    _write_manifest(folder, _read_manifest(folder)["files"], note)


def vouched(content: dict) -> dict:
    """JSON-able content with the SHA-256 of itself, for `checked`."""
    return {**content, "sha256": _digest(content)}


def checked(content: dict) -> dict:
    """What `vouched` was given; content without a hash, as people write it, is taken as it is. Raises Damaged."""
    if "sha256" not in content:
        return content
    content = dict(content)
    if content.pop("sha256") != _digest(content):
        raise Damaged("it is not as it was written")
    return content


def _write_manifest(folder: Path, files: dict, note: dict) -> None:
    whole = vouched({"files": files, "note": note})
    write_atomically(folder / MANIFEST, json.dumps(whole, indent=1) + "\n")


def _read_manifest(folder: Path) -> dict:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        genuine = manifest.pop("sha256") == _digest(manifest)
    except PermissionError:
        raise
    except OSError as error:
        raise _kind(error)(f"{MANIFEST} {_plainly(error)}") from error
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        genuine = False
    if not genuine:
        raise Damaged(f"{MANIFEST} is not as it was written")
    return manifest


def _digest(content: dict) -> str:
    # As read back, because JSON turns tuples into lists and keys into strings.
    content = json.loads(json.dumps(content))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _compare(folder: Path, name: str, entry: dict, hashes: bool) -> None:
    try:
        size = (folder / name).stat().st_size
        if size != entry["bytes"]:
            raise Damaged(f"{name} has {size} bytes instead of {entry['bytes']}")
        if hashes and sha256(folder / name) != entry["sha256"]:
            raise Damaged(f"{name} has another SHA-256 than when it was written")
    except PermissionError:
        raise
    except OSError as error:
        raise _kind(error)(f"{name} {_plainly(error)}") from error


def _kind(error: OSError) -> type[Damaged]:
    gone = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    return Damaged if gone else Unreadable


def _plainly(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is missing"
    return f"cannot be read ({error.strerror})"
