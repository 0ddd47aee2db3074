"""PyTorch checkpoints read without PyTorch and without running anything that they name; and written.

A checkpoint is a pickle, which rebuilds tensors by calling functions by their names. Here the few names that tensors
need stand for inert functions of this file, all others are refused, and an array is made at the end from bytes whose
number, dtype, shape and strides were checked against each other.
"""

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cards_jax import files

DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",  # the upper halves of float32
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
NESTED = ("state_dict", "model_state_dict", "model", "net")  # where training scripts keep it
LEGACY = 0x1950A86A20F9469CFC6C  # the first pickle of a file from before PyTorch 1.6
MOST_AXES = 64  # of a numpy array
ZIP = b"PK\x03\x04"


class _Kind(NamedTuple):
    """Stands for a class of storages."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """A run of numbers in the file."""

    kind: _Kind
    key: str
    numel: int

    @property
    def nbytes(self) -> int:
        return self.numel * np.dtype(DTYPES[self.kind.name]).itemsize


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; strides and offset count numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self):
        if not isinstance(self.storage, _Storage):
            raise ValueError("a tensor without a storage")
        axes = {len(self.shape), len(self.strides)}
        sizes = (self.offset, *self.shape, *self.strides)
        if len(axes) > 1 or max(axes) > MOST_AXES or not all(map(_is_size, sizes)):
            raise ValueError(f"a tensor of shape {self.shape} and strides {self.strides}")

    def array(self, flat: np.ndarray) -> np.ndarray:
        """The read-only view of the storage's numbers; ValueError where it would leave them."""
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        size = math.prod(self.shape)
        if size and (last >= flat.size or size > flat.size):
            raise ValueError(f"a shape of {self.shape} does not fit in {flat.size} numbers")
        if not size:
            return np.empty(self.shape, flat.dtype)
        strides = [s * flat.itemsize for s in self.strides]
        return np.lib.stride_tricks.as_strided(
            flat[self.offset :], self.shape, strides, writeable=False
        )

    def fills(self) -> bool:
        """Whether it is the whole storage, in any order of axes."""
        if not math.prod(self.shape):
            return self.storage.numel == 0
        expected = 1
        for stride, n in sorted(zip(self.strides, self.shape, strict=True)):
            if n != 1 and stride != expected:
                return False
            expected *= n
        return expected == self.storage.numel


def _is_size(n: Any) -> bool:
    return type(n) is int and 0 <= n < 2**63


def _rebuild_tensor(storage, offset, shape, strides, *_) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): lambda: {},
    ("torch", "Size"): lambda sizes: sizes,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    **{("torch", name): _Kind(name) for name in DTYPES},
}


# The reader written in Python, because the one in C can be made to fill the memory by a five-byte
# pickle (a memo index of 2**32), and because its opcodes can be replaced.
class _Reader(pickle._Unpickler):
    def __init__(self, file: io.BytesIO):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise ValueError(f"it names {module}.{name}, and only tensors are read")
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        tag, kind, key, _, numel, *view = pid
        if tag != "storage" or not isinstance(kind, _Kind) or any(x is not None for x in view):
            raise ValueError("it refers to something that is no storage")
        if not isinstance(key, str) or not _is_size(numel):
            raise ValueError(f"a storage {key!r} of {numel!r} numbers")
        storage = _Storage(kind, key, numel)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"storage {key} is described in two ways")
        return storage

    def _build(self) -> None:
        """Drops the state, which would set attributes; a state_dict's own are of no use here."""
        self.stack.pop()

    def _refuse(self) -> None:
        raise ValueError("it is not the pickle of a checkpoint")

    # BYTEARRAY8 allocates what it is told to, and no checkpoint has one.
    dispatch = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: _build,
        pickle.BYTEARRAY8[0]: _refuse,
    }


def read(path: str | Path) -> dict[str, np.ndarray]:
    """{key: read-only array} of the state_dict in a .pt, .pth or .pth.tar file; bfloat16 becomes float32.

    Zip archives, and the chained pickles of before PyTorch 1.6, which have no checksums: there a tensor must span its
    whole storage. A state_dict is found under `state_dict`, `model_state_dict`, `model` or `net` too.

    Raises ValueError in one line where the file is damaged, holds no tensors, or names anything else than tensors;
    OSError where it cannot be read.
    """
    content = Path(path).read_bytes()
    try:
        return _read_zip(content) if content.startswith(ZIP) else _read_legacy(content)
    except MemoryError:
        raise
    except Exception as error:  # zipfile and pickle raise a dozen kinds on damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: not a readable PyTorch checkpoint: {reason}") from None


