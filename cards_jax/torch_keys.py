"""Which PyTorch key is which array of a card, in which layout: a table made from a network's own shapes.

A network's keys differ between code bases. Every family names its dialects, TORCH in models/; the table is what a
dialect calls the arrays that the network has.
"""

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from cards_jax import models
from cards_jax.models import Spec
from cards_jax.tree import KERNEL, UNPRUNED, flatten, is_kernel, prunable

LEAF = {
    KERNEL: "weight",
    UNPRUNED: "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
IGNORED = ("num_batches_tracked", "mu", "sigma")
WRAPPERS = ("module.", "model.")  # of DataParallel, and of classes around a network


class Place(NamedTuple):
    """Where an array of a state_dict belongs.

    part, path: "params", "stats" or "scores", and the slash path there.
    torch, ours: its shape in PyTorch and in a card.
    sides: height and width of the map (or window) that a kernel reads; None for what is no kernel.
    """

    part: str
    path: str
    torch: tuple[int, ...]
    ours: tuple[int, ...]
    sides: tuple[int, int] | None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape can be meant: linear weights may be stored as 1x1 convolutions or not."""
        linear = self.sides is not None and len(self.ours) == 2
        return shape == self.torch or (linear and (shape + (1, 1))[:4] == (self.torch + (1, 1))[:4])

    def to_ours(self, x: np.ndarray) -> np.ndarray:
        """OIHW to HWIO. A linear kernel is one as large as its map, so that (C, H, W) inputs become (H, W, C)."""
        if self.sides is None:
            return x
        oihw = x.reshape(x.shape[0], -1, *self.sides)
        return oihw.transpose(2, 3, 1, 0).reshape(self.ours)

    def to_torch(self, x: np.ndarray) -> np.ndarray:
        """The inverse of `to_ours`."""
        if self.sides is None:
            return x
        hwio = x.reshape(*self.sides, -1, x.shape[-1])
        return np.ascontiguousarray(hwio.transpose(3, 2, 0, 1)).reshape(self.torch)


Table = dict[str, Place]


@cache
def table(spec: Spec, dialect: str) -> Table:
    """{torch key: its place} of everything that a network has in a dialect, popup scores included."""
    family = models.family(spec.name)
    if dialect not in family.TORCH:
        raise ValueError(
            f"dialect: got {dialect!r}, allowed for {spec.name} are {', '.join(family.TORCH)}"
        )
    linear_4d = dialect in getattr(family, "TORCH_LINEAR_4D", ())
    found = {}
    for part, tree in zip(("params", "stats"), models.shapes(spec), strict=True):
        leaves = {path: x.shape for path, x in flatten(tree).items()}
        flat = _reads_a_map(leaves, spec)
        for path, shape in leaves.items():
            module, leaf = path.rsplit("/", 1)
            key = family.TORCH[dialect](module, spec)
            torch, sides = _in_torch(path, shape, flat, linear_4d)
            found[f"{key}.{LEAF[leaf]}"] = Place(part, path, torch, shape, sides)
            if prunable(path):
                found[f"{key}.scores"] = Place("scores", path, torch, shape, sides)
    return found


def _reads_a_map(
    shapes: dict[str, tuple[int, ...]], spec: Spec
) -> tuple[str, tuple[int, int]] | None:
    """(path, sides) of the linear kernel that reads a map: the first with so many inputs; None where none does.

    Raises ValueError where one should, and has another number of inputs: its order cannot be told.
    """
    flattened = getattr(models.family(spec.name), "flattened", None)
    if flattened is None:
        return None
    height, width, channels = flattened(spec)
    linear = [path for path, shape in shapes.items() if is_kernel(path) and len(shape) == 2]
    fitting = [path for path in linear if shapes[path][0] == height * width * channels]
    if linear and not fitting:
        raise ValueError(
            f"{linear[0]}: {shapes[linear[0]][0]} inputs, of a {height} x {width} x {channels} map"
        )
    return (fitting[0], (height, width)) if fitting else None


def _in_torch(path, shape, flat, linear_4d) -> tuple[tuple[int, ...], tuple[int, int] | None]:
    """(shape in PyTorch, sides) of one of our arrays."""
    if not is_kernel(path):
        return shape, None
    if len(shape) == 4:
        height, width, inputs, outputs = shape
        return (outputs, inputs, height, width), (height, width)
    sides = flat[1] if flat and flat[0] == path else (1, 1)
    return shape[::-1] + (1, 1) * linear_4d, sides


def path_of(key: str, spec: Spec) -> tuple[str, str]:
    """(our module's slash path, torch's leaf name) of a torch key, e.g. ("layer1_0/conv1", "weight").

    Raises ValueError for a key of no dialect.
    """
    for dialect in models.family(spec.name).TORCH:
        if place := table(spec, dialect).get(key):
            return place.path.rsplit("/", 1)[0], key.rsplit(".", 1)[1]
    raise ValueError(f"{key}: not part of {spec.name}")


def dialect_of(keys: Mapping[str, Any], spec: Spec) -> str:
    """The dialect that has most of these torch keys; the family's default among equals."""
    return max(
        models.family(spec.name).TORCH, key=lambda name: len(table(spec, name).keys() & keys.keys())
    )


def spec_of(arrays: Mapping[str, np.ndarray], name: str, **options: Any) -> Spec:
    """The spec of an architecture whose width, classes, BatchNorm and bias are those of torch arrays.

    `options` are fields of the spec that are known, or not to be seen in a state_dict (image_HWC; mean and std, but for
    those of a wrapper that normalises). Raises ValueError for an unknown architecture.
    """
    constants, arrays = normalisation(arrays), unwrapped(arrays)
    known = {"width": models.width(name), "num_classes": 10, "affine": True, "bias": True}
    whole = Spec(name, **{**known, **options})
    dialect = dialect_of(arrays, whole)
    here = table(whole, dialect)
    wider = table(dataclasses.replace(whole, width=2 * whole.width), dialect)
    finer = table(dataclasses.replace(whole, num_classes=2 * whole.num_classes), dialect)
    last = {key for key, place in here.items() if place.torch != finer[key].torch}
    has = lambda leaf, keys: any(k in arrays and here[k].path.endswith(f"/{leaf}") for k in keys)
    facts = {
        "width": _solved(arrays, here, wider, whole.width),
        "num_classes": _solved(arrays, here, finer, whole.num_classes),
        "affine": has("scale", here),
        "bias": has("bias", last),
    }
    return dataclasses.replace(whole, **{**constants, **facts, **options})


def _solved(arrays: Mapping[str, np.ndarray], once: Table, twice: Table, value: int) -> int:
    """The field's value that gives an array its shape; `twice` is the table of twice the value.

    Every number of channels is linear in the width and the classes.
    """
    for key, place in once.items():
        for axis, (a, b) in enumerate(zip(place.torch, twice[key].torch, strict=True)):
            if a != b and key in arrays and arrays[key].ndim > axis:
                return max(1, value + round((arrays[key].shape[axis] - a) * value / (b - a)))
    return value


def normalisation(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[float, ...]]:
    """{"mean", "std"} where a network brings them along as buffers `mu` and `sigma`, {} where it does not.

    Raises ValueError for deviations that are not above zero.
    """
    named = {k.rsplit(".", 1)[-1]: np.asarray(x, np.float64).ravel() for k, x in arrays.items()}
    mu, sigma = named.get("mu"), named.get("sigma")
    if mu is None or sigma is None or mu.shape != sigma.shape:
        return {}
    if not np.all(sigma > 0):
        raise ValueError(f"sigma: {sigma.tolist()}; allowed are deviations above 0")
    return {"mean": tuple(mu.tolist()), "std": tuple(sigma.tolist())}


def default_dialect(spec: Spec) -> str:
    """The first dialect of a network's family."""
    return next(iter(models.family(spec.name).TORCH))


def unwrapped(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays under their plain keys, without those that a card has no use for."""
    kept = {k: np.asarray(x) for k, x in arrays.items() if k.rsplit(".", 1)[-1] not in IGNORED}
    if not kept:
        raise ValueError("the state_dict is empty")
    while prefix := next((p for p in WRAPPERS if all(k.startswith(p) for k in kept)), ""):
        kept = {k.removeprefix(prefix): x for k, x in kept.items()}
    return kept
