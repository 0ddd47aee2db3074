"""A hand: finished cards from files and runs; those of one network are stacked and measured by one program."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax import Array, lax

from cards_jax import card, models, pack, realizations, tree
from cards_jax.config import ConfigError
from cards_jax.pack import CardFile
from cards_jax.realizations import Layout
from cards_jax.tree import Tree

SUFFIX = ".card"


@dataclasses.dataclass(frozen=True)
class Hand:
    """Cards of one network, stacked over R: effective weights, BatchNorm averages, and the files they came from.

    Masks are left out, so that dense and compressed cards of one network are one hand.
    """

    spec: models.Spec
    weights: Tree
    stats: Tree
    files: tuple[CardFile, ...]
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def metas(self) -> list[dict]:
        """What each card says of itself."""
        return [file.meta for file in self.files]

    def layout(self) -> Layout:
        """All devices, the realizations spread over them."""
        return realizations.layout(len(self), split=1)

    def map(self, f: Callable, shared: int = 0) -> Callable[..., Tree]:
        """`f(predict, *shared)` for every card, in one compiled program: a function of the `shared` arrays.

        predict(images) -> logits (B, K) of one card. Every array that f returns gets the leading axis R, as numpy.
        """
        return self._mapped(f, shared, self.layout())

    def sums(self, f: Callable, shared: int = 0) -> Callable[..., Tree]:
        """As `map`, where all devices share the work on every card, so that none idles whatever their number.

        f(predict, part, parts, *shared) does part `part` of so many; what it gives is added over the parts.
        """
        layout = realizations.layout(len(self), split=jax.device_count())

        def whole(predict: Callable, *arrays: Array) -> Tree:
            part = lax.axis_index(realizations.BATCH)
            return lax.psum(f(predict, part, layout.split, *arrays), realizations.BATCH)

        return self._mapped(whole, shared, layout)

    def map_images(self, f: Callable, shared: int = 0) -> Callable[..., Tree]:
        """As `map`, of arrays that are about one image in each row, which f returns as well: (R, rows, ...).

        All devices share the rows, whose number has to be a multiple of `jax.device_count()`; each holds all cards, so
        that none idles whatever the number of cards.
        """
        layout = realizations.layout(len(self), split=jax.device_count())
        return self._mapped(f, shared, layout, parted=True)

    def _mapped(
        self, f: Callable, shared: int, layout: Layout, parted: bool = False
    ) -> Callable[..., Tree]:
        of_one = partial(_of_one, f, models.build(self.spec))
        program = layout.map(of_one, (True, *[False] * shared), parted=parted)
        stacked = jax.tree.map(lambda x: _padded(x, layout.group), (self.weights, self.stats))
        stacked, place = layout.put(stacked), layout.part if parted else layout.replicate

        def call(*arrays: Array) -> Tree:
            found = realizations.fetch(program(stacked, *place(arrays)))
            return jax.tree.map(lambda x: x[: len(self)], found)

        return call


def _of_one(f: Callable, model: models.Model, stacked: tuple[Tree, Tree], *shared: Array) -> Tree:
    weights, stats = stacked
    return f(lambda images: model.apply(weights, stats, images, False)[0], *shared)


def _padded(x, size: int):
    """The last realization repeated up to `size`."""
    return np.concatenate([x, *[x[-1:]] * (size - len(x))])


def by_identity(folder: Path) -> dict[str, Path]:
    """{identity of a realization: its file} of a run's cards, whose names end in it."""
    return {path.stem.rpartition("_")[2]: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def find(places: Sequence[str | Path]) -> list[Path]:
    """Card files, from files, folders of card files and run folders; ConfigError where a place has none."""
    found: list[Path] = []
    for place in map(Path, places):
        if place.is_file():
            found.append(place)
            continue
        here = sorted(place.glob(f"*{SUFFIX}")) or sorted(place.glob(f"cards/*{SUFFIX}"))
        if not here:
            raise ConfigError(
                f"cards={str(place)!r}: no such card; allowed are card files, run folders, folders of cards"
            )
        found += here
    return list(dict.fromkeys(found))


def load(places: Sequence[str | Path]) -> list[Hand]:
    """The hands that these files and folders hold: one for each network, in the order in which they first occur.

    Raises ConfigError where there is no card, ValueError where a file is damaged.
    """
    paths = find(places)
    files = [pack.load(path) for path in paths]
    hands = {}
    for path, file in zip(paths, files, strict=True):
        hands.setdefault(file.spec, []).append((path, file))
    return [stacked([f for _, f in members], [p for p, _ in members]) for members in hands.values()]


def stacked(files: Sequence[CardFile], paths: Sequence[Path] = ()) -> Hand:
    """Cards of one network as a hand."""
    weights = tree.stack([card.weights(file.card) for file in files])
    stats = tree.stack([file.card.stats for file in files])
    return Hand(files[0].spec, weights, stats, tuple(files), tuple(paths))
