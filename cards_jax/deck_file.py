"""A deck as one file: the files of its cards, the gate's references and settings, in a container with one hash."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

import cards_jax
from cards_jax import container, encoding, files, gate, pack, size
from cards_jax.config import ConfigError
from cards_jax.deck import Deck, Member
from cards_jax.gate import Augmentation, Gate
from cards_jax.pack import CardFile

SUFFIX = ".deck"


def _written(augmentation: Augmentation) -> list:
    return [augmentation.name, dict(augmentation.settings)]


def header(deck: Deck) -> dict[str, Any]:
    """What a file says of its deck, as JSON: with it the lengths of everything in the payload."""
    known = deck.gate
    return {
        "cards": [[m.name, len(m.content), _written(m.augmentation)] for m in deck.members],
        "gate": known
        and {
            "settings": known.settings.written(),
            "groups": [_written(group) for group in known.groups],
            "references": list(known.references_APF.shape[1:]),
        },
        "meta": deck.meta,
        "versions": {"cards_jax": cards_jax.__version__},
    }


def true_bytes(deck: Deck) -> int:
    """The size of a deck's file."""
    front = len(container.wrap(header(deck), b"", container.DECK))
    references = deck.gate.references_APF.size * gate.STEP.itemsize if deck.gate else 0
    return front + sum(len(m.content) for m in deck.members) + references


def paper_bytes(deck: Deck) -> float:
    """The paper's memory of its cards; a gate is not counted there."""
    return sum(size.table(m.content).total.paper for m in deck.members)


def encode(deck: Deck) -> bytes:
    """The content of a deck's file, after reading it back; equal decks give equal bytes.

    Raises ValueError where it does not read back as it was.
    """
    pieces = [m.content for m in deck.members]
    if deck.gate:
        steps = np.round(deck.gate.references_APF.astype(np.float64) * gate.GRID)
        pieces.append(steps.astype(gate.STEP).tobytes())
    content = container.wrap(header(deck), b"".join(pieces), container.DECK)
    found = decode(content)
    same = [m.content for m in found.members] == [m.content for m in deck.members]
    if deck.gate:
        same &= np.array_equal(found.gate.references_APF, deck.gate.references_APF)
        same &= found.gate.settings == deck.gate.settings
    if not (same and header(found) == header(deck)):
        raise ValueError("the packed deck does not read back as it was")
    return content


def decode(content: bytes) -> Deck:
    """What `encode` was given; every length is checked before anything of that size is allocated.

    Damaged content raises many kinds of exceptions.
    """
    fields, payload = container.unwrap(content, container.DECK)
    cards, known = fields["cards"], fields["gate"]
    lengths = [length for _, length, _ in cards]
    shape = [len(known["groups"]), *known["references"]] if known else [0, 0, 0]
    if not all(type(n) is int and n >= 0 for n in [*lengths, *shape]) or len(shape) != 3:
        raise ValueError(f"no deck has lengths {lengths} and references {shape}")
    rest = shape[0] * shape[1] * shape[2] * gate.STEP.itemsize
    if sum(lengths) + rest != len(payload):
        raise ValueError("cards and references do not fit the payload")
    if known and 0 in shape:
        raise ValueError("its gate has no references")
    members, at = [], 0
    for name, length, augmentation in cards:
        packed = bytes(payload[at : at + length])
        file = CardFile(*encoding.decode(packed))
        members.append(Member(str(name), packed, file, Augmentation.of(*augmentation)))
        at += length
    found = _gate(known, np.frombuffer(payload[at:], gate.STEP).reshape(shape)) if known else None
    return Deck(tuple(members), found, fields["meta"])


def _gate(fields: dict[str, Any], steps: np.ndarray) -> Gate:
    settings = gate.Settings.read(fields["settings"])
    groups = tuple(Augmentation.of(*group) for group in fields["groups"])
    if len(set(groups)) != len(groups):
        raise ValueError("its gate has a group twice")
    return Gate(settings, groups, gate.ungridded(steps))


def save(path: str | Path, deck: Deck) -> None:
    """Write a deck atomically; ValueError where it does not read back as it was, OSError where it cannot be written."""
    files.deliver(Path(path), encode(deck))


def load(path: str | Path) -> CardFile | Deck:
    """Read a card's or a deck's file; every size in it is checked before anything of that size is allocated.

    Raises ValueError in one line where the file is damaged or of another format, OSError where it cannot be read.
    """
    if (folder := Path(path)).is_dir():
        first = next(
            iter(sorted(folder.glob("cards/*.card")) + sorted(folder.glob("*.card"))), None
        )
        hint = f", as {first}" if first else ""
        raise ConfigError(f"{path}: a folder; allowed is the file of one card or deck{hint}")
    with open(path, "rb") as file:
        is_deck = file.read(len(container.DECK)) == container.DECK
    if not is_deck:
        return pack.load(path)
    with pack.reasons(path, "deck"):
        return decode(container.read(path, container.DECK))


def as_deck(path: str | Path) -> Deck:
    """A deck's file, or a card's as a deck of one, whatever that was trained with."""
    found = load(path)
    if isinstance(found, Deck):
        return found
    try:
        member = Member.of(path)
    except ConfigError:
        member = Member.of(path, augment="plain")
    return Deck((member,))


def with_meta(deck: Deck, meta: dict[str, Any]) -> Deck:
    """The same deck with more to say of itself."""
    return dataclasses.replace(deck, meta={**deck.meta, **meta})
