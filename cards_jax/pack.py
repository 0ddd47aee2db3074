"""Card files: one finished card with everything that predicting needs, and hashes of it."""

import dataclasses
import functools
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cards_jax import card as card_module
from cards_jax import files, models
from cards_jax.card import Card
from cards_jax.tree import flatten, map_leaves, unflatten

FORMAT = 1
PARTS = ("params", "mask", "stats")
DEFLATE_MOST = 1032  # the deflate format packs no byte stream smaller than by this factor


@dataclasses.dataclass(frozen=True)
class CardFile:
    """A card that was read: predict, and what its file says of it.

    meta: seed, sparsity, accuracies, classes, holdout hash, versions, as they were when it was written.
    """

    card: Card
    spec: models.Spec
    meta: dict[str, Any]

    def logits(self, images: Array) -> Array:
        """(N, K) float32 for images (N, H, W, C), uint8 or floats in [0, 1]."""
        return logits(self.card, images, self.spec)

    def predict(self, images: Array) -> Array:
        """Probabilities (N, K). Raises ValueError for another shape, dtype or range than the card was trained on."""
        images = jnp.asarray(images)
        if images.ndim != 4 or images.shape[1:] != self.spec.image_HWC:
            wanted = ", ".join(map(str, self.spec.image_HWC))
            raise ValueError(f"images: got shape {images.shape}, expected (N, {wanted})")
        if images.dtype != jnp.uint8:
            if not jnp.issubdtype(images.dtype, jnp.floating):
                raise ValueError(f"images: got dtype {images.dtype}, expected uint8 or floats")
            if images.size and not (jnp.min(images) >= 0 and jnp.max(images) <= 1):
                low, high = float(jnp.min(images)), float(jnp.max(images))
                raise ValueError(f"images: floats must lie in [0, 1], got {low:g} to {high:g}")
        return jax.nn.softmax(self.logits(images))


def logits(card: Card, images: Array, spec: models.Spec, normalize: bool = True) -> Array:
    """Logits (N, K) of a finished card; `normalize=False` skips the spec's mean and std."""
    if not normalize:
        spec = dataclasses.replace(spec, mean=(0.0,) * len(spec.mean), std=(1.0,) * len(spec.std))
    return _apply(spec)(card_module.weights(card), card.stats, images)


@functools.cache
def _apply(spec: models.Spec):
    apply = models.build(spec).apply
    return jax.jit(lambda weights, stats, images: apply(weights, stats, images, False)[0])


def save(path: str | Path, card: Card, spec: models.Spec, meta: dict[str, Any]) -> None:
    """Write a finished card atomically; the same card gives the same bytes.

    The file is a compressed .npz without pickles: the arrays, their masks packed to bits; `header`, JSON with spec,
    meta, and dtype, shape and SHA-256 of every array; `sha256` of the header. `meta` must be JSON.
    """
    arrays = _arrays(card)
    promises = {name: {**_described(x), "sha256": _sha256(x)} for name, x in arrays.items()}
    content = {"format": FORMAT, "spec": dataclasses.asdict(spec), "meta": meta, "arrays": promises}
    header = np.frombuffer(json.dumps(content).encode(), np.uint8)
    digest = np.frombuffer(hashlib.sha256(header).digest(), np.uint8)
    files.write_atomically(path, _zipped({"sha256": digest, "header": header, **arrays}))


def load(path: str | Path) -> CardFile:
    """Read a card file, without ever allocating more than its arrays take.

    Raises ValueError in one line where it is damaged or of another format, OSError where it cannot be read.
    """
    content = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _read(archive, len(content))
    except MemoryError:
        raise
    except Exception as error:  # zipfile, zlib, json and numpy raise a dozen kinds on damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: damaged, or not a card file ({reason})") from None


def _arrays(card: Card) -> dict[str, np.ndarray]:
    out = {}
    for part in PARTS:
        for path, x in flatten(getattr(card, part)).items():
            x = np.asarray(x)
            out[f"{part}/{path}"] = np.packbits(x) if x.dtype == bool else np.asarray(x, order="C")
    return out


def _described(x: Any) -> dict[str, Any]:
    return {"dtype": str(x.dtype), "shape": list(x.shape)}