def _read_zip(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise ValueError("its parts are compressed, which PyTorch never does")
        if sum(info.file_size for info in archive.infolist()) > len(content):
            raise ValueError("its parts are larger than the file")
        roots = [x.removesuffix("data.pkl") for x in members if x.endswith("data.pkl")]
        if len(roots) != 1:
            raise ValueError(f"{len(roots)} of its parts are called data.pkl")
        root = roots[0]
        if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("it comes from a big-endian machine")
        found = _Reader(io.BytesIO(archive.read(f"{root}data.pkl"))).load()

        def raw(storage: _Storage) -> bytes:
            size = archive.getinfo(f"{root}data/{storage.key}").file_size
            if size != storage.nbytes:
                raise ValueError(
                    f"storage {storage.key} has {size} bytes, expected {storage.nbytes}"
                )
            return archive.read(f"{root}data/{storage.key}")

        return _arrays(_state_dict(found), raw)


def _read_legacy(content: bytes) -> dict[str, np.ndarray]:
    file = io.BytesIO(content)
    if _first(file) != LEGACY:
        raise ValueError(_what_instead(content))
    version, system = _Reader(file).load(), _Reader(file).load()
    if version != 1001 or not system["little_endian"]:
        raise ValueError(f"protocol {version}, or from a big-endian machine")
    reader = _Reader(file)
    tensors, raws = _state_dict(reader.load()), {}
    for key in _Reader(file).load():
        storage = reader.storages[key]
        if int.from_bytes(file.read(8), "little") != storage.numel:
            raise ValueError(f"storage {key} has another size than its tensors say")
        start = file.tell()
        if start + storage.nbytes > len(content):
            raise ValueError("it is cut short")
        raws[storage] = memoryview(content)[start : file.seek(start + storage.nbytes)]
    if file.read(1):
        raise ValueError("it goes on after its end")
    for name, tensor in tensors.items():
        if not tensor.fills():
            raise ValueError(f"{name} of shape {tensor.shape} is not all of its storage")
    return _arrays(tensors, raws.__getitem__)


def _first(file: io.BytesIO) -> Any:
    try:
        return _Reader(file).load()
    except Exception:  # anything at all may stand there
        return None


def _what_instead(content: bytes) -> str:
    if not content:
        return "it is empty"
    if content.lstrip()[:1] == b"<":
        return "it is a web page, so that the download went wrong"
    return f"it begins with {content[:8]!r}"


def _state_dict(found: Any) -> dict[str, _Tensor]:
    """The tensors of a checkpoint, by name."""
    for _ in NESTED:
        inside = found if isinstance(found, dict) else {}
        found = next((inside[k] for k in NESTED if isinstance(inside.get(k), dict)), found)
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__} instead of a state_dict")
    tensors = {name: x for name, x in found.items() if isinstance(x, _Tensor)}
    if not tensors or not all(isinstance(name, str) for name in tensors):
        keys = ", ".join(str(k)[:40] for k in list(found)[:8])
        raise ValueError(f"there is no state_dict in it: its keys are {keys or 'none'}")
    return tensors


def _arrays(tensors: dict[str, _Tensor], raw: Callable[[_Storage], bytes]) -> dict[str, np.ndarray]:
    storages = {tensor.storage for tensor in tensors.values()}
    flat = {storage: _flat(storage, raw(storage)) for storage in storages}
    return {name: tensor.array(flat[tensor.storage]) for name, tensor in tensors.items()}


def _flat(storage: _Storage, raw: bytes) -> np.ndarray:
    if storage.kind.name == "BoolStorage":
        return np.frombuffer(raw, np.uint8) != 0  # a byte of 2 would be neither true nor false
    flat = np.frombuffer(raw, DTYPES[storage.kind.name])
    if storage.kind.name == "BFloat16Storage":
        return (flat.astype(np.uint32) << 16).view(np.float32)
    return flat


# --- writing ---

MEMBER = "archive/"  # PyTorch takes any one folder


def write(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a state_dict that `torch.load(path, weights_only=True)` reads, atomically; equal arrays give equal bytes.

    Raises ValueError naming a key whose dtype PyTorch's files have no storage for, OSError where it cannot write.
    """
    arrays = {key: np.asarray(x) for key, x in arrays.items()}
    kinds = {key: _kind(key, x) for key, x in arrays.items()}
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        put = lambda name, raw: archive.writestr(zipfile.ZipInfo(MEMBER + name), raw)
        put("data.pkl", _pickled(arrays, kinds))
        put("byteorder", b"little")
        for i, (key, x) in enumerate(arrays.items()):
            put(f"data/{i}", x.astype(DTYPES[kinds[key]]).tobytes())
        put("version", b"3\n")
    files.write_atomically(path, whole.getvalue())


def _kind(key: str, x: np.ndarray) -> str:
    for name, dtype in DTYPES.items():
        if name != "BFloat16Storage" and x.dtype.newbyteorder("<") == dtype:
            return name
    raise ValueError(f"{key}: got dtype {x.dtype}, which PyTorch files cannot hold")


def _pickled(arrays: dict[str, np.ndarray], kinds: dict[str, str]) -> bytes:
    """The pickle of an OrderedDict of tensors, put together from opcodes as torch.save does."""
    items = [_value(key) + _tensor(i, arrays[key], kinds[key]) for i, key in enumerate(arrays)]
    return b"".join([
        pickle.PROTO + b"\2", _EMPTY, pickle.MARK, *items, pickle.SETITEMS, pickle.STOP
    ])  # fmt: skip


def _tensor(i: int, x: np.ndarray, kind: str) -> bytes:
    strides = tuple(math.prod(x.shape[axis + 1 :]) for axis in range(x.ndim))
    storage = b"".join([
        pickle.MARK, _value("storage"), _global("torch", kind), _value(str(i)), _value("cpu"),
        _value(x.size), pickle.TUPLE, pickle.BINPERSID,
    ])  # fmt: skip
    arguments = storage + _value(0) + _value(x.shape) + _value(strides) + _value(False) + _EMPTY
    rebuild = _global("torch._utils", "_rebuild_tensor_v2")
    return rebuild + pickle.MARK + arguments + pickle.TUPLE + pickle.REDUCE


def _value(x: Any) -> bytes:
    return pickle.dumps(x, 2)[2:-1]  # without the frame: PROTO 2 before it, STOP behind it


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


_EMPTY = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
