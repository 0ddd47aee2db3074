"""One file that is whole or refused: a JSON header and bytes, with their lengths and one SHA-256 in front."""

import errno
import hashlib
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

CARD = b"\x89CARD\r\n\x1a"  # as PNG's: a transfer that takes it for text damages it visibly
DECK = b"\x89DECK\r\n\x1a"
NAMES = {CARD: "card", DECK: "deck"}
VERSION = 2  # 1 was an .npz
LENGTHS = struct.Struct("<8sIIIQ")  # magic, version, header as it lies there and unpacked, payload
FRONT = LENGTHS.size + hashlib.sha256().digest_size
DEFLATE_MOST = 1032  # no deflated bytes are smaller than by this factor


def wrap(header: dict[str, Any], payload: bytes, magic: bytes = CARD) -> bytes:
    """The content of a file; equal headers and payloads give equal bytes. `header` must be JSON."""
    plain = json.dumps(header, separators=(",", ":")).encode()
    packed = zlib.compress(plain, 9)
    lengths = LENGTHS.pack(magic, VERSION, len(packed), len(plain), len(payload))
    body = packed + payload
    return lengths + hashlib.sha256(lengths + body).digest() + body


def read(path: str | Path, magic: bytes = CARD) -> bytes:
    """A file's content, after its lengths were found to fit its size.

    Raises ValueError with a reason where they do not, OSError where the file cannot be read.
    """
    if Path(path).is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, allowed is one file", str(path))
    with open(path, "rb") as file:
        front = file.read(FRONT)
        size = os.fstat(file.fileno()).st_size
        _lengths(front, size, magic)
        return front + file.read(size - len(front))


def unwrap(content: bytes, magic: bytes = CARD) -> tuple[dict[str, Any], memoryview]:
    """(header, payload) of a file's content; ValueError with a reason for anything that `wrap` did not write."""
    packed, plain, _ = _lengths(content[:FRONT], len(content), magic)
    view = memoryview(content)
    digest = hashlib.sha256(view[: LENGTHS.size])
    digest.update(view[FRONT:])
    if digest.digest() != view[LENGTHS.size : FRONT]:
        raise ValueError("does not fit its SHA-256")
    inflate = zlib.decompressobj()
    header = inflate.decompress(view[FRONT : FRONT + packed], plain + 1)
    if len(header) != plain or not inflate.eof or inflate.unused_data:
        raise ValueError("header has another length than it says")
    return json.loads(header), view[FRONT + packed :]


def header_bytes(content: bytes, magic: bytes = CARD) -> int:
    """Bytes of a file's content that are not its payload."""
    return len(content) - _lengths(content[:FRONT], len(content), magic)[2]


def _lengths(front: bytes, size: int, magic: bytes) -> tuple[int, int, int]:
    """(header as it lies there, header unpacked, payload) in bytes, after comparing them with the file's size."""
    if front[: len(magic)] != magic:
        raise ValueError(f"does not begin as a {NAMES[magic]} file does")
    if len(front) < FRONT:
        raise ValueError(f"ends after {size} bytes")
    _, version, packed, plain, payload = LENGTHS.unpack(front[: LENGTHS.size])
    if version != VERSION:
        raise ValueError(f"format {version}, this version reads {VERSION}")
    if FRONT + packed + payload != size:
        raise ValueError(f"{size:,} bytes instead of {FRONT + packed + payload:,}")
    if plain > DEFLATE_MOST * packed:
        raise ValueError(f"{packed:,} bytes cannot hold a header of {plain:,}")
    return packed, plain, payload
