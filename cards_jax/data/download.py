"""Fetching a published file once: resumed, checked by size and SHA-256, moved to its name when complete."""

import fcntl
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from cards_jax.config import ConfigError

CHUNK = 2**18
TIMEOUT_SECONDS = 30
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Remote:
    """A published gzip file: its name, the addresses that carry it, its size in bytes and SHA-256."""

    name: str
    urls: tuple[str, ...]
    size: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} ({self.size:,} bytes)"


class _Failed(Exception):
    """An address did not deliver; the message says why."""


def fetch(remote: Remote, folder: Path) -> Path:
    """The file in `folder`, downloaded from the first address that delivers it if it is not there yet.

    What an interrupted download left is continued. A second process waits for the first. Raises
    ConfigError with the reason for each address, and what to do by hand.
    """
    path = folder / remote.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / f"{remote.name}.part", "ab+") as part:
            fcntl.flock(part, fcntl.LOCK_EX)
            if not (path.is_file() and path.stat().st_size == remote.size):
                _fill(part, remote, folder)
            os.replace(part.name, path) if part.tell() else os.unlink(part.name)
    except OSError as error:
        raise ConfigError(f"data.cache_dir: cannot write {remote} to {folder}: {error}") from error
    return path
