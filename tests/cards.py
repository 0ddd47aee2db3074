"""Finished cards without training."""

import dataclasses
import functools
import hashlib
import io
import json
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cards_jax import masks, models, popup, tree
from cards_jax.card import Card
from cards_jax.pack import Origin

KEY = 7  # seed of the key from which all weights are drawn
SMALL = models.Spec("conv2", 4, 3, image_HWC=(8, 8, 3))
NARROW = models.Spec("conv2", 3, 3, image_HWC=(8, 8, 3))
NORMALISED = models.Spec("resnet18", 4, 10, image_HWC=(8, 8, 3))


def origin(kind: str = "kaiming_normal") -> Origin:
    """Of the weights of every card here."""
    return Origin.of(jax.random.key(KEY), kind)


@functools.cache
def fresh(spec: models.Spec) -> Card:
    """Random arrays of a network, whose BatchNorm averages are not 0 and 1; nothing is pruned."""
    rng = np.random.default_rng(0)
    near = {"mean": 0, "bias": 0}

    def drawn(path, x):
        middle = near.get(tree.name(path).rpartition("/")[2], 1)
        return rng.uniform(middle - 0.2, middle + 0.2, x.shape).astype(np.float32)

    params, stats = (jax.tree.map_with_path(drawn, part) for part in models.shapes(spec))
    nothing = tree.map_leaves(lambda _: None, params)
    return Card(params, nothing, nothing, stats)


def sampled(spec: models.Spec, sparsity: float, binary: bool) -> Card:
    """As a popup card ends: random weights, of which so many stay in every layer; compiles nothing."""
    card, rng = fresh(spec), np.random.default_rng(1)
    kernels = tree.flatten(tree.only_prunable(card.params))
    weights, mask = {}, {}
    for i, (path, x) in enumerate(kernels.items()):
        kept = masks.keep_counts([x.size], sparsity, "layerwise")[0]
        mask[path] = rng.permutation(np.arange(x.size) < kept).reshape(x.shape)
        w = origin().layer(i).units(np.arange(x.size)).reshape(x.shape)
        w *= np.float32(2 / popup.fan_in(x.shape) ** 0.5)
        w = np.float32(0.5) * np.sign(w) if binary else w
        weights[path] = np.where(mask[path], w, np.float32(0))
    flat = tree.flatten(card.params)
    holes = {path: mask.get(path) for path in flat}
    return card.replace(params=tree.unflatten({**flat, **weights}), mask=tree.unflatten(holes))


@functools.cache
def scored(spec: models.Spec, kind: str = "kaiming_normal") -> Card:
    """A popup card in training."""
    # Compiled, as the trainer does it.
    start = jax.jit(popup.start, static_argnums=(3, 4))
    return start(fresh(spec), jax.random.key(KEY), jnp.float32(0.05), kind, "none")


def popped(spec: models.Spec, sparsity: float, binary: bool, scope: str = "layerwise") -> Card:
    """The same finished, by its scores."""
    card = scored(spec)
    sizes = [x.size for x in jax.tree.leaves(card.frozen)]
    keep = jnp.asarray(masks.keep_counts(sizes, sparsity, scope))
    return popup.View(binary).finish(card, keep)


def images(spec: models.Spec, count: int = 4) -> np.ndarray:
    """Noise that the network takes."""
    return np.random.default_rng(1).random((count, *spec.image_HWC)).astype(np.float32)


def write_npz(path: Path, card, spec: models.Spec, meta: dict) -> None:
    """A file of the first format."""
    arrays = {}
    for part in ("params", "mask", "stats"):
        for name, x in tree.flatten(getattr(card, part)).items():
            x = np.asarray(x)
            arrays[f"{part}/{name}"] = np.packbits(x) if x.dtype == bool else x
    promises = {
        name: {
            "dtype": str(x.dtype),
            "shape": list(x.shape),
            "sha256": hashlib.sha256(x.tobytes()).hexdigest(),
        }
        for name, x in arrays.items()
    }
    content = {"format": 1, "spec": dataclasses.asdict(spec), "meta": meta, "arrays": promises}
    header = np.frombuffer(json.dumps(content).encode(), np.uint8)
    digest = np.frombuffer(hashlib.sha256(header).digest(), np.uint8)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, x in {"sha256": digest, "header": header, **arrays}.items():
            one = io.BytesIO()
            np.lib.format.write_array(one, x, allow_pickle=False)
            archive.writestr(f"{name}.npy", one.getvalue())
