"""Heatmaps of cards: measured once, kept beside the card's run."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cards_jax import config, files, hand, pack, realizations
from cards_jax.config import ConfigError
from cards_jax.data import Data, corrupted
from cards_jax.evaluate import fourier
from cards_jax.evaluate.fourier import Settings
from cards_jax.hand import Hand
from cards_jax.heat_file import Place

KEEP_SECONDS = 60.0  # at most so much of a measurement is lost where it is interrupted


@dataclasses.dataclass(frozen=True, eq=False)
class Heat:
    """One card's errors float64 (E, H, W), fractions; low frequencies in the centre. meta: what the card says.

    wrong: bool (E, D, N), whose means they are: which of the distinct waves fool it on which image. None where only the
    means are at hand.
    """

    path: Path
    meta: dict[str, Any]
    errors: np.ndarray
    wrong: np.ndarray | None = None


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

    Of more images than before, or after an interruption, only what is missing is measured.

    first: whether this process writes. Raises ConfigError for cards of other images, ValueError for damaged ones.
    """
    s = dataclasses.replace(s, images=min(s.images, len(d.test_images)))
    metas = {path: _checked(path, d) for path in paths}
    store = _Store(paths, d, s, say if first else None)
    whole = sum(store.count(path, norm) >= s.images for path in paths for norm in s.eps)
    if whole:
        say(f"heatmaps: {whole} of {len(paths) * len(s.eps)} are there already")
    for begin, eps, members in store.missing():
        part = dataclasses.replace(s, eps=eps)
        for one in hand.load(members):
            _measure(one, d, part, begin, store)
    H, W = d.test_images.shape[1:3]
    marks = {path: store.taken(path) for path in dict.fromkeys(paths)}
    return [Heat(p, metas[p], fourier.errors(marks[p], H, W), marks[p]) for p in paths]


def _measure(one: Hand, d: Data, s: Settings, begin: int, store: "_Store") -> None:
    """Cards of which the first `begin` images are measured, on those that follow."""
    kept = time.monotonic()
    for part in fourier.image_by_image(
        one, d.test_images, d.test_labels, s, begin, label="heatmap"
    ):
        for path, wrong in zip(one.paths, part, strict=True):
            store.add(path, s.eps, wrong)
        if time.monotonic() - kept > KEEP_SECONDS:
            store.keep(one.paths)
            kept = time.monotonic()
    store.keep(one.paths)


class _Store:
    """Wrong answers of cards under each norm, bool (D, n) of the first n images, as they grow.

    say: of a process that keeps them on the disk.
    """

    def __init__(
        self, paths: Sequence[Path], d: Data, s: Settings, say: Callable[[str], None] | None
    ):
        self.s, self.say = s, say
        digests = {path: files.sha256(path) for path in paths}
        keys = [(path, norm) for path in paths for norm in s.eps]
        self.places = {(p, norm): Place.of(p, digests[p], d, s, norm) for p, norm in keys}
        self.held = _agreed({key: place.read() for key, place in self.places.items()})

    def count(self, path: Path, norm: float) -> int:
        """Images that are measured."""
        return self.held[path, norm].shape[1]

    def missing(self) -> list[tuple[int, tuple[float, ...], list[Path]]]:
        """(images that are measured, norms, cards) of what has to be measured together."""
        todo: dict[tuple[int, tuple[float, ...]], list[Path]] = {}
        for path in dict.fromkeys(path for path, _ in self.held):
            counts = {norm: self.count(path, norm) for norm in self.s.eps}
            for n in sorted({n for n in counts.values() if n < self.s.images}):
                eps = tuple(norm for norm, count in counts.items() if count == n)
                todo.setdefault((n, eps), []).append(path)
        return [(*key, members) for key, members in todo.items()]

    def add(self, path: Path, eps: Sequence[float], wrong: np.ndarray) -> None:
        """bool (E, D, n) of the next n images."""
        for norm, more in zip(eps, wrong, strict=True):
            self.held[path, norm] = np.concatenate([self.held[path, norm], more], 1)

    def keep(self, paths: Sequence[Path]) -> None:
        """Write all that is measured of these cards."""
        for path in paths if self.say else ():
            for norm in self.s.eps:
                try:
                    self.places[path, norm].write(self.held[path, norm])
                except OSError as error:  # costs a second measurement some day, not this one
                    self.say(f"cannot keep what was measured: {error}")
                    return

    def taken(self, path: Path) -> np.ndarray:
        """bool (E, D, N) of a card that is done with."""
        return np.stack([self.held.pop((path, norm))[:, : self.s.images] for norm in self.s.eps])


def _agreed(held: dict[Any, np.ndarray]) -> dict[Any, np.ndarray]:
    """What process 0 holds, on every process."""
    counts = realizations.agree(np.array([x.shape[1] for x in held.values()], np.int32))
    out = {}
    for (key, own), count in zip(held.items(), counts, strict=True):
        padded = np.pad(own, [(0, 0), (0, max(0, count - own.shape[1]))])
        out[key] = np.asarray(realizations.agree(padded[:, :count]))
    return out


def _checked(path: Path, d: Data) -> dict[str, Any]:
    file = pack.load(path)
    theirs = file.meta.get("data_fingerprint", d.fingerprint)
    if file.spec.image_HWC != d.test_images.shape[1:] or theirs != d.fingerprint:
        raise ConfigError(
            f"{path}: trained on other images (fingerprint {theirs}) than these ({d.fingerprint}); "
            "allowed are cards of one data set"
        )
    return file.meta
