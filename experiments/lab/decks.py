"""Decks of the cards of an experiment: which images each gets right, all cards together or those that a gate picks.

The paper's decks hold as many cards trained with AugMix as with Gaussian noise. Deck `i` of a method has the cards of
seeds i, i + 1, ... of both (round the end), so that there are as many decks of a size as seeds, and what differs
between two kinds of decks is paired by deck. Decks of four and more share cards, for which intervals are widened; all
seeds make one deck. Every card answers each image once; decks are means of these answers.
"""

import dataclasses
import hashlib
import io
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cards_jax import data, deck, files, gate
from cards_jax.corruptions import SEVERITIES
from cards_jax.data.corrupted import Clean, Source
from cards_jax.deck import BATCH, Deck
from cards_jax.progress import Progress
from cards_jax.trials import CLEAN, Trial
from lab import measure
from lab.collect import Card
from lab.follow import PLAIN_SECONDS
from lab.measure import Wanted

AUGMENTS = ("augmix", "gaussian")
AGNOSTIC, ADAPTIVE = "agnostic", "adaptive"
# Images between two lines of progress: whole batches, each of which the gate is asked about.
PIECE = 10 * BATCH
VERSION = 3  # of what is kept


@dataclasses.dataclass(frozen=True, eq=False)
class Decks:
    """All decks of one method, size and way of predicting.

    label: of the method. size: cards of each. way: AGNOSTIC, ADAPTIVE, or "" of single cards.
    clean: bool (D, M), on all test images. corrupted: float (D, N), the share of the cells of the benchmark in which a
    deck is right, of the images that are corrupted.
    paper_bytes, true_bytes: means over the decks, true ones with the references of the gate where one is asked.
    firsts: the seed that each deck begins with, by which decks are paired. cards: all that they hold.
    """

    label: str
    size: int
    way: str
    clean: np.ndarray
    corrupted: np.ndarray
    paper_bytes: float
    true_bytes: float
    firsts: tuple[int, ...]
    cards: tuple[Card, ...] = ()

    @property
    def augment(self) -> str:
        """The augmentation of single cards that are named by it, "" of all others."""
        return next((a for a in AUGMENTS if self.label.endswith(f", {a}")), "")

    @property
    def method(self) -> str:
        """The label without the augmentation."""
        return self.label.removesuffix(f", {self.augment}")

    @property
    def shared(self) -> int:
        """How many of the decks hold a card."""
        return max(1, self.size // 2) if len(self.clean) > 1 else 1


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
    """Decks that are to be measured: the cards of each."""

    label: str
    size: int
    way: str
    hands: list[list[Card]]


def members(cards: dict[str, Sequence[Card]], size: int) -> list[list[Card]]:
    """The cards of every deck of a size: half of them of each augmentation, seeds that both have in a ring.

    A ring of R seeds has R decks; one where half a deck has as many cards as there are seeds, none where it has more.
    """
    by_seed = [{card.result["seed"]: card for card in cards.get(a, ())} for a in AUGMENTS]
    common = [seed for seed in by_seed[0] if all(seed in own for own in by_seed)]
    rings = [[own[seed] for seed in common] for own in by_seed]
    count, half = len(common), size // 2
    number = count if half < count else int(half == count)
    return [[ring[(i + k) % count] for ring in rings for k in range(half)] for i in range(number)]


def kinds_of(methods: dict[str, dict[str, Sequence[Card]]], sizes: Sequence[int]) -> list[Kind]:
    """Single cards and decks of methods: {label: {augmentation: cards by seed}}."""
    found = []
    for label, own in methods.items():
        for augment, cards in own.items():
            name = label if augment == "standard" else f"{label}, {augment}"
            found.append(Kind(name, 1, "", [[card] for card in cards]))
        for size, way in itertools.product(sizes, (AGNOSTIC, ADAPTIVE)):
            found.append(Kind(label, size, way, members(own, size)))
    return [kind for kind in found if kind.hands]


def measured(
    kinds: Sequence[Kind],
    wanted: Wanted,
    references: int,
    keep: Path,
    say: Callable[[str], None],
    settings: gate.Settings = gate.OURS,
) -> list[Decks]:
    """What they get right; what was measured before, for whichever experiment, is read from the folder `keep`."""
    hands = [(kind.way, hand) for kind in kinds for hand in kind.hands]
    if not hands:
        return []
    settings = dataclasses.replace(settings, references=references)
    clean, source = measure.source_of(hands[0][1][0].config, wanted)
    names = _names(hands, settings, source)
    places = {name: keep / "decks" / f"{name}.npz" for name in names}
    known = {name: right for name, path in places.items() if (right := _read(path)) is not None}
    new = {name: hand for name, hand in zip(names, hands, strict=True) if name not in known}
    if new:
        cards = list(dict.fromkeys(card for _, hand in new.values() for card in hand))
        say(f"{len(new)} decks and cards, made of {len(cards)} cards, on {source.name}")
        begun = keep / "decks" / f"{digest(list(new))}.part.npz"
        right = _right(cards, list(new.values()), settings, clean, source, begun)
        for name, *mine in zip(new, *right, strict=True):
            known[name] = tuple(mine)
            _write(places[name], known[name])
        begun.unlink(missing_ok=True)
    clean_DM, cells_DSN = (np.stack([known[name][i] for name in names]) for i in (0, 1))
    found, first = [], 0
    for kind in kinds:
        mine = slice(first, first + len(kind.hands))
        first += len(kind.hands)
        size = lambda key, k=kind: float(np.mean([sum(c.result[key] for c in h) for h in k.hands]))
        sizes = size("paper_bytes"), size("true_bytes")
        if kind.way == ADAPTIVE:
            references = gate.reference_bytes(settings, len(AUGMENTS), clean.images.shape[1:])
            sizes = sizes[0], sizes[1] + references
        rights = clean_DM[mine], cells_DSN[mine].mean(1)
        firsts = tuple(hand[0].result["seed"] for hand in kind.hands)
        held = tuple(dict.fromkeys(card for hand in kind.hands for card in hand))
        found.append(Decks(kind.label, kind.size, kind.way, *rights, *sizes, firsts, held))
    return found


def _right(cards, hands, settings, clean: Clean, source: Source, begun: Path) -> "Right":
    """(decks, M) on all clean images, (decks, sets, N) on those of each corruption and severity.

    begun: where it is kept after every corruption, and gone on with.
    """
    whole = deck.of([card.path for card in cards])
    groups = [m.augmentation for m in whole.members]
    wanted = [g for g in dict.fromkeys(groups) if g.name in AUGMENTS]
    gated = None
    if any(way == ADAPTIVE for way, _ in hands):
        known = gate.build(settings, wanted, data.prepare(cards[0].config).train_images)
        gated = Deck(tuple(m for m in whole.members if m.augmentation in wanted), known)
    place = {card: i for i, card in enumerate(cards)}
    belongs = np.array([wanted.index(g) if g in wanted else -1 for g in groups])
    rows = [(way, np.array([place[card] for card in hand])) for way, hand in hands]

    def answers(images: np.ndarray) -> np.ndarray:
        """What every deck says, (decks, n)."""
        each_RNK = whole.each(images)
        if gated:
            # What a card of each group gets of each image; the last, for cards of none, is nothing.
            share_BA = np.asarray(gated.choose(images).weights) > 0
            share_NA = np.repeat(share_BA, BATCH, 0)[: len(images)]
            share_NA = np.pad(share_NA, [(0, 0), (0, 1)]).astype(np.float32)
        found = []
        for way, own in rows:
            weights = np.ones((len(own), len(images)), np.float32)
            if way == ADAPTIVE:
                weights = share_NA[:, belongs[own]].T
            found.append(np.einsum("rnk,rn->nk", each_RNK[own], weights).argmax(-1))
        return np.stack(found)

    found = list(_read(begun) or ())
    cells = len(source.names) * len(SEVERITIES)
    total = len(clean.labels) + cells * len(source.labels)
    progress = Progress(total, len(cards), 1, every=PLAIN_SECONDS)
    progress.label, done = "decks", sum(x[0].size for x in found)
    for name in ("", *source.names)[_names_done(found) :]:
        for images, labels in _sets(name, clean, source):
            parts = []
            for first in range(0, len(images), PIECE):
                parts.append(answers(images[first : first + PIECE]))
                done += parts[-1].shape[1]
                progress.update(done)
            right = (np.concatenate(parts, 1) == labels)[:, None]
            if not name:
                found = [right[:, 0], np.zeros((len(hands), 0, len(source.labels)), bool)]
            else:
                found[1] = np.concatenate([found[1], right], 1)
        _write(begun, tuple(found))
    progress.close()
    return found[0], found[1]


def _names_done(found: Sequence[np.ndarray]) -> int:
    """How many of the clean images and the corruptions are done."""
    return 1 + found[1].shape[1] // len(SEVERITIES) if found else 0


def _sets(name: str, clean: Clean, source: Source) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(images, labels) of a corruption at every severity, "" is none."""
    if not name:
        yield clean.images, clean.labels
        return
    for images in source.read(name, 0, len(source.labels)):
        yield images, source.labels


def trials_of(images: np.ndarray, source: Source, names: Sequence[str]) -> Iterator[Trial]:
    """The clean images, then what the source has of them under corruptions of these names."""
    yield Trial(CLEAN, 0, images)
    for name in names:
        blocks = source.read(name, 0, len(images))
        yield from (Trial(name, s, block) for s, block in zip(SEVERITIES, blocks, strict=True))


def of_cards(
    cards: Sequence[Card], references: int, settings: gate.Settings = gate.OURS
) -> tuple[Deck, Any]:
    """(a deck with its gate, the data it was trained on)."""
    d = data.prepare(cards[0].config)
    found = deck.of([card.path for card in cards])
    settings = dataclasses.replace(settings, references=references)
    return Deck(found.members, gate.build(settings, found.groups, d.train_images)), d


def seconds(whole: Deck, images: np.ndarray, rounds: int = 40) -> tuple[float, float]:
    """(adaptive, agnostic): the median times of a batch of images, in turns, after a first one that compiles."""
    times = []
    for _ in range(rounds + 1):
        for adaptive in (True, False):
            began = time.perf_counter()
            np.asarray(whole.predict(images[:BATCH], adaptive=adaptive))
            times.append(time.perf_counter() - began)
    adaptive, agnostic = np.median(np.reshape(times[2:], (rounds, 2)), 0)
    return float(adaptive), float(agnostic)


def _names(hands, settings: gate.Settings, source: Source) -> list[str]:
    """What the answers of each deck are kept under; the gate is of no matter to decks without one."""
    hashes = {card: files.sha256(card.path) for _, hand in hands for card in hand}
    about = [VERSION, source.identity, len(source.labels)]
    return [
        digest(
            [about, [hashes[card] for card in hand], settings.written() if way == ADAPTIVE else ""]
        )
        for way, hand in hands
    ]


def digest(what: Any) -> str:
    """A name of what is kept, by all that it depends on."""
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


Right = tuple[np.ndarray, np.ndarray]  # bool (decks, M), bool (decks, sets, N)


def _write(path: Path, right: Right) -> None:
    clean, cells = (np.packbits(x, axis=-1) for x in right)
    counts = np.array([x.shape[-1] for x in right])
    files.deliver_arrays(path, clean=clean, cells=cells, images=counts)


def _read(path: Path) -> Right | None:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
            pairs = zip((held["clean"], held["cells"]), held["images"].tolist(), strict=True)
            clean, cells = (np.unpackbits(x, axis=-1, count=n).astype(bool) for x, n in pairs)
            return clean, cells
    except (OSError, ValueError, KeyError, EOFError):
        return None
