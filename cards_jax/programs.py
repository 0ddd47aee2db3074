"""The cache of compiled programs: what a killed process or a full disk left half written is swept away.

JAX writes an entry in place, reads a truncated one with a warning at every start, and never replaces it.
"""

import contextlib
import zlib
from pathlib import Path

PATTERN = "*-cache"
ZLIB = b"\x78"  # first byte of an entry that is compressed so; other kinds are left to JAX


def whole(entry: bytes) -> bool:
    """Whether an entry is as it was written; one that is not compressed by zlib counts as whole unless it is empty."""
    if entry[:1] != ZLIB:
        return bool(entry)
    reading = zlib.decompressobj()
    try:
        reading.decompress(entry)
    except zlib.error:
        return False
    return reading.eof


def sweep(cache: Path) -> None:
    """Delete damaged entries of a cache, if it is there; files that cannot be read or deleted stay."""
    for path in cache.glob(PATTERN):
        with contextlib.suppress(OSError):
            if not whole(path.read_bytes()):
                path.unlink(missing_ok=True)
