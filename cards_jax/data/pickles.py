"""Python-pickle batches of CIFAR, read without running anything that they name.

A pickle calls functions by name. Here the few names that an array needs stand for inert classes of
this file, all others are refused, and arrays are built at the end from checked bytes and dtype.
"""

import io
import pickle
import re
from pathlib import Path

import numpy as np

from cards_jax.config import ConfigError


class _Dtype:
    """Stands for numpy.dtype: whole numbers only."""

    def __init__(self, code: str | bytes, *_):
        self.code = code.decode() if isinstance(code, bytes) else code
        if not re.fullmatch(r"[<>|=]?[ui][1248]", self.code):
            raise ValueError(f"dtype {self.code!r}")
        self.order = "="

    def fill(self, state: tuple) -> None:
        order = state[1].decode() if isinstance(state[1], bytes) else state[1]
        self.order = order if order in ("<", ">") else "="

    def dtype(self) -> np.dtype:
        return np.dtype(self.code).newbyteorder(self.order)


class _Array:
    """Stands for numpy.ndarray: keeps shape, dtype and bytes as they are found."""

    def fill(self, state: tuple) -> None:
        _, self.shape, self.kind, self.fortran, self.raw = state

    def array(self) -> np.ndarray:
        flat = np.frombuffer(self.raw, self.kind.dtype())
        return flat.reshape(self.shape, order="F" if self.fortran else "C")


def _reconstruct(*_) -> _Array:
    return _Array()


def _from_buffer(raw: bytes, kind: _Dtype, shape: tuple, order: str) -> _Array:
    array = _Array()
    array.fill((1, shape, kind, order == "F", raw))
    return array


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


_NAMES = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


# The reader written in Python, because the one in C can be made to fill the memory by a five-byte
# pickle (a memo index of 2**32), and because its opcodes can be replaced.
class _Reader(pickle._Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed")
        return _NAMES[module, name]

    def _build(self) -> None:
        """Sets the state of an _Array or _Dtype; the original would set attributes of anything."""
        state = self.stack.pop()
        self.stack[-1].fill(state)

    dispatch = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: _build}


def read_batch(raw: bytes, path: Path | str) -> dict[str, object]:
    """The dictionary in a pickle of Python 2 or 3, its keys as str, its arrays as numpy arrays.

    Raises ConfigError naming `path` if the pickle is damaged, no dictionary, or names other things.
    """
    try:
        batch = _Reader(io.BytesIO(raw), encoding="bytes").load()
        pairs = ((k.decode() if isinstance(k, bytes) else k, v) for k, v in batch.items())
        return {key: v.array() if isinstance(v, _Array) else v for key, v in pairs}
    except Exception as error:  # a damaged pickle can fail in any way, and none of them matters
        raise ConfigError(f"data.dir: {path} is no readable batch of images: {error!r}") from error
