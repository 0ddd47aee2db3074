"""A deck: cards that predict together, all of them or those that a gate picks for the images at hand.

    python -m cards_jax.deck build|choose|deal|evaluate ...       --help says how

Diffenderfer et al. (2021), section 3.2. A domain-agnostic deck averages the probabilities of all cards; a
domain-adaptive one those of the cards whose augmentation its gate (gate.py) finds nearest, and computes no others.
"""

import dataclasses
import functools
import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from cards_jax import container, deck_program, gate, hand, npz, pack
from cards_jax.config import ConfigError
from cards_jax.deck_program import IMAGES
from cards_jax.gate import Augmentation, Choice, Gate
from cards_jax.hand import Hand
from cards_jax.pack import CardFile
from cards_jax.tree import Tree

BATCH = 100  # the paper's M
BATCHES = 64  # that a program takes at most at once


@dataclasses.dataclass(frozen=True)
class Member:
    """A card in a deck: its name, its packed bytes, what they hold, and what it was trained with."""

    name: str
    content: bytes
    file: CardFile
    augmentation: Augmentation

    @classmethod
    def of(cls, card: CardFile | str | Path, augment: str | None = None, name: str = "") -> Self:
        """From a card's file, or from what was read of one.

        augment: an augmentation's name, for cards that do not say theirs. Raises ConfigError for these without it,
        ValueError where a file is damaged.
        """
        if isinstance(card, CardFile):
            file, name = card, name or "card"
            content = pack.encode(file.card, file.spec, file.meta, origin=file.origin)
        else:
            file, name = pack.load(card), name or Path(card).stem
            old = npz.is_archive(card)
            content = pack.encode(file.card, file.spec, file.meta) if old else container.read(card)
        kind = Augmentation.of(augment, {}) if augment else Augmentation.of_card(file.meta, name)
        return cls(name, content, file, kind)

    @property
    def diverged(self) -> bool:
        """Whether its training diverged: such a card answers, but nothing sensible."""
        return (self.file.meta.get("result") or {}).get("diverged_at") is not None


class Part(NamedTuple):
    """Cards of one group and one network: their group, their places in the deck, and they themselves."""

    group: int
    places: tuple[int, ...]
    hand: Hand


