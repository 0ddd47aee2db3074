"""A finished card as the content of a file, and back.

The file is a container (container.py). Its header (layout.py) says what the payload holds: for every array of params
its mask (codec.py) and its kept values (forms.py), then the BatchNorm averages.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

import cards_jax
from cards_jax import codec, container, forms, layout, models
from cards_jax.card import Card
from cards_jax.layout import Contents, Entry
from cards_jax.origin import Draw, Origin
from cards_jax.tree import flatten, map_leaves, prunable, unflatten

WEIGHTS = ("auto", "signs", "key", "float32", "float16", "int8")
Flat = dict[str, np.ndarray]  # by slash path


class Decoded(NamedTuple):
    """A card, and what its file says of it."""

    card: Card
    spec: models.Spec
    meta: dict[str, Any]
    origin: Origin | None


class OtherGenerator(ValueError):
    """The file is whole, but its weights cannot be drawn again on this machine."""


def encode(
    card: Card,
    spec: models.Spec,
    meta: dict[str, Any],
    weights: str = "auto",
    origin: Origin | None = None,
) -> bytes:
    """The content of a card's file, after reading it back; the same card gives the same bytes.

    Args:
      meta: anything that JSON can hold.
      weights: how convolution and linear weights are written. "auto": by layer, the smallest form that gives back every
        bit on every machine. "signs": one gain per layer, for binary cards. "key": drawn again from `origin`, which for
        weights that are not binary needs a machine with the same arithmetic. "float32"; "float16", which changes a
        weight w by at most 2^-11 |w| + 2^-25; "int8", with one scale for each output channel, the largest weight of the
        channel / 127, which changes a weight by at most half of it.
      origin: of the weights of a popup card.

    Raises ValueError where the card is not of the network, or its weights do not have that form.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights={weights!r}: allowed are {', '.join(WEIGHTS)}")
    if weights == "key" and origin is None:
        raise ValueError("weights='key': needs the origin of the card's weights")
    params, mask, stats = _flat(card, spec)
    draws, drawn, pieces, entries = _draws(params, origin), hashlib.sha256(), [], {}
    for path, x in params.items():
        with _named(path):
            entries[path], piece, keyed = _packed(x, mask.get(path), draws.get(path), weights, path)
        pieces.append(piece)
        drawn.update(keyed)
    pieces += [x.astype("<f4").tobytes() for x in stats.values()]
    keyed = any(entry.form in forms.KEYED for entry in entries.values())
    contents = Contents(
        spec=dataclasses.asdict(spec),
        meta=meta,
        params=entries,
        stats={path: Entry(x.shape) for path, x in stats.items()},
        origin=origin,
        drawn=drawn.hexdigest() if keyed else None,
        versions=_versions(),
    )
    content = container.wrap(contents.written(), b"".join(pieces))
    _compare(decode(content), (params, mask, stats), contents)
    return content


def _flat(card: Card, spec: models.Spec) -> tuple[Flat, Flat, Flat]:
    """(params, mask, stats) of a finished card by paths; ValueError where they are not of the network."""
    if jax.tree.leaves(card.frozen):
        raise ValueError("this card's params are popup scores: finish it first (train.finish)")
    parts = [flatten(x) for x in (card.params, card.mask, card.stats)]
    params, mask, stats = ({k: np.asarray(x) for k, x in part.items()} for part in parts)
    _check(params, stats, spec)
    for path, x in mask.items():
        if not prunable(path) or x.dtype != bool or x.shape != params[path].shape:
            raise ValueError(f"mask/{path}: {x.dtype}{list(x.shape)} is no mask of a kernel")
    return params, mask, stats


def _check(params: dict[str, Any], stats: dict[str, Any], spec: models.Spec) -> None:
    """Raise ValueError, naming the array, unless these are float32 arrays, or entries, of the network."""
    for part, found, wanted in zip(
        ("params", "stats"), (params, stats), _shapes(spec), strict=True
    ):
        for path in [*wanted, *found]:
            if path not in found or path not in wanted:
                raise ValueError(
                    f"its network {'has no' if path in found else 'lacks'} {part}/{path}"
                )
            if tuple(found[path].shape) != wanted[path]:
                raise ValueError(
                    f"{part}/{path} has shape {list(found[path].shape)}, not {list(wanted[path])}"
                )
            if getattr(found[path], "dtype", np.float32) != np.float32:
                raise ValueError(f"{part}/{path} is {found[path].dtype}, not float32")


@functools.cache
def _shapes(spec: models.Spec) -> tuple[dict[str, tuple], dict[str, tuple]]:
    params, stats = (flatten(x) for x in models.shapes(spec))
    return {k: x.shape for k, x in params.items()}, {k: x.shape for k, x in stats.items()}


def _draws(params: dict[str, Any], origin: Origin | None) -> dict[str, Draw]:
    """{path: the random weights of that layer}, as popup.start numbers them."""
    if origin is None:
        return {}
    return {path: origin.layer(i) for i, path in enumerate(filter(prunable, params))}


