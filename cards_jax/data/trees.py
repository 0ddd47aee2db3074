"""The files of a directory, tar or zip archive as one stream; nothing is unpacked to disk.

Archives are not trusted: a name that points outside, a link, a device, or a size beyond the limits
ends the reading with a ConfigError that names the archive and the member.
"""

import gzip
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO

from cards_jax.config import ConfigError

File = tuple[str, int, Callable[[], bytes]]

FILE_LIMIT = 256 * 2**20
TOTAL_LIMIT = 64 * 2**30
BLOCK = 512
DAMAGES = (
    *(OSError, EOFError, OverflowError, RuntimeError, UnicodeError),
    *(zlib.error, lzma.LZMAError, struct.error, tarfile.TarError, zipfile.BadZipFile),
)


def files(
    path: Path, file_limit: int = FILE_LIMIT, total_limit: int = TOTAL_LIMIT
) -> Iterator[File]:
    """Yields (name with forward slashes, size in bytes, function that reads it) for each file.

    Read a file before asking for the next one. An archive that is walked to its end has had its
    checksum (gzip, zip) or its end mark (tar) verified.
    """
    with _reporting(path):
        if path.is_dir():
            found = _directory(path)
        else:
            found = _archive(path)(path, file_limit, total_limit)
        for name, size, read_bytes in found:
            yield name, size, partial(read, path, read_bytes)


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGES as error:
        raise ConfigError(f"data.dir: {path} is truncated or damaged: {error}") from error


def read(path: Path, read_bytes: Callable[[], bytes]) -> bytes:
    """What the function reads; ConfigError, naming the path, where it cannot be read."""
    with _reporting(path):
        return read_bytes()


def _archive(path: Path) -> Callable[[Path, int, int], Iterator[File]]:
    if not path.is_file():  # to open a pipe would wait for somebody who writes into it
        raise ConfigError(f"data.dir: {path} is no file and no folder")
    with open(path, "rb") as file:
        head = file.read(BLOCK)
    if head.startswith(b"PK"):
        return _zip
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        return _tar
    seen = "is a web page" if head.lstrip()[:1] == b"<" else f"starts with {head[:8]!r}"
    raise ConfigError(f"data.dir: {path} {seen}; allowed are .tar, .tar.gz and .zip archives")


def _directory(path: Path) -> Iterator[File]:
    visited = set()
    for folder, folders, names in os.walk(path, followlinks=True, onerror=_raise):
        if (real := os.path.realpath(folder)) in visited:  # a link back up would never end
            folders.clear()
            continue
        visited.add(real)
        folders.sort()  # which of two names of one folder counts must not hang on the disk's order
        within = PurePath(folder).relative_to(path).as_posix()
        top = os.path.join(folder, "")
        prefix = "" if within == "." else f"{within}/"
        for name in sorted(
            names
        ):  # strings, as there may be very many: objects of paths take minutes
            file = top + name
            try:
                about = os.stat(file)
            except FileNotFoundError:  # a link to nowhere
                continue
            if stat.S_ISREG(about.st_mode):
                yield prefix + name, about.st_size, partial(_bytes, file)


def _bytes(file: str) -> bytes:
    with open(file, "rb") as stream:
        return stream.read()


def _raise(error: OSError) -> None:
    raise error


def _tar(path: Path, file_limit: int, total_limit: int) -> Iterator[File]:
    with open(path, "rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        stream = _Guarded(
            gzip.GzipFile(fileobj=plain) if zipped else plain, path, file_limit, total_limit
        )
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # tarfile would keep every header in memory
                _check(path, member.name, member.size, file_limit)
                if member.isdir():
                    continue
                if not member.isreg() or member.sparse is not None:
                    raise ConfigError(
                        f"data.dir: {path}: {member.name!r} is a link or no plain file"
                    )
                yield member.name, member.size, lambda m=member: tar.extractfile(m).read()
        stream.finish()


def _zip(path: Path, file_limit: int, total_limit: int) -> Iterator[File]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if _counted(path) not in (len(members), 0xFFFF):
            raise EOFError(f"it should hold {_counted(path)} members, {len(members)} were found")
        if sum(member.file_size for member in members) > total_limit:
            raise ConfigError(f"data.dir: {path} unpacks to more than {total_limit:,} bytes")
        for member in members:
            _check(path, member.filename, member.file_size, file_limit)
            if stat.S_ISLNK(member.external_attr >> 16) or member.flag_bits & 1:
                raise ConfigError(f"data.dir: {path}: {member.filename!r} is a link or encrypted")
            with archive.open(member):  # compares the two copies of its name
                pass
            if not member.is_dir():
                yield member.filename, member.file_size, lambda m=member: archive.read(m)


def _counted(path: Path) -> int:
    """The number of members by the end record of a zip file, which zipfile does not compare."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 2**16))
        tail = file.read()
    return struct.unpack_from("<H", tail, tail.rindex(b"PK\x05\x06") + 10)[0]


def _check(path: Path, name: str, size: int, limit: int) -> None:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name or ":" in name[:2]:
        raise ConfigError(f"data.dir: {path}: the name {name!r} points outside; archive refused")
    if not 0 <= size <= limit:
        raise ConfigError(f"data.dir: {path}: {name!r} has {size:,} bytes; allowed are {limit:,}")


class _Guarded:
    """A stream that refuses what a hostile header makes tarfile do: huge reads, endless skips."""

    def __init__(self, stream: BinaryIO, path: Path, read_limit: int, total_limit: int):
        self.stream, self.path = stream, path
        self.read_limit, self.total_limit = read_limit + BLOCK, total_limit
        self.last = b""

    def tell(self) -> int:
        return self.stream.tell()

    def seek(self, position: int) -> int:
        if not 0 <= position <= self.total_limit:
            raise ConfigError(
                f"data.dir: {self.path} unpacks to more than {self.total_limit:,} bytes"
            )
        return self.stream.seek(position)

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.read_limit:
            raise ConfigError(
                f"data.dir: {self.path} has a header of {size:,} bytes; archive refused"
            )
        self.last = self.stream.read(size)
        return self.last

    def finish(self) -> None:
        """Checks the end mark, for which tarfile takes any broken header, and the gzip checksum."""
        if self.last != bytes(BLOCK):
            raise EOFError("no end mark")
        while self.read(2**20):
            self.seek(self.tell())  # checks the total
