"""PyTorch state_dicts of the originals to and from cards: torch keys and numpy arrays, no torch, no pickle."""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from cards_jax import models
from cards_jax.card import Card
from cards_jax.models import Spec
from cards_jax.tree import Tree, flatten, map_leaves, prunable, unflatten

LEAF = {"weight": "kernel", "bias": "bias", "running_mean": "mean", "running_var": "var"}
IGNORED = ("num_batches_tracked", "mu", "sigma")


def _conv_path(module: str) -> str:
    """convs.{0,2,5,7,...} are convolutions (a max-pool and ReLUs take numbers too), linear.{0,2,4} the head."""
    kind, number = module.split(".")
    number = int(number)
    if kind == "linear":
        return f"linear{number // 2 + 1}"
    return f"conv{number // 5 * 2 + (number % 5) // 2 + 1}"


def _resnet_path(module: str) -> str:
    """layer1.0.conv1 is layer1_0/conv1; the projection is called downsample or shortcut."""
    module = re.sub(r"^(layer\d)\.(\d+)\.", r"\1_\2/", module)
    return re.sub(r"(downsample|shortcut)\.([01])", lambda m: PROJECTION[m[2]], module)


PROJECTION = {"0": "shortcut_conv", "1": "shortcut_bn"}
MODULE_PATH = {"conv": _conv_path, "resnet": _resnet_path}


def path_of(key: str, spec: Spec) -> tuple[str, str]:
    """(our slash path, torch's leaf name) of a torch key, e.g. ("layer1_0/conv1", "weight")."""
    module, leaf = key.rsplit(".", 1)
    family = models.family(spec.name).__name__.rsplit(".", 1)[-1]
    return MODULE_PATH[family](module), leaf


def _kernel_shape(path: str, spec: Spec) -> tuple[int, ...]:
    params, _ = models.shapes(spec)
    return flatten(params)[f"{path}/kernel"].shape


def to_ours(x: np.ndarray, shape: tuple[int, ...], spec: Spec) -> np.ndarray:
    """A torch kernel in our layout: OIHW to HWIO, (O, I) or (O, I, 1, 1) to (I, O).

    The first linear layer behind a map reads it as (H, W, C), where torch reads (C, H, W).
    """
    if len(shape) == 4:
        return x.transpose(2, 3, 1, 0)
    x = x.reshape(x.shape[:2])
    side = _flattened_side(x.shape[1], spec)
    return x.reshape(x.shape[0], -1, side, side).transpose(2, 3, 1, 0).reshape(shape)


def to_torch(x: np.ndarray, shape: tuple[int, ...], spec: Spec) -> np.ndarray:
    """The inverse of `to_ours`, with torch's shape (O, I, kh, kw) or (O, I)."""
    if x.ndim == 4:
        return x.transpose(3, 2, 0, 1)
    side = _flattened_side(x.shape[0], spec)
    return x.reshape(side, side, -1, x.shape[1]).transpose(3, 2, 0, 1).reshape(shape)


def _flattened_side(inputs: int, spec: Spec) -> int:
    """Side of the map that a linear layer with so many inputs reads, 1 where it reads a vector."""
    family = models.family(spec.name)
    if not hasattr(family, "flattened"):
        return 1
    side, channels = family.flattened(spec)
    return side if inputs == side * side * channels else 1


def import_state_dict(
    arrays: Mapping[str, np.ndarray], model: Spec | str, **options: Any
) -> tuple[Card, Tree]:
    """A card from torch arrays, and the scores where there are any (else an empty tree).

    Args:
      arrays: {torch key: array}.
      model: a spec, or an architecture's name with `options` for the spec's other fields (width, num_classes, ...);
        `affine` and `bias` follow the keys that are there.

    Raises ValueError naming the first key that is missing, unknown, or of another shape.
    """
    spec = model if isinstance(model, Spec) else _spec(arrays, model, **options)
    params, stats, scores = {}, {}, {}
    for key, x in arrays.items():
        if key.rsplit(".", 1)[-1] in IGNORED:
            continue
        path, leaf = path_of(key, spec)
        x = np.asarray(x)
        if leaf in ("running_mean", "running_var"):
            stats[f"{path}/{LEAF[leaf]}"] = x
        elif leaf == "scores":
            scores[f"{path}/kernel"] = to_ours(x, _kernel_shape(path, spec), spec)
        elif leaf == "weight" and x.ndim == 1:
            params[f"{path}/scale"] = x
        elif leaf == "weight":
            params[f"{path}/kernel"] = to_ours(x, _kernel_shape(path, spec), spec)
        else:
            params[f"{path}/{LEAF[leaf]}"] = x
    _check((params, stats), models.shapes(spec))
    tree = lambda flat: unflatten({k: jnp.asarray(v) for k, v in sorted(flat.items())})
    nothing = map_leaves(lambda _: None, tree(params))
    return Card(tree(params), nothing, nothing, tree(stats)), tree(scores)


def _spec(arrays: Mapping[str, np.ndarray], name: str, **options: Any) -> Spec:
    module = models.family(name)
    last = next(
        k for k in reversed(sorted(arrays)) if k.startswith(("fc.weight", "linear.4.weight"))
    )
    facts = {
        "width": module.WIDTH,
        "num_classes": arrays[last].shape[0],
        "affine": any(k.endswith("bn1.weight") for k in arrays),
        "bias": "fc.bias" in arrays,
    }
    return Spec(name, **{**facts, **options})


def _check(found: tuple[dict, dict], wanted: tuple[Tree, Tree]) -> None:
    for have, want in zip(found, map(flatten, wanted), strict=True):
        for path in have.keys() ^ want.keys():
            raise ValueError(f"{path}: {'missing' if path in want else 'not part of this network'}")
        for path, x in have.items():
            if x.shape != want[path].shape:
                raise ValueError(f"{path}: got shape {x.shape}, expected {want[path].shape}")


def torch_layout(
    grads: Tree, keys: Mapping[str, tuple[int, ...]], spec: Spec
) -> dict[str, np.ndarray]:
    """{torch key: array} of a params-like tree, for torch keys and shapes such as a state_dict lists."""
    ours = flatten(grads)
    out = {}
    for key, shape in keys.items():
        path, leaf = path_of(key, spec)
        name = (
            "kernel" if leaf == "scores" or len(shape) > 1 else {"weight": "scale"}.get(leaf, leaf)
        )
        if f"{path}/{name}" in ours:
            x = np.asarray(ours[f"{path}/{name}"])
            out[key] = to_torch(x, tuple(shape), spec) if prunable(f"{path}/{name}") else x
    return out
