"""Fetching a published file once: resumed, checked by size and SHA-256, named when complete."""

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

from cards_jax import files
from cards_jax.config import ConfigError

CHUNK = 2**18
TIMEOUT_SECONDS = 30
KINDS = {"gzip": slice(0, 2), "tar": slice(257, 262)}  # where a file shows what it is
MAGIC = {"gzip": b"\x1f\x8b", "tar": b"ustar"}


@dataclass(frozen=True)
class Remote:
    """A published file: its name, addresses that carry it, size in bytes, SHA-256, and whether it is gzip or tar."""

    name: str
    urls: tuple[str, ...]
    size: int
    sha256: str
    kind: str = "gzip"

    def __str__(self) -> str:
        return f"{self.name} ({self.size:,} bytes)"


class _Failed(Exception):
    """An address did not deliver; the message says why."""


def fetch(remote: Remote, folder: Path, trust: bool = True) -> Path:
    """The file in `folder`, fetched from the first address that delivers it if it is not there.

    What an interrupted download left is continued. A second process waits for the first. A file that is there is known
    by its size; without `trust` by its SHA-256 too, and is replaced if it has another. Raises ConfigError with the
    reason for each address, and what to do by hand.
    """
    path = folder / remote.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _complete(path, remote, trust):
            with open(folder / f"{remote.name}.part", "ab+") as part:
                fcntl.flock(part, fcntl.LOCK_EX)
                if not _complete(path, remote, trust):  # nobody else did it while this one waited
                    _fill(part, remote, folder)
                    os.replace(part.name, path)
    except OSError as error:
        raise ConfigError(f"data.cache_dir: cannot write {remote} to {folder}: {error}") from error
    return path


def _complete(path: Path, remote: Remote, trust: bool) -> bool:
    if not path.is_file() or path.stat().st_size != remote.size:
        return False
    return trust or files.sha256(path) == remote.sha256


def _fill(part: BinaryIO, remote: Remote, folder: Path) -> None:
    reasons = []
    for url in remote.urls:
        try:
            _receive(url, part, remote)
            return _verify(part, remote)
        except _Failed as reason:
            reasons.append(f"{url}: {reason}")
    raise ConfigError(
        f"data.download: cannot fetch {remote}: {'; '.join(reasons)}. "
        f"Get it by hand from {remote.urls[-1]} and put it into {folder}"
    )


def _receive(url: str, part: BinaryIO, remote: Remote) -> None:
    start = part.seek(0, os.SEEK_END)
    if start >= remote.size:
        return
    with _answer(url, start) as response:
        if response.status != http.client.PARTIAL_CONTENT:
            _empty(part)
        with tqdm(
            total=remote.size,
            initial=part.tell(),
            desc=remote.name,
            unit="B",
            unit_scale=True,
            disable=None,
        ) as bar:
            for chunk in _chunks(response):
                _check(chunk, part, remote)
                part.write(chunk)
                bar.update(len(chunk))
    if part.tell() < remote.size:
        raise _Failed(f"it ended after {part.tell():,} bytes")


def _answer(url: str, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "cards_jax"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS
        )
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Failed(str(error)) from error
    given = response.headers.get("Content-Range", "")
    if response.status == http.client.PARTIAL_CONTENT and not given.startswith(f"bytes {start}-"):
        raise _Failed(f"it sent the range {given!r} instead of bytes from {start}")
    return response


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _Failed(str(error)) from error


def _check(chunk: bytes, part: BinaryIO, remote: Remote) -> None:
    if part.tell() == 0 and chunk[KINDS[remote.kind]] != MAGIC[remote.kind]:
        other = f"no {remote.kind} file ({chunk[:8]!r})"
        kind = "a web page" if chunk.lstrip().startswith(b"<") else other
        raise _Failed(f"it sent {kind}")
    if part.tell() + len(chunk) > remote.size:
        _empty(part)
        raise _Failed(f"it sent more than {remote.size:,} bytes")


def _verify(part: BinaryIO, remote: Remote) -> None:
    part.flush()
    part.seek(0)
    found = hashlib.file_digest(part, "sha256").hexdigest()
    if found != remote.sha256:
        _empty(part)
        raise _Failed(f"its SHA-256 is {found} instead of {remote.sha256}")


def _empty(part: BinaryIO) -> None:
    part.seek(0)
    part.truncate()
