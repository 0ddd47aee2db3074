"""What the commands of decks are given: cards and decks, the images that belong to them, gates and corruptions."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cards_jax import config, corruptions, data, deck, deck_file, deck_table, gate, hand
from cards_jax.commands import config_of, say
from cards_jax.config import ConfigError
from cards_jax.corruptions import frost
from cards_jax.data import Data, corrupted
from cards_jax.deck import Deck, Member
from cards_jax.gate import Gate, Settings

SETS = {
    "benchmark": corruptions.BENCHMARK,
    "extra": corruptions.EXTRA,
    "bar": corruptions.BAR,
    "none": (),
}


def data_of(members: Sequence[Member], args: argparse.Namespace) -> Data:
    """What the cards were trained on; ConfigError where they differ in it, or other data lie there now."""
    first, wanted = members[0], members[0].file.meta.get("data_fingerprint")
    for member in members:
        found = member.file.meta.get("data_fingerprint")
        if not found or found != wanted:
            raise ConfigError(
                f"{member.name}: trained on images of fingerprint {found}; allowed are those of "
                f"{first.name}, {wanted}"
            )
    c = config.completed(first.file.meta["config"])
    run = config_of(hand.find(args.cards)[0]) if getattr(args, "cards", None) else c
    places = {
        "data.dir": args.data_dir or run.data.dir,
        "data.cache_dir": args.cache_dir or run.data.cache_dir,
    }
    for field, value in places.items():
        if value is not None:
            config.assign(c, field, value)
    d = data.prepare(c)
    if d.fingerprint != wanted:
        raise ConfigError(
            f"data_dir={c.data.dir!r}: holds images of fingerprint {d.fingerprint}; allowed are those that "
            f"{first.name} was trained on, {wanted}"
        )
    return d


def settings_of(text: str) -> Settings:
    """Of a name, or of a file that `choose` wrote."""
    if text in gate.NAMED:
        return gate.NAMED[text]
    path = Path(text)
    if not path.is_file():
        raise ConfigError(f"gate={text!r}: allowed are {', '.join(gate.NAMED)}, none, or a file")
    try:
        return Settings.read(json.loads(path.read_text())["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"gate={text!r}: holds no settings ({error})") from None


def members_of(args: argparse.Namespace) -> Deck:
    """The cards of the command that did not diverge, as a deck without a gate; names are those of the files."""
    found = deck.of(hand.find(args.cards), augment=args.augment)
    names = [m.name for m in found.members]
    if len(set(names)) < len(names):
        raise ConfigError("cards: two files have one name; allowed is to rename one")
    alive = tuple(m for m in found.members if not m.diverged)
    lost = ", ".join(m.name for m in found.members if m.diverged)
    if not alive:
        raise ConfigError(f"cards: all of them diverged ({lost}); allowed are finished ones")
    if lost:
        say(f"left out, as they diverged: {lost}")
    return Deck(alive)


def gate_of(d: Deck, args: argparse.Namespace, images: Data) -> Gate | None:
    """The gate of the command, from training images."""
    if args.gate == "none":
        return None
    settings = settings_of(args.gate)
    say(
        f"references of the gate, from {settings.references:,} training images of each augmentation"
    )
    return gate.build(settings, d.groups, images.train_images)


def assembled(args: argparse.Namespace) -> Deck:
    """All cards of the command with its gate."""
    d = members_of(args)
    if args.gate == "none":
        return d
    settings_of(args.gate)  # a mistake ends before the data are read
    return Deck(d.members, gate_of(d, args, data_of(d.members, args)))


def decks_of(places: Sequence[str]) -> dict[str, Deck]:
    """{name: deck} of files, the names those of the files; ConfigError where two have one name, or other images."""
    found: dict[str, Deck] = {}
    for place in places:
        name = Path(place).stem
        if name in found:
            raise ConfigError(f"decks: two files are called {name}; allowed is to rename one")
        found[name] = deck_file.as_deck(place)
    return found


def gates_of(d: Deck, images: Data) -> dict[str, Gate]:
    """{predictor: gate}: the settings `paper` and `ours`, a soft gate, and the deck's own where it is another."""
    if len(d.groups) < 2:
        return {}
    named = {
        name: d.gate for name, known in gate.NAMED.items() if d.gate and d.gate.settings == known
    }
    for name, known in gate.NAMED.items():
        if name not in named:
            named[name] = gate.build(known, d.groups, images.train_images)
    if d.gate and d.gate.settings not in gate.NAMED.values():
        named = {"own": d.gate, **named}
    first = "own" if "own" in named else "ours"
    named[f"{first}, {deck_table.SOFTLY}"] = deck_table.softened(named[first])
    return {f"{deck_table.ADAPTIVE}, {name}": known for name, known in named.items()}


def flavours_of(images: np.ndarray, names: Sequence[str]) -> dict[str, str]:
    """In which flavours these corruptions are made here."""
    return {k: v for k, v in corruptions.flavours(images.shape[1]).items() if k in names}


def names_of(text: str) -> tuple[str, ...]:
    """The corruptions of a command, from names and names of sets; ConfigError for what is none."""
    parts = [x for x in text.split(",") if x]
    names = tuple(dict.fromkeys(n for x in parts for n in SETS.get(x, (x,))))
    for name in names:
        corruptions.find(name)
    return names


def test_set(members: Sequence[Member], args: argparse.Namespace, names: Sequence[str]):
    """(data, images, labels, a line that says what they are)."""
    title = _title(members, args)
    if args.frost:
        frost.use(args.frost)
    found = data_of(members, args)
    images, labels = found.test_images[: args.images], found.test_labels[: args.images]
    notes = [f"{k}: {v}" for k, v in flavours_of(images, names).items()]
    text = f"{len(images)} test images of {title}."
    if names:
        text += f" Corruptions generated from them, severities {_listed(args.severities)}."
    text += f" {'; '.join(notes)}." * bool(notes)
    return found, images, labels, text


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _title(members: Sequence[Member], args: argparse.Namespace) -> str:
    c = config.completed(members[0].file.meta.get("config") or {})
    title = args.data_title or members[0].file.meta.get("title")
    if not title and c.data.name not in corrupted.TITLES:
        raise ConfigError(
            f"data_title={title!r}: with data.name={c.data.name} results need a name for people, like "
            "--data.title='CIFAR-10 (JPEG)'"
        )
    return title or corrupted.TITLES[c.data.name]