def _packed(
    x: np.ndarray, mask: np.ndarray | None, draw: Draw | None, weights: str, path: str
) -> tuple[Entry, bytes, bytes]:
    """(entry, its bytes, the kept values where a key gives them) of one array."""
    code, streams = (None, b"") if mask is None else codec.encode(mask)
    values = x.ravel() if mask is None else x[mask]
    form, places = "float32", None
    if prunable(path):
        places = _places(x.shape, mask)
        lossless = lambda: forms.lossless(values, draw, places, x.shape[-1])
        auto = lossless() if weights in ("auto", "key") else weights
        keyed = weights == "key" and auto not in forms.KEYED
        form = "key_floats" if keyed else auto
    content = forms.encode(values, form, draw, places, x.shape[-1] if places is not None else 1)
    return Entry(x.shape, code, form), streams + content, _hashed(values, form)


def _places(shape: tuple[int, ...], mask: np.ndarray | None) -> np.ndarray:
    """Flat indices of the weights that stay."""
    return np.arange(int(np.prod(shape))) if mask is None else np.flatnonzero(mask)


def _hashed(values: np.ndarray, form: str) -> bytes:
    """What of a layer's kept values goes into the hash of those that a key gives."""
    return values.astype("<f4").tobytes() if form in forms.KEYED else b""


def _versions() -> dict[str, str]:
    return {"cards_jax": cards_jax.__version__, "jax": jax.__version__, "numpy": np.__version__}


def _compare(file: Decoded, packed: tuple[Flat, Flat, Flat], contents: Contents) -> None:
    """Raise ValueError unless a file holds what was packed, bit for bit but for lossy forms."""
    params, mask, stats = packed
    card = file.card
    found = tuple(flatten(x) for x in (card.params, card.mask, card.stats))
    same = [_same(x, mask[path]) for path, x in found[1].items()] + [found[1].keys() == mask.keys()]
    same += [_same(x, stats[path]) for path, x in found[2].items()]
    for path, x in found[0].items():
        wanted = np.where(mask[path], params[path], np.float32(0)) if path in mask else params[path]
        form = contents.params[path].form
        same.append(forms.near(wanted, x, form) if form in forms.LOSSY else _same(x, wanted))
    same.append(json.dumps(file.meta) == json.dumps(contents.meta))
    if not all(same):
        raise ValueError("the packed card does not read back as it was")


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Bit for bit: NaN is NaN, and -0 is not 0."""
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def decode(content: bytes) -> Decoded:
    """What `encode` was given; every size is checked before anything of that size is allocated.

    Raises OtherGenerator, and many kinds of exceptions for damaged content.
    """
    contents, payload = layout.read(content)
    spec = spec_of(contents)
    _check(contents.params, contents.stats, spec)
    draws, drawn, at = _draws(contents.params, contents.origin), hashlib.sha256(), 0
    params, mask, stats = {}, {}, {}
    for path, entry in contents.params.items():
        piece = payload[at : at + entry.bytes]
        with _named(path):
            params[path], mask[path], keyed = _unpacked(piece, entry, draws.get(path))
        drawn.update(keyed)
        at += entry.bytes
    for path, entry in contents.stats.items():
        x = np.frombuffer(payload[at : at + entry.bytes], "<f4")
        stats[path] = x.astype(np.float32).reshape(entry.shape)
        at += entry.bytes
    if contents.drawn not in (None, drawn.hexdigest()):
        raise OtherGenerator(_differs(contents))
    params, mask, stats = (unflatten(x) for x in (params, mask, stats))
    card = Card(params, map_leaves(lambda _: None, params), mask, stats)
    return Decoded(card, spec, contents.meta, contents.origin)


def spec_of(contents: Contents) -> models.Spec:
    """The network that a file's header names."""
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in contents.spec.items()}
    return models.Spec(**fields)


def _unpacked(
    content: memoryview, entry: Entry, draw: Draw | None
) -> tuple[np.ndarray, np.ndarray | None, bytes]:
    """(array, mask, the kept values where a key gives them), the inverse of `_packed`."""
    mask = None
    if entry.code is not None:
        mask = codec.decode(entry.code, content[: entry.mask_bytes], entry.shape)
    keyed = entry.form in forms.KEYED
    placed = keyed or entry.form == "int8"
    places = _places(entry.shape, mask) if placed else None
    args = entry.form, entry.kept, draw, places, entry.channels
    values = forms.decode(content[entry.mask_bytes :], *args)
    if mask is None:
        return values.reshape(entry.shape), None, _hashed(values, entry.form)
    x = np.zeros(entry.shape, np.float32)
    x[mask] = values
    return x, mask, _hashed(values, entry.form)


def _differs(contents: Contents) -> str:
    was, now = contents.versions, _versions()
    return (
        "its weights cannot be drawn again from their key: the generator gives others here (written with "
        f"cards_jax {was['cards_jax']} and jax {was['jax']}, read with {now['cards_jax']} and {now['jax']})"
    )


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Errors say of which array they are."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"params/{path}: {error}") from None