class Place(NamedTuple):
    """Devices, and a gate's references on all of them."""

    mesh: Mesh
    references_APF: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Deck:
    """Cards of one or several networks on the same classes and images; without a gate it is domain-agnostic.

    A gate may have groups without cards; batches that belong to these go to all cards.
    """

    members: tuple[Member, ...]
    gate: Gate | None = None
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not self.members:
            raise ConfigError("cards=(): a deck needs at least one card")
        first = self.members[0]
        for member in self.members:
            for field in ("image_HWC", "num_classes"):
                mine, wanted = (getattr(m.file.spec, field) for m in (member, first))
                if mine != wanted:
                    raise ConfigError(
                        f"{member.name}: {field} {mine}; allowed is that of {first.name}, {wanted}"
                    )
            for field in ("classes", "data_fingerprint"):
                mine, (knows, wanted) = member.file.meta.get(field), self._known(field)
                if mine and mine != wanted:
                    shown = lambda x: x if isinstance(x, str) else ", ".join(map(str, x))
                    raise ConfigError(
                        f"{member.name}: {field} {shown(mine)}; allowed is that of {knows}, {shown(wanted)}"
                    )
            if self.gate and member.augmentation not in self.gate.groups:
                raise ConfigError(
                    f"{member.name}: trained with {member.augmentation.label}; the gate has references for "
                    f"{', '.join(self.gate.labels)}"
                )

    def __len__(self) -> int:
        return len(self.members)

    def __repr__(self) -> str:
        each = ", ".join(
            f"{n} of {g.label}" for n, g in zip(self.cards_A, self.groups, strict=True)
        )
        return f"Deck({len(self)} cards: {each}; {'with' if self.gate else 'without'} a gate)"

    @property
    def image_HWC(self) -> tuple[int, int, int]:
        return self.members[0].file.spec.image_HWC

    @property
    def num_classes(self) -> int:
        return self.members[0].file.spec.num_classes

    @property
    def classes(self) -> list[str]:
        """Names of the classes, as the cards give them, or their numbers."""
        named = self._known("classes")[1]
        return list(named) if named else [str(k) for k in range(self.num_classes)]

    def _known(self, field: str) -> tuple[str, Any]:
        """The first card that says something of its data (imported ones do not), and what."""
        said = ((m.name, m.file.meta.get(field)) for m in self.members)
        return next((pair for pair in said if pair[1]), ("", None))

    @functools.cached_property
    def groups(self) -> tuple[Augmentation, ...]:
        """The gate's groups, or what the cards were trained with."""
        found = self.gate.groups if self.gate else (m.augmentation for m in self.members)
        return tuple(dict.fromkeys(found))

    @functools.cached_property
    def cards_A(self) -> tuple[int, ...]:
        """Number of cards of every group."""
        return tuple(sum(m.augmentation == g for m in self.members) for g in self.groups)

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """The cards by group and network."""
        places: dict[tuple, list[int]] = {}
        for i, m in enumerate(self.members):
            key = self.groups.index(m.augmentation), m.file.spec
            places.setdefault(key, []).append(i)
        return tuple(
            Part(group, tuple(rows), hand.stacked([self.members[i].file for i in rows]))
            for (group, _), rows in sorted(places.items(), key=lambda item: item[0][0])
        )

    def predict(self, images: Array, batch: int = BATCH, adaptive: bool = True) -> Array:
        """Probabilities (N, K) of images (N, H, W, C), uint8 or floats in [0, 1].

        Of every `batch` consecutive images the gate makes one choice; the last batch may be smaller. Only the cards
        that it picks are computed; adaptive=False asks all cards.

        Raises ValueError for another shape, dtype or range than the cards were trained on. Warns of batches for which
        the gate cannot choose.
        """
        if not (adaptive and self.gate):
            return self._run(images, batch, "agnostic")[0]
        probabilities, choice = self._run(images, batch, "adaptive")
        lost = int(np.sum(choice.agnostic))
        if lost:
            warnings.warn(
                f"{lost} of {len(choice.agnostic)} batches went to all cards: the gate finds no group with cards "
                "for them (an image of one colour has no spectrum)",
                RuntimeWarning,
                stacklevel=2,
            )
        return probabilities

    def choose(self, images: Array, batch: int = BATCH) -> Choice:
        """What the gate makes of every batch, without asking the cards; ValueError where there is no gate."""
        if not self.gate:
            raise ValueError("gate=None: this deck is domain-agnostic, it does not choose")
        return self._run(images, batch, "gate")[1]

    def weights(self, choice: Choice, count: int, batch: int = BATCH) -> np.ndarray:
        """(N, R): what a choice for `count` images gives to every card."""
        places = [self.groups.index(m.augmentation) for m in self.members]
        return np.repeat(np.asarray(choice.weights), self.batch(batch), axis=0)[:count, places]

    def batch(self, batch: int) -> int:
        """Images of one choice: `batch`, or 1 under a gate for single images. ValueError where it is no number."""
        whole = isinstance(batch, int | np.integer) and not isinstance(batch, bool)
        if not whole or batch < 1:
            raise ValueError(f"batch={batch!r}: allowed is a whole number from 1")
        return 1 if self.gate and self.gate.settings.per_image else int(batch)

    def each(self, images: Array, transductive: bool = False, batch: int = BATCH) -> np.ndarray:
        """Probabilities (R, N, K) of every card by itself, in the order of the members.

        transductive: BatchNorm takes the mean and variance of every `batch` consecutive images (the last batch may be
        smaller) in the place of its averages: every prediction then depends on the others of its batch.
        """
        images = pack.checked(images, self.image_HWC)
        self.batch(batch)
        if not len(images):
            return np.empty((len(self), 0, self.num_classes), np.float32)
        whole = len(images) // batch * batch if transductive else len(images)
        pieces = [
            self._each(part, transductive, batch)
            for part in (images[:whole], images[whole:])
            if len(part)
        ]
        return np.concatenate(pieces, axis=1)

    def save(self, path: str | Path) -> None:
        """Write the whole deck as one file, after reading it back; `cards_jax.load` reads it."""
        from cards_jax import deck_file  # which knows this module

        deck_file.save(path, self)

    @functools.cached_property
    def _all(self) -> Place:
        return self._place(jax.local_devices())

    @functools.cached_property
    def _first(self) -> Place:
        return self._place(jax.local_devices()[:1])

    def _place(self, devices: Sequence[jax.Device]) -> Place:
        mesh = Mesh(np.array(devices), (IMAGES,), axis_types=(AxisType.Auto,))
        references = self.gate.references_APF if self.gate else np.zeros((1, 1, 1), np.float32)
        return Place(mesh, jax.device_put(references, NamedSharding(mesh, P())))

    @functools.cached_property
    def _stacks(self) -> tuple[Tree, ...]:
        """Weights and averages of every part, on all devices."""
        stacks = tuple((part.hand.weights, part.hand.stats) for part in self.parts)
        return jax.device_put(stacks, NamedSharding(self._all.mesh, P()))

    def _run(self, images: Array, batch: int, mode: str) -> tuple[Array, Choice]:
        """(probabilities (N, K), choice of every batch); `mode` says which of them are wanted."""
        images = pack.checked(images, self.image_HWC)
        batch = self.batch(batch)
        count, asked = len(images), mode != "gate"
        # A gate by itself takes less time for a few images than several devices take to meet.
        mesh, references = self._all if asked or count > gate.PIECE else self._first
        devices = mesh.size
        if count <= batch:  # one batch: images that fill it up cost as much as others
            most = -(-batch // devices) * devices
            batch = padded = min(_power(max(count, 1), devices), most)
        else:
            unit = math.lcm(batch, devices)
            padded = unit * min(_power(-(-count // unit)), max(1, BATCHES * batch // unit))
        plan = deck_program.Plan(
            parts=tuple((part.group, part.hand.spec) for part in self.parts) if asked else (),
            cards_A=self.cards_A,
            settings=self.gate.settings if self.gate else None,
            batch=batch,
            piece=min(padded, -(-deck_program.piece() // devices) * devices),
            devices=devices,
        )
        program, found = deck_program.program(plan, mode, mesh), []
        given = self._stacks if asked else (), references
        for first in range(0, max(count, 1), padded):
            part = images[first : first + padded]
            found.append(program(*given, _filled(part, padded), np.int32(len(part))))
        if len(found) == 1 and padded == count:  # nothing to cut: a slice takes as long as a gate
            return found[0]
        probabilities, choice = (
            jax.tree.map(lambda *x: jnp.concatenate(x), *part) for part in zip(*found, strict=True)
        )
        batches = -(-count // batch)
        return probabilities[:count], jax.tree.map(lambda x: x[:batches], choice)

    def _each(self, images: Array, transductive: bool, batch: int) -> np.ndarray:
        """`each` of whole batches."""
        count, mesh = len(images), self._all.mesh
        devices = mesh.size
        size = (
            min(batch, count) if transductive else min(count, -(-deck_program.piece() // devices))
        )
        pieces = -(-count // (size * devices)) * devices
        blank = ((0, pieces * size - count), (0, 0), (0, 0), (0, 0))
        split = jnp.pad(images, blank).reshape(pieces, size, *images.shape[1:])
        split = jax.device_put(split, NamedSharding(mesh, P(IMAGES)))
        specs = tuple(part.hand.spec for part in self.parts)
        found = deck_program.each(specs, transductive, mesh)(self._stacks, split)
        out = np.empty((len(self), count, self.num_classes), np.float32)
        for part, probabilities in zip(self.parts, found, strict=True):
            flat = np.asarray(probabilities).swapaxes(0, 1)  # (R, pieces, size, K)
            out[list(part.places)] = flat.reshape(len(flat), -1, self.num_classes)[:, :count]
        return out


def of(
    cards: Sequence[CardFile | str | Path],
    gate: Gate | None = None,
    augment: Sequence[str] | None = None,
) -> Deck:
    """A deck of card files, or of what was read of them; `augment` names augmentations, one for every card."""
    kinds = augment or [None] * len(cards)
    if len(kinds) != len(cards):
        raise ConfigError(f"augment={list(kinds)}: allowed is one for each of {len(cards)} cards")
    return Deck(tuple(Member.of(*pair) for pair in zip(cards, kinds, strict=True)), gate)


def averaged(probabilities_RNK: Array, weights_NR: Array) -> Array:
    """(N, K): the mean of the cards' probabilities with the weights that a gate gives to each."""
    return jnp.einsum(
        "rnk,nr->nk", probabilities_RNK, weights_NR, precision=jax.lax.Precision.HIGHEST
    )


def _filled(images: Array | np.ndarray, count: int) -> Array | np.ndarray:
    """The images, then blank ones up to `count`."""
    if len(images) == count:
        return images
    pad = np.pad if isinstance(images, np.ndarray) else jnp.pad
    return pad(images, ((0, count - len(images)), (0, 0), (0, 0), (0, 0)))


def _power(count: int, times: int = 1) -> int:
    """The smallest `times` 2^i from `count`: a program is compiled for few sizes."""
    return times * 2 ** max(0, math.ceil(math.log2(count / times)))


if __name__ == "__main__":
    from cards_jax import deck_commands  # a second copy of this module, the one that all others see

    sys.exit(deck_commands.main())
