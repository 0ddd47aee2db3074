"""Small dense networks that weigh what a card weighs: the control of every claim that a card is good for its size."""

import dataclasses
from pathlib import Path
from typing import Any

from cards_jax import codec, config, masks, models, pack, size, tree
from cards_jax.config import ConfigError
from cards_jax.models import Spec

# Of a card's config, what any network that is to be compared with it should share; where data lie is no part of it.
SHARED = ("data", "augment", "augmix", "gaussian", "prime", "batch_size", "epochs", "schedule")
SHARED += ("label_smoothing", "holdout", "optimizer")
PLACES = ("data.dir", "data.cache_dir", "data.download", "data.title")
FORM = "MODEL,SPARSITY,BITS or the path of a card file"


def dense_bytes(spec: Spec) -> int:
    """Weights, biases and BatchNorm of a dense network in float32: its file without the header."""
    return sum(map(tree.nbytes, models.shapes(spec)))


def card_bytes(spec: Spec, sparsity: float, bits: int) -> int:
    """The file of a card of `spec`, without its header, whose layers are all `sparsity` sparse.

    Masks cost their entropy; kept weights `bits` each: 32, or 1 and a gain per layer for signs, or 0 and the gain where
    a key draws the signs again. BatchNorm and biases are float32.
    """
    params, stats = models.shapes(spec)
    kernels = tree.only_prunable(params)
    sizes = [tree.size(x) for x in tree.flatten(kernels).values()]
    kept = masks.keep_counts(sizes, sparsity, "layerwise")
    coded = sum(codec.entropy(int(k), n) + bits * int(k) for k, n in zip(kept, sizes, strict=True))
    gains = 4 * len(sizes) if bits < 32 else 0
    rest = tree.nbytes(params) - tree.nbytes(kernels) + tree.nbytes(stats)
    return int(coded / 8) + gains + rest


def widest(spec: Spec, budget: int) -> int:
    """The largest width at which a dense network like `spec` takes at most `budget` bytes, found by bisection.

    Raises ValueError where even a width of 1 takes more.
    """
    fits = lambda width: dense_bytes(dataclasses.replace(spec, width=width)) <= budget
    if not fits(1):
        raise ValueError(f"a dense {spec.name} of width 1 takes more than {budget:,} bytes")
    low, high = 1, 2
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def network(like: str) -> tuple[str, int, dict[str, Any]]:
    """(model, width, fields) of the dense network that weighs at most what `like` does.

    like: "MODEL,SPARSITY,BITS", a card by its numbers (three input channels of 32 x 32, ten classes, the model's own
    width, fixed BatchNorm where bits < 32), or a card file, whose data and length of training are the fields.
    Raises ConfigError for anything else.
    """
    try:
        spec, budget, fields = _of_file(like) if Path(like).is_file() else _of_numbers(like)
        dense = dataclasses.replace(spec, affine=models.family(spec.name).NORMALISED)
        return spec.name, widest(dataclasses.replace(dense, bias=dense.affine), budget), fields
    except ValueError as error:
        raise ConfigError(f"{like!r}: {error}; allowed is {FORM}") from None


def _of_numbers(like: str) -> tuple[Spec, int, dict[str, Any]]:
    parts = like.split(",")
    if len(parts) != 3:
        raise ValueError("no such file, and not three values")
    name, sparsity, bits = parts[0], float(parts[1]), int(parts[2])
    if not 0 <= sparsity < 1 or bits not in (0, 1, 32):
        raise ValueError("sparsity must be from 0 to below 1, bits one of 0, 1, 32")
    affine = models.family(name).NORMALISED and bits == 32
    spec = Spec(name, models.width(name), 10, affine=affine, bias=affine)
    return spec, card_bytes(spec, sparsity, bits), {}


def _of_file(path: str) -> tuple[Spec, int, dict[str, Any]]:
    (spec, meta), rows = pack.about(path), size.table(path).rows
    header = next(row.true for row in rows if row.name == "header")
    if not isinstance(meta.get("config"), dict):
        return spec, rows[-1].true - header, {}
    whole = {**config.flat(config.defaults()), **meta["config"]}  # a card says what is no default
    fields = {k: v for k, v in whole.items() if k.partition(".")[0] in SHARED and k not in PLACES}
    return spec, rows[-1].true - header, fields
