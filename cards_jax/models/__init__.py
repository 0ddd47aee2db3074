"""Networks by name, as a plain pair of init and apply. Nothing outside this folder knows Flax.

A new architecture is one new file, a family, with

VARIANTS       its names;
WIDTH          its default width: channels of the first stage; WIDTHS ({name: width}) where a name's own is another;
NORMALISED     whether it has BatchNorm;
make           (spec, formulation, batch_axis) -> the network;
smallest_side  (name) -> the smallest image that it takes;
flattened      (spec) -> (height, width, channels) of the map that its first linear layer reads, where that reads one;
TORCH          {dialect: (our module path, spec) -> the module's name there}: the PyTorch originals, the default first;
               TORCH_LINEAR_4D names the dialects that store linear weights as 1x1 convolutions.
"""

import dataclasses
import difflib
import fnmatch
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cards_jax.tree import KERNEL, UNPRUNED, Tree, flatten, is_kernel, unflatten


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a network is: everything that its shapes and its arithmetic depend on.

    name, width: architecture and channels of its first stage (`models.width(name)` is the original's).
    image_HWC: shape of one image.
    affine, bias: learnable BatchNorm scale and bias (and, in VGGs, biases under it); bias of the last layer.
    gamma: initial BatchNorm scale, "ones" or "uniform" on [0, 1).
    unpruned: layers that are never pruned; their kernels bear the name tree.UNPRUNED.
    mean, std: per-channel constants that normalise images in [0, 1].
    """

    name: str
    width: int
    num_classes: int
    image_HWC: tuple[int, int, int] = (32, 32, 3)
    affine: bool = False
    bias: bool = False
    gamma: str = "ones"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    unpruned: tuple[str, ...] = ()


class Unknown(ValueError):
    """No architecture of that name is installed."""


class Model(NamedTuple):
    """init(key) -> (params, stats); apply(params, stats, images_BHWC, train) -> (logits_BK float32, stats).

    Images are uint8, or floats in [0, 1]; they are normalised with the spec's constants.
    """

    init: Callable[[Array], tuple[Tree, Tree]]
    apply: Callable[[Tree, Tree, Array, bool], tuple[Array, Tree]]


def families() -> dict[str, ModuleType]:
    """{architecture name: the module that makes it}."""
    return _families(tuple(__path__))


@cache
def _families(places: tuple[str, ...]) -> dict[str, ModuleType]:
    found = {}
    for module in pkgutil.iter_modules(places, __name__ + "."):
        family = importlib.import_module(module.name)
        found.update(dict.fromkeys(getattr(family, "VARIANTS", ()), family))
    return found


def family(name: str) -> ModuleType:
    """The module of an architecture; ValueError names the nearest one if there is none."""
    try:
        return families()[name]
    except KeyError:
        near = difflib.get_close_matches(name, families(), 1, 0)
        raise Unknown(
            f"no architecture {name!r}: nearest is {near[0]!r}, allowed are {', '.join(families())}"
        ) from None


def width(name: str) -> int:
    """The default width of an architecture."""
    module = family(name)
    return getattr(module, "WIDTHS", {}).get(name, module.WIDTH)


@cache
def build(
    spec: Spec,
    convolution: str | None = None,
    dtype: str = "float32",
    batch_axis: str | None = None,
) -> Model:
    """The network of `spec`.

    Args:
      convolution: formulation (models/convolution.py), None for the backend's default.
      dtype: of activations and of weights in convolutions; statistics and logits stay float32.
      batch_axis: mesh axis over which batches are split, or None.
    """
    net = family(spec.name).make(spec, convolution, batch_axis)
    mean, std = (np.float32(x).reshape(1, 1, 1, -1) for x in (spec.mean, spec.std))

    def init(key: Array) -> tuple[Tree, Tree]:
        variables = net.init(key, jnp.zeros((1, *spec.image_HWC)), False)
        return named(dict(variables["params"]), spec), dict(variables.get("stats", {}))

    def apply(params: Tree, stats: Tree, images: Array, train: bool) -> tuple[Array, Tree]:
        if images.dtype == jnp.uint8:
            images = images / jnp.float32(255)
        x = ((images - mean) / std).astype(dtype)
        own = {"params": unnamed(params), "stats": stats}
        logits, changed = net.apply(own, x, train, mutable=["stats"])
        return logits.astype(jnp.float32), dict(changed.get("stats", stats))

    return Model(init, apply)


def named(params: Tree, spec: Spec) -> Tree:
    """Parameters as a card has them: kernels of unpruned layers bear a name of their own, so that no rule is needed."""
    leaves = flatten(params)
    for layer in spec.unpruned:
        leaves[f"{layer}/{UNPRUNED}"] = leaves.pop(f"{layer}/{KERNEL}")
    return unflatten(leaves) if spec.unpruned else params


def unnamed(params: Tree) -> Tree:
    """Parameters as the network has them: the inverse of `named`."""
    leaves = {path: x for path, x in flatten(params).items() if path.endswith(f"/{UNPRUNED}")}
    if not leaves:
        return params
    plain = {path: x for path, x in flatten(params).items() if path not in leaves}
    return unflatten(plain | {path.replace(UNPRUNED, KERNEL): x for path, x in leaves.items()})


def layers_like(spec: Spec, patterns: Sequence[str]) -> tuple[str, ...]:
    """The convolution and linear layers whose names fit one of these patterns, as `fc` or `layer1_*/conv1`.

    Raises ValueError, naming all layers, for a pattern that fits none.
    """
    params, _ = shapes(dataclasses.replace(spec, unpruned=()))
    there = [path.removesuffix(f"/{KERNEL}") for path in flatten(params) if is_kernel(path)]
    for pattern in patterns:
        if not fnmatch.filter(there, pattern):
            raise ValueError(
                f"{pattern!r} is no layer; allowed are {', '.join(there)}, and patterns of them"
            )
    return tuple(x for x in there if any(fnmatch.fnmatchcase(x, p) for p in patterns))


def shapes(spec: Spec) -> tuple[Tree, Tree]:
    """(params, stats) of a network as shapes, without computing anything."""
    # Neither a key nor the backend's formulation: a config may ask before its run has chosen devices.
    return jax.eval_shape(lambda: build(spec, "native").init(jax.random.key(0)))
