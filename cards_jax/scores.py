"""Cards on corrupted images: all cards of one network in one pass, and each card on each corruption once."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cards_jax import files, hand, marks, pack, realizations
from cards_jax.config import ConfigError
from cards_jax.corruptions import SEVERITIES
from cards_jax.data.corrupted import Clean, Source, digest
from cards_jax.evaluate import answers
from cards_jax.hand import Hand
from cards_jax.marks import CLEAN, Marks
from cards_jax.pack import CardFile
from cards_jax.progress import Progress

PIECE_BYTES = 2**25  # of images on their way to the devices
MOST_AT_ONCE = 8192  # images of all cards together that one device computes at a time, under vmap
CALL = 2**15  # images of all cards together in a call of the program: progress is shown after each


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
    """One card and its marks on each corruption, and on clean images.

    config: the fields of its run that are not defaults.
    """

    path: Path
    result: dict[str, Any]
    marks: dict[str, Marks]
    config: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.stem


def evaluate(
    places: Sequence[str | Path],
    source: Source,
    clean: Clean,
    batch_size: int = 500,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> list[Score]:
    """The scores of all cards in these files and folders, on clean and corrupted images.

    What was measured before, and kept beside a run's cards, is not measured again; an interrupted evaluation goes on
    with the corruption at which it stopped.

    Raises ConfigError where there is no card, or a card takes other images or has fewer classes; ValueError for a
    damaged card.
    """
    paths = hand.find(places)
    cards = {path: pack.load(path) for path in paths}
    for path, card in cards.items():
        _check(path, card, source, clean)
    wanted = (CLEAN, *source.names)
    count = len(source.labels)
    identity = digest(source.identity, clean.images[:count], clean.labels[:count])
    tallies = {path: _Tally(path, identity, wanted, say) for path in paths}
    missing = _agreed(
        {path: [n for n in wanted if n not in t.marks] for path, t in tallies.items()}
    )
    todo = {path: names for path, names in missing.items() if names}
    names = [n for n in wanted if any(n in left for left in todo.values())]
    if len(paths) - len(todo):
        what = f"{len(paths) - len(todo)} of {len(paths)} cards were evaluated before"
        say(f"{what} on {source.name}")
    if todo:
        askers = _askers([(p, cards[p]) for p in todo], source, batch_size)
        labels = _labels(source, clean)
        bar = Progress(
            sum(asker.calls(source, name) for name in names for asker in askers),
            len(todo),
            sum(a.rows * len(a.paths) for a in askers) // (len(askers) * len(todo)),
            active=progress and _first(),
        )
        done = itertools.count(1)
        tick = lambda: bar.update(next(done))
        supply = _ahead(
            partial(source.read, name, first, piece_size(source))
            for name in names
            if name != CLEAN
            for first in starts(source)
        )
        for name in names:
            bar.label = name
            for members, found in _asked(askers, source, clean, name, supply, tick):
                for i, path in enumerate(members):
                    one = Marks.of(*(found[k][i] for k in KEYS), labels[name == CLEAN])
                    tallies[path].add(name, one)
        bar.close()
    about = lambda p, key: cards[p].meta.get(key) or {}
    return [Score(p, about(p, "result"), tallies[p].marks, about(p, "config")) for p in paths]


KEYS = ("predicted", "confidence", "loss")


def _first() -> bool:
    return jax.process_index() == 0


def _check(path: Path, card: CardFile, source: Source, clean: Clean) -> None:
    """Raise ConfigError unless the images fit a card."""
    spec = card.spec
    for what, shape in (("clean", clean.images.shape[1:]), ("corrupted", source.image_HWC)):
        if tuple(shape) != tuple(spec.image_HWC):
            raise ConfigError(
                f"{path}: the card takes images {spec.image_HWC}, the {what} ones are {tuple(shape)}"
            )
    most = int(max(source.labels.max(), clean.labels.max()))
    if most >= spec.num_classes:
        raise ConfigError(f"{path}: the card has {spec.num_classes} classes, a label is {most}")


def _agreed(missing: dict[Path, list[str]]) -> dict[Path, list[str]]:
    """What process 0 misses: all processes take part in measuring it."""
    every = sorted({n for names in missing.values() for n in names} | {CLEAN})
    table = realizations.agree(np.array([[n in left for n in every] for left in missing.values()]))
    return {
        path: [n for n, lacks in zip(every, row, strict=True) if lacks] if not _first() else left
        for (path, left), row in zip(missing.items(), table, strict=True)
    }


class _Tally:
    """The marks of one card, kept on the disk as they grow."""

    def __init__(self, path: Path, identity: str, names: Sequence[str], say: Callable[[str], None]):
        self.folder, self.say = marks.place(path, identity), say
        self.digest = files.sha256(path)
        self.marks: dict[str, Marks] = {}
        for name in names if self.folder else ():
            if (one := marks.read(self._file(name), self.digest)) is not None:
                self.marks[name] = one

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    def add(self, name: str, one: Marks) -> None:
        self.marks[name] = one
        if self.folder is None or not _first():
            return
        try:
            marks.write(self._file(name), self.digest, one)
        except OSError as error:  # costs a second measurement some day, not this one
            self.say(f"cannot keep what was measured: {error}")
            self.folder = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Asker:
    """A hand and its program, compiled once for images of any kind: `rows` of them at a time."""

    paths: list[Path]
    program: Callable
    rows: int

    def calls(self, source: Source, name: str) -> int:
        """Of the program, for all images of a name."""
        if name == CLEAN:
            return -(-len(source.labels) // self.rows)
        return len(starts(source)) * -(-len(SEVERITIES) * piece_size(source) // self.rows)

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, tick: Callable[[], None]
    ) -> dict[str, np.ndarray]:
        """What all cards answer, each (R, M); `tick` after each call of the program."""
        pieces = []
        for i in range(0, len(images), self.rows):
            rows = slice(i, i + self.rows)
            padded = (_filled(x[rows], self.rows) for x in (images, labels))
            pieces.append(self.program(*padded))
            tick()
        joined = {k: np.concatenate([p[k] for p in pieces], 1) for k in KEYS}
        return {k: x[:, : len(images)] for k, x in joined.items()}


def _filled(rows: np.ndarray, count: int) -> np.ndarray:
    """Zeros appended: black images."""
    return np.pad(rows, [(0, count - len(rows)), *[(0, 0)] * (rows.ndim - 1)])


def _askers(members: list[tuple[Path, CardFile]], source: Source, batch_size: int) -> list[_Asker]:
    """One for each network."""
    groups: dict[Any, list[tuple[Path, CardFile]]] = {}
    for path, card in members:
        groups.setdefault(card.spec, []).append((path, card))
    out = []
    for group in groups.values():
        paths, cards = zip(*group, strict=True)
        held = hand.stacked(cards, paths)
        piece = len(SEVERITIES) * piece_size(source)
        rows = -(-piece // -(-piece * len(held) // CALL))
        batch = _batch(held, batch_size, rows)
        rows += -rows % (batch * jax.device_count())
        program = held.map_images(partial(answers.measure, batch_size=batch), 2)
        out.append(_Asker(list(paths), program, rows))
    return out


def _batch(held: Hand, batch_size: int, rows: int) -> int:
    """Images that one card computes at a time on one device: as even as they come, so that few are padding."""
    most = max(1, min(batch_size, MOST_AT_ONCE // (1 if held.layout().loop else len(held))))
    own = -(-rows // jax.device_count())
    even = -(-own // -(-own // most))
    return even if even < 64 else min(even + -even % 8, most)  # convolutions divide it into pieces


def piece_size(source: Source) -> int:
    """Images that are read at a time, each at all severities: as even as they come, so that one program serves all."""
    each = len(SEVERITIES) * int(np.prod(source.image_HWC))
    count = len(source.labels)
    pieces = -(-count // max(1, PIECE_BYTES // each))
    return -(-count // pieces)


def starts(source: Source) -> list[int]:
    """First rows of the pieces; the last one overlaps the one before where their size demands it."""
    count, size = len(source.labels), piece_size(source)
    return [min(first, count - size) for first in range(0, count, size)]


def _ahead(jobs: Iterable[Callable[[], np.ndarray]]) -> Iterator[np.ndarray]:
    """What the jobs give, each begun while the one before is in use: reading and compiling hide behind measuring."""
    with ThreadPoolExecutor(1) as pool:
        waiting = None
        for job in jobs:
            begun = pool.submit(job)
            if waiting is not None:
                yield waiting.result()
            waiting = begun
        if waiting is not None:
            yield waiting.result()


def _labels(source: Source, clean: Clean) -> tuple[np.ndarray, np.ndarray]:
    """Of corrupted, and of clean images."""
    return source.labels, clean.labels[: len(source.labels)]


def _asked(
    askers: Sequence[_Asker],
    source: Source,
    clean: Clean,
    name: str,
    supply: Iterator[np.ndarray],
    tick: Callable[[], None],
) -> Iterator[tuple[list[Path], dict[str, np.ndarray]]]:
    """For each network (paths of its cards, what they answer, each (R, S, N))."""
    corrupted, plain = _labels(source, clean)
    if name == CLEAN:
        for asker in askers:
            found = asker(clean.images[: len(plain)], plain, tick)
            yield asker.paths, {k: x[:, None] for k, x in found.items()}
        return
    severities, count = len(SEVERITIES), len(corrupted)
    kinds = dict(zip(KEYS, (np.int32, np.float32, np.float32), strict=True))
    empty = lambda a: {k: np.empty((len(a.paths), severities, count), t) for k, t in kinds.items()}
    tables = [empty(asker) for asker in askers]
    for first, images in zip(starts(source), supply, strict=False):
        size = images.shape[1]
        flat = images.reshape(-1, *images.shape[2:])
        labels = np.tile(corrupted[first : first + size], severities)
        for asker, table in zip(askers, tables, strict=True):
            for k, x in asker(flat, labels, tick).items():
                table[k][:, :, first : first + size] = x.reshape(-1, severities, size)
    yield from zip([a.paths for a in askers], tables, strict=True)
