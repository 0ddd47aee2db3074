"""PyTorch state_dicts of the originals to and from cards: torch keys and numpy arrays, no torch, no pickle."""

import dataclasses
import difflib
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cards_jax import card as card_module
from cards_jax import masks
from cards_jax.card import Card
from cards_jax.models import Spec
from cards_jax.pack import CardFile
from cards_jax.popup import View
from cards_jax.torch_keys import (
    Table,
    default_dialect,
    dialect_of,
    normalisation,
    path_of,
    spec_of,
    table,
    unwrapped,
)
from cards_jax.tree import Tree, fill, flatten, map_leaves, only_prunable, prunable, unflatten

__all__ = [
    "export_deck",
    "export_mask",
    "export_state_dict",
    "import_deck",
    "import_scores",
    "import_state_dict",
    "path_of",
    "popped",
    "spec_of",
    "torch_layout",
]


def import_state_dict(
    arrays: Mapping[str, np.ndarray],
    model: Spec | str,
    *,
    mask: str | Mapping[str, np.ndarray] | None = None,
    sparsity: float | None = None,
    scope: str = "layerwise",
    binary: bool = True,
    **options: Any,
) -> CardFile:
    """A card from torch arrays, ready to predict; popup scores are left to `import_scores` unless `sparsity` is given.

    Args:
      arrays: {torch key: array}. Prefixes of wrappers (`module.`, `model.`) go, and so do counters of batches; buffers
        mu and sigma of a wrapper that normalises are mean and std, unless these are given. Popup scores may be there.
      model: a spec, or an architecture's name; `spec_of` reads the rest from the arrays.
      mask: "zeros" takes exact zeros as pruned (RobustBench's cards); {torch key: zeros and ones} is such a mask
        (open_lth's mask.pth); None gives a card without a mask.
      sparsity, scope, binary: where `sparsity` is given, the arrays' scores decide which weights stay (as in
        hidden-networks and biprop), and the card has the effective weights: gain times sign if binary. (biprop's
        layerwise gains are larger by up to a percent: it divides by the kept count, mostly less one.)
      options: the spec's fields, e.g. width, num_classes, mean, std.

    Raises ValueError naming the first key that is missing, unknown, of another shape or not of floats.
    """
    if mask is not None and sparsity is not None:
        raise ValueError("mask, sparsity: one of them decides which weights stay, not both")
    spec, places, parts = _read(arrays, model, options)
    params = parts["params"]
    nothing = map_leaves(lambda _: None, params)
    card = Card(params, nothing, _mask(params, mask, places), parts["stats"])
    if sparsity is not None:
        card = popped(card, parts["scores"], sparsity, scope, binary)
    return CardFile(card, spec, {})


def import_scores(arrays: Mapping[str, np.ndarray], model: Spec | str, **options: Any) -> Tree:
    """The popup scores among torch arrays, an empty tree where there are none; arguments as `import_state_dict`."""
    return _read(arrays, model, options)[2]["scores"]


def _read(arrays, model: Spec | str, options: dict) -> tuple[Spec, Table, dict[str, Tree]]:
    """(spec, where each key belongs, the trees params, stats and scores)."""
    if isinstance(model, Spec):
        spec = dataclasses.replace(model, **options)
    else:
        spec = spec_of(arrays, model, **options)
    arrays = unwrapped(arrays)
    places = table(spec, dialect_of(arrays, spec))
    _check(arrays, places, spec)
    parts: dict[str, dict] = {"params": {}, "stats": {}, "scores": {}}
    for key, place in places.items():
        if key in arrays:
            parts[place.part][place.path] = _array(place.to_ours(arrays[key]))
    return spec, places, {name: unflatten(part) for name, part in parts.items()}


def import_deck(
    arrays: Mapping[str, np.ndarray], model: Spec | str, **options: Any
) -> list[CardFile]:
    """The cards of a RobustBench deck, whose keys begin with `models.0.`, `models.1.`, ...

    Options are those of `import_state_dict`; raises ValueError as it does.
    """
    members: dict[int, dict] = {}
    if not isinstance(model, Spec):  # one wrapper normalises for all
        options = {**normalisation(arrays), **options}
    for key, x in unwrapped(arrays).items():
        match = re.fullmatch(r"models\.(\d{1,4})\.(.+)", key)
        if not match:
            raise ValueError(f"{key}: not part of a deck, whose keys begin with models.0., ...")
        members.setdefault(int(match[1]), {})[match[2]] = x
    return [_member(i, members.get(i, {}), model, options) for i in range(max(members) + 1)]


def _member(i: int, arrays: dict, model: Spec | str, options: dict) -> CardFile:
    try:
        return import_state_dict(arrays, model, **options)
    except ValueError as error:
        raise ValueError(f"models.{i}.{error}") from None