def _sha256(x: np.ndarray) -> str:
    return hashlib.sha256(x.tobytes()).hexdigest()


def _zipped(arrays: dict[str, np.ndarray]) -> bytes:
    """What numpy.savez_compressed writes, without the time of day."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, x in arrays.items():
            one = io.BytesIO()
            np.lib.format.write_array(one, x, allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy")
            archive.writestr(member, one.getvalue(), zipfile.ZIP_DEFLATED)
    return whole.getvalue()


def _read(archive: zipfile.ZipFile, most: int) -> CardFile:
    header = _member(archive, "header", most)
    digest = hashlib.sha256(header).digest()
    if _member(archive, "sha256", most).tobytes() != digest:
        raise ValueError("header does not fit its SHA-256")
    content = json.loads(header.tobytes())
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}, this version reads {FORMAT}")
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in content["spec"].items()}
    spec, promises = models.Spec(**fields), content["arrays"]
    if sorted(archive.namelist()) != sorted(f"{x}.npy" for x in ("header", "sha256", *promises)):
        raise ValueError("arrays do not fit the header")
    _check_promises(promises, spec)
    arrays = {name: _array(archive, name, promises[name], most) for name in promises}
    return CardFile(_card(arrays, spec), spec, content["meta"])


def _check_promises(promises: dict[str, dict], spec: models.Spec) -> None:
    """Raise ValueError unless the header lists the arrays of its network: all, but that masks may be missing."""
    wanted = _wanted(spec)
    lacking = [name for name in wanted if name not in promises and not name.startswith("mask/")]
    foreign = [name for name in promises if name not in wanted]
    if lacking or foreign:
        raise ValueError(f"its network {'lacks' if lacking else 'has no'} {(lacking + foreign)[0]}")
    for name, promise in promises.items():
        if {k: promise[k] for k in ("dtype", "shape")} != wanted[name]:
            raise ValueError(f"{name} is {promise['dtype']}{promise['shape']}, not {wanted[name]}")


@functools.cache
def _wanted(spec: models.Spec) -> dict[str, dict[str, Any]]:
    """{name: dtype and shape} of every array that a card of this network may have."""
    params, stats = (flatten(x) for x in models.shapes(spec))
    out = {f"params/{path}": _described(x) for path, x in params.items()}
    out.update({f"stats/{path}": _described(x) for path, x in stats.items()})
    bits = {f"mask/{path}": -(-int(np.prod(x.shape)) // 8) for path, x in params.items()}
    return out | {name: {"dtype": "uint8", "shape": [count]} for name, count in bits.items()}


def _member(
    archive: zipfile.ZipFile, name: str, most: int, shape: list | None = None
) -> np.ndarray:
    """An array of bytes or floats from a zip of `most` bytes, its size checked before anything is allocated."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_size > most or info.file_size > DEFLATE_MOST * info.compress_size:
        raise ValueError(f"{name} cannot hold {info.file_size} bytes")
    file = io.BytesIO(archive.read(info))
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{name} is of another numpy format")
    found, _, dtype = np.lib.format.read_array_header_1_0(file)
    if shape is not None and list(found) != shape:
        raise ValueError(f"{name} has shape {found}, not {tuple(shape)}")
    return np.frombuffer(file.read(), dtype).reshape(found)


def _array(archive: zipfile.ZipFile, name: str, promise: dict, most: int) -> np.ndarray:
    x = _member(archive, name, most, promise["shape"])
    if str(x.dtype) != promise["dtype"] or _sha256(x) != promise["sha256"]:
        raise ValueError(f"{name} does not fit its SHA-256")
    return x


def _card(arrays: dict[str, np.ndarray], spec: models.Spec) -> Card:
    parts: dict[str, dict] = {part: {} for part in PARTS}
    for name, x in arrays.items():
        part, path = name.split("/", 1)
        parts[part][path] = x
    for path, bits in parts["mask"].items():
        shape = parts["params"][path].shape
        parts["mask"][path] = (
            np.unpackbits(bits, count=int(np.prod(shape))).astype(bool).reshape(shape)
        )
    params = unflatten(parts["params"])
    nothing = map_leaves(lambda _: None, params)
    holes = {path: parts["mask"].get(path) for path in parts["params"]}
    return Card(params, nothing, unflatten(holes), unflatten(parts["stats"]))
