"""Card files: one finished card with everything that predicting needs, and a hash."""

import dataclasses
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
            raise ValueError(f"images: got shape {images.shape}, expected (N, {self.spec.image_HWC})")
        if images.dtype != jnp.uint8:
            if not jnp.issubdtype(images.dtype, jnp.floating):
                raise ValueError(f"images: got dtype {images.dtype}, expected uint8 or floats")
            if images.size and not (jnp.min(images) >= 0 and jnp.max(images) <= 1):
                raise ValueError("images: floats must lie in [0, 1]")
        return jax.nn.softmax(self.logits(images))


def logits(card: Card, images: Array, spec: models.Spec, normalize: bool = True) -> Array:
    """Logits (N, K) of a finished card; `normalize=False` skips the spec's mean and std."""
    if not normalize:
        spec = dataclasses.replace(spec, mean=(0.0,) * len(spec.mean), std=(1.0,) * len(spec.std))
    return _apply(spec)(card_module.weights(card), card.stats, images)


def _apply(spec: models.Spec):
    apply = models.build(spec).apply
    return jax.jit(lambda weights, stats, images: apply(weights, stats, images, False)[0])


def _arrays(card: Card) -> dict[str, np.ndarray]:
    out = {}
    for part in PARTS:
        for path, x in flatten(getattr(card, part)).items():
            x = np.asarray(x)
            out[f"{part}/{path}"] = np.packbits(x) if x.dtype == bool else x
    return out


def _digest(arrays: dict[str, np.ndarray], header: dict) -> str:
    sha = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        sha.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        sha.update(np.ascontiguousarray(arrays[name]).tobytes())
    return sha.hexdigest()


def save(path: str | Path, card: Card, spec: models.Spec, meta: dict[str, Any]) -> None:
    """Write a finished card atomically: a compressed .npz without pickles, whose header holds spec, meta and a hash."""
    arrays = _arrays(card)
    header = {"format": FORMAT, "spec": dataclasses.asdict(spec), "meta": meta}
    header["sha256"] = _digest(arrays, header)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)
    files.write_atomically(path, buffer.getvalue())


def load(path: str | Path) -> CardFile:
    """Read a card file. Raises ValueError in one line where it is damaged or of another format."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays.pop("header").tobytes())
        digest = header.pop("sha256")
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path}: not a card file, or damaged ({error})") from None
    if header.get("format") != FORMAT or digest != _digest(arrays, header):
        raise ValueError(f"{path}: damaged, or of another format than {FORMAT}")
    spec = {k: tuple(v) if isinstance(v, list) else v for k, v in header["spec"].items()}
    spec = models.Spec(**spec)
    return CardFile(_card(arrays, spec), spec, header["meta"])


def _card(arrays: dict[str, np.ndarray], spec: models.Spec) -> Card:
    parts: dict[str, dict] = {part: {} for part in PARTS}
    for name, x in arrays.items():
        part, path = name.split("/", 1)
        parts[part][path] = x
    for path, bits in parts["mask"].items():
        shape = parts["params"][path].shape
        parts["mask"][path] = np.unpackbits(bits, count=int(np.prod(shape))).astype(bool).reshape(shape)
    params = unflatten(parts["params"])
    nothing = map_leaves(lambda _: None, params)
    holes = {path: parts["mask"].get(path) for path in parts["params"]}
    return Card(params, nothing, unflatten(holes), unflatten(parts["stats"]))
