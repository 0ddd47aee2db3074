"""What lies where in a card file: its header as entries, one per array, and the bytes that each part of them takes."""

import dataclasses
import math
from typing import Any, Self

from cards_jax import codec, container, forms
from cards_jax.codec import Code
from cards_jax.origin import Origin

# A card may be this much larger than its file: an emptied layer takes no bytes, a hostile file claims anything.
SPARE_BYTES, MOST_TIMES = 2**26, 2**12


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array: its shape, the code of its mask (None: it has none), the form of its kept values."""

    shape: tuple[int, ...]
    code: Code | None = None
    form: str = "float32"

    @classmethod
    def read(cls, fields: list) -> Self:
        """From JSON; ValueError for what is no entry."""
        shape, code, form = fields
        if not all(type(n) is int and n >= 0 for n in shape) or form not in forms.FORMS:
            raise ValueError(f"no array has the shape {shape} and the form {form!r}")
        size = math.prod(shape)
        return cls(tuple(shape), None if code is None else Code.checked(code, size), form)

    def written(self) -> list:
        """As JSON."""
        return [list(self.shape), None if self.code is None else list(self.code), self.form]

    @property
    def size(self) -> int:
        """Weights, pruned ones too."""
        return math.prod(self.shape)

    @property
    def channels(self) -> int:
        """Of the output: the last axis."""
        return self.shape[-1] if self.shape else 1

    @property
    def kept(self) -> int:
        """Weights that stay."""
        return self.size if self.code is None else self.code.kept(self.size)

    @property
    def mask_bytes(self) -> int:
        return 0 if self.code is None else sum(self.code.bytes)

    @property
    def gain_bytes(self) -> int:
        return forms.gain_bytes(self.form, self.channels)

    @property
    def value_bytes(self) -> int:
        return forms.value_bytes(self.form, self.kept)

    @property
    def entropy(self) -> float:
        """Bits that the mask costs at least, from the layer's density alone."""
        return 0.0 if self.code is None else codec.entropy(self.kept, self.size)

    @property
    def bytes(self) -> int:
        """All that the array takes."""
        return self.mask_bytes + self.gain_bytes + self.value_bytes


@dataclasses.dataclass(frozen=True)
class Contents:
    """A file's header.

    params, stats: {path: Entry} in the order of the payload. spec: fields of the network; meta: the writer's own.
    drawn: SHA-256 of the kept weights that come from the origin's key, None where none do.
    versions: of the program that wrote it.
    """

    spec: dict[str, Any]
    meta: dict[str, Any]
    params: dict[str, Entry]
    stats: dict[str, Entry]
    origin: Origin | None
    drawn: str | None
    versions: dict[str, str]

    def written(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "spec": self.spec,
            "meta": self.meta,
            "params": {path: entry.written() for path, entry in self.params.items()},
            "stats": {path: list(entry.shape) for path, entry in self.stats.items()},
            "origin": self.origin and [list(self.origin.key), self.origin.weight_init],
            "drawn": self.drawn,
            "versions": self.versions,
        }


def read(content: bytes) -> tuple[Contents, memoryview]:
    """(contents, payload) of a file, whose every length fits. Damaged content raises many kinds of exceptions."""
    header, payload = container.unwrap(content)
    params = {path: Entry.read(fields) for path, fields in header.pop("params").items()}
    stats = {path: Entry.read([x, None, "float32"]) for path, x in header.pop("stats").items()}
    origin = header.pop("origin")
    if origin is not None:
        origin = Origin.read(*origin)
    contents = Contents(params=params, stats=stats, origin=origin, **header)
    _check(contents, len(payload), len(content))
    return contents, payload


def _check(contents: Contents, payload: int, whole: int) -> None:
    entries = [*contents.params.values(), *contents.stats.values()]
    if sum(entry.bytes for entry in entries) != payload:
        raise ValueError("arrays do not fit the payload")
    claimed = 4 * sum(entry.size for entry in entries)
    if claimed > SPARE_BYTES + MOST_TIMES * whole:
        raise ValueError(f"{whole:,} bytes are too few for a card of {claimed:,}")
    if any(e.form in forms.KEYED for e in entries) and None in (contents.origin, contents.drawn):
        raise ValueError("its weights come from a key, which it does not have")