def export_state_dict(
    card: Card | CardFile,
    spec: Spec | None = None,
    dialect: str | None = None,
    scores: Tree | None = None,
) -> dict[str, np.ndarray]:
    """{torch key: float32 array} of a finished card, which the dialect's classes load; pruned weights are exact zeros.

    Args:
      card, spec: what `cards_jax.load` returns, or a bare Card with the spec of its network.
      dialect: one of the family's TORCH; its first where None.
      scores: written too where given. biprop's and hidden-networks' classes want some: `card.mask` makes them choose
        the card's own weights, at its sparsity.

    Raises ValueError for a card of another network, or one that is still in training.
    """
    if isinstance(card, CardFile):
        card, spec = card.card, spec or card.spec
    parts = {
        "params": flatten(card_module.weights(card)),
        "stats": flatten(card.stats),
        "scores": flatten(scores if scores is not None else {}),
    }
    out = {}
    for key, place in table(spec, dialect or default_dialect(spec)).items():
        if place.path in parts[place.part]:
            x = np.asarray(parts[place.part][place.path], np.float32)
            if x.shape != place.ours:
                raise ValueError(
                    f"{place.path}: the card has shape {x.shape}, {spec} has {place.ours}"
                )
            out[key] = place.to_torch(x)
        elif place.part != "scores":
            raise ValueError(f"{place.path}: the card has none, {spec} has")
    return out


def export_mask(card: Card, spec: Spec, dialect: str | None = None) -> dict[str, np.ndarray]:
    """{torch key of the weight: int32 zeros and ones}, as open_lth keeps masks beside its models."""
    places = table(spec, dialect or default_dialect(spec)).items()
    mask = flatten(card.mask)
    return {
        key: place.to_torch(np.asarray(mask[place.path], np.int32))
        for key, place in places
        if place.part == "params" and place.path in mask
    }


def export_deck(cards: list[Card], spec: Spec, dialect: str | None = None) -> dict[str, np.ndarray]:
    """The inverse of `import_deck`: one state_dict of several cards."""
    return {
        f"models.{i}.{key}": x
        for i, card in enumerate(cards)
        for key, x in export_state_dict(card, spec, dialect).items()
    }


def popped(card: Card, scores: Tree, sparsity: float, scope: str, binary: bool) -> Card:
    """The finished card of popup scores on a card of frozen weights, as `popup.View` makes it.

    Raises ValueError where a kernel has no scores, or `scope` is unknown.
    """
    if scope not in masks.SCOPES:
        raise ValueError(f"scope: got {scope!r}, allowed are {', '.join(masks.SCOPES)}")
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity: got {sparsity}, allowed is [0, 1)")
    found = flatten(scores)
    for path in flatten(card.params):
        if prunable(path) and path not in found:
            raise ValueError(f"{path}: no scores, which sparsity={sparsity} needs")
    holes = unflatten({path: found.get(path) for path in flatten(card.params)})
    sizes = [x.size for x in found.values()]
    keep = jnp.asarray(masks.keep_counts(sizes, sparsity, scope))
    training = card.replace(params=fill(holes, card.params), frozen=only_prunable(card.params))
    view = View(binary, "strict" if scope == "global" else "index")
    return jax.jit(view.finish)(training, keep)


def _check(arrays: Mapping[str, np.ndarray], places: Table, spec: Spec) -> None:
    """Raise ValueError naming the first key that does not belong, or does not fit."""
    network = f"{spec.name} of width {spec.width} with {spec.num_classes} classes"
    for key, place in places.items():
        if key not in arrays:
            if place.part != "scores":
                raise ValueError(f"{key}: missing, expected shape {place.torch} in {network}")
        elif not place.fits(arrays[key].shape):
            got = arrays[key].shape
            raise ValueError(f"{key}: got shape {got}, expected {place.torch} in {network}")
        elif not jnp.issubdtype(arrays[key].dtype, jnp.floating):
            raise ValueError(f"{key}: got dtype {arrays[key].dtype}, expected floats")
    for key in arrays:
        if key not in places:
            near = difflib.get_close_matches(key, places, 1, 0)[0]
            raise ValueError(f"{key}: not part of {network}, whose nearest key is {near}")


def _array(x: np.ndarray) -> Array:
    return jnp.array(np.asarray(x, np.float32))  # a copy: the caller may go on changing his array


def _mask(params: Tree, mask: str | Mapping[str, np.ndarray] | None, places: Table) -> Tree:
    """What `import_state_dict` says of its argument."""
    if mask is None:
        return map_leaves(lambda _: None, params)
    if isinstance(mask, str):
        if mask != "zeros":
            raise ValueError(f"mask: got {mask!r}, allowed are 'zeros', a mapping of arrays, None")
        return map_leaves(lambda w: None if w is None else w != 0, only_prunable(params))
    found = {}
    for key, x in unwrapped(mask).items():
        place = places.get(key)
        if place is None or place.part != "params" or not prunable(place.path):
            raise ValueError(f"mask {key}: no weight that can be pruned")
        if not place.fits(x.shape):
            raise ValueError(f"mask {key}: got shape {x.shape}, expected {place.torch}")
        if not np.isin(x, (0, 1)).all():
            raise ValueError(f"mask {key}: got values other than 0 and 1")
        found[place.path] = jnp.array(place.to_ours(x) != 0)
    return unflatten({path: found.get(path) for path in flatten(params)})


def torch_layout(
    tree: Tree, keys: Mapping[str, tuple[int, ...]], spec: Spec
) -> dict[str, np.ndarray]:
    """{torch key: array} of a params-like tree (gradients, say), for torch keys and shapes such as a state_dict lists.

    A key of scores gives what the tree has for its kernel; keys of which the tree has nothing are left out.
    """
    ours, places = flatten(tree), table(spec, dialect_of(keys, spec))
    wanted = {key: place for key, place in places.items() if key in keys and place.path in ours}
    return {
        key: place.to_torch(np.asarray(ours[place.path])).reshape(keys[key])
        for key, place in wanted.items()
    }
