"""Heatmaps of cards: measured once, kept beside the card's run."""

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cards_jax import config, files, hand, pack, realizations
from cards_jax.config import ConfigError
from cards_jax.data import Data, corrupted
from cards_jax.evaluate import fourier
from cards_jax.evaluate.fourier import Settings


@dataclasses.dataclass(frozen=True, eq=False)
class Heat:
    """One card's errors float64 (E, H, W), fractions; low frequencies in the centre. meta: what the card says."""

    path: Path
    meta: dict[str, Any]
    errors: np.ndarray


def settings(eps: Sequence[float], images: int) -> Settings:
    """Checked settings; ConfigError names what cannot be."""
    for value in eps:
        config.in_range("heatmap eps", value, config.TINY, config.HUGE, "a norm above 0")
    if not eps or len(set(eps)) < len(eps):
        raise ConfigError(f"heatmap eps={tuple(eps)}: allowed are norms above 0, each once")
    config.in_range("heatmap images", images, 1, config.HUGE, "1 or more")
    return Settings(tuple(float(value) for value in eps), images)


def title_of(c) -> str:
    """The name of a config's data for people."""
    return c.data.title or corrupted.TITLES.get(c.data.name, c.data.name)


def evaluate(
    paths: Sequence[Path], d: Data, s: Settings, say: Callable[[str], None], first: bool = True
) -> list[Heat]:
    """The heatmaps of cards on the test set of their data; those that were finished before are read.

    first: whether this process writes. Raises ConfigError for cards of other images, ValueError for damaged ones.
    """
    s = dataclasses.replace(s, images=min(s.images, len(d.test_images)))
    metas = {path: _checked(path, d) for path in paths}
    found = {path: errors for path in paths if (errors := _read(path, d, s)) is not None}
    there = realizations.agree(np.array([path in found for path in paths], bool))
    missing = [path for path, is_there in zip(paths, there, strict=True) if not is_there]
    if len(paths) > len(missing):
        say(f"heatmaps: {len(paths) - len(missing)} of {len(paths)} are there already")
    for one in hand.load(missing) if missing else []:
        errors = fourier.sweep(one, d.test_images, d.test_labels, s, label="heatmap")
        for path, mine in zip(one.paths, errors, strict=True):
            found[path] = mine
            if first:
                _write(path, d, s, mine)
    return [Heat(path, metas[path], found[path]) for path in paths]


def _checked(path: Path, d: Data) -> dict[str, Any]:
    file = pack.load(path)
    theirs = file.meta.get("data_fingerprint", d.fingerprint)
    if file.spec.image_HWC != d.test_images.shape[1:] or theirs != d.fingerprint:
        raise ConfigError(
            f"{path}: trained on other images (fingerprint {theirs}) than these ({d.fingerprint}); "
            "allowed are cards of one data set"
        )
    return file.meta


# --- finished ones


def _place(card: Path, d: Data, s: Settings) -> Path | None:
    """Where a card's heatmap is kept: beside the cards/ of its run; None for a card that is in no run."""
    if card.parent.name != "cards":
        return None
    what = json.dumps([dataclasses.asdict(s), d.fingerprint], sort_keys=True)
    name = hashlib.sha256(what.encode()).hexdigest()[:8]
    return card.parent.parent / "heatmaps" / name / f"{card.stem}.npz"


def _about(card: Path, d: Data, s: Settings, errors: np.ndarray) -> str:
    own = {"card": files.sha256(card), "data": d.fingerprint, **dataclasses.asdict(s)}
    own["sha256"] = hashlib.sha256(np.ascontiguousarray(errors, np.float64)).hexdigest()
    return json.dumps(own, sort_keys=True)


def _read(card: Path, d: Data, s: Settings) -> np.ndarray | None:
    """None where there is none of this very card, or it is damaged."""
    path = _place(card, d, s)
    if path is None or not path.is_file():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
            errors, about = held["errors"], str(held["about"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    shape = (len(s.eps), *d.test_images.shape[1:3])
    whole = errors.dtype == np.float64 and errors.shape == shape
    return errors if whole and about == _about(card, d, s, errors) else None


def _write(card: Path, d: Data, s: Settings, errors: np.ndarray) -> None:
    path = _place(card, d, s)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_arrays(path, errors=errors, about=np.array(_about(card, d, s, errors)))


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """An .npz, whole or not at all."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    files.write_atomically(path, content.getvalue())
