"""Deck files: what was packed comes back, damage is refused with a reason."""

import dataclasses
import functools
import json

import cards
import decks
import numpy as np
import pytest

import cards_jax
from cards_jax import container, deck_file, pack, size
from cards_jax.deck import Deck


@functools.cache
def whole() -> bytes:
    return deck_file.encode(decks.small())


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "hand.deck"
    path.write_bytes(whole())
    return path


def test_a_deck_comes_back(tmp_path):
    d = dataclasses.replace(decks.small(), meta={"why": "ä"})
    path = tmp_path / "hand.deck"
    d.save(path)
    found = cards_jax.load(path)
    assert isinstance(found, Deck) and found.meta == d.meta
    assert found.gate.settings == d.gate.settings and found.gate.groups == d.gate.groups
    np.testing.assert_array_equal(found.gate.references_APF, d.gate.references_APF)
    assert [m.augmentation for m in found.members] == [m.augmentation for m in d.members]
    assert found.classes == ["class 0", "class 1", "class 2"]
    images = np.concatenate([decks.smooth(20), decks.noisy(decks.smooth(20))])
    np.testing.assert_array_equal(found.predict(images, 20), d.predict(images, 20))
    assert deck_file.encode(found) == path.read_bytes()


def test_sizes(path):
    d = deck_file.load(path)
    tables = [size.table(m.content).total for m in d.members]
    assert deck_file.true_bytes(d) == path.stat().st_size
    assert deck_file.paper_bytes(d) == sum(t.paper for t in tables)
    assert path.stat().st_size < sum(t.true for t in tables) + 2 * 2 * 40 * 5 + 1000


def test_without_a_gate(tmp_path):
    d = decks.small(gated=False)
    d.save(tmp_path / "a.deck")
    found = cards_jax.load(tmp_path / "a.deck")
    assert found.gate is None and len(found) == 5


def test_cards_load_as_before(tmp_path):
    pack.save(tmp_path / "a.card", cards.sampled(cards.SMALL, 0.5, True), cards.SMALL, {})
    file = cards_jax.load(tmp_path / "a.card")
    assert isinstance(file, pack.CardFile)
    images = decks.smooth(3)
    one = deck_file.as_deck(tmp_path / "a.card")
    np.testing.assert_allclose(one.predict(images), file.predict(images), rtol=1e-5)


@pytest.mark.parametrize("augment", [None, "gaussian"])
def test_a_card_of_the_first_format_is_a_deck_of_one(tmp_path, augment):
    """Which has the content of a file that it never had."""
    meta, images = {"config": {"augment": augment}} if augment else {}, decks.smooth(3)
    cards.write_npz(tmp_path / "old.npz", cards.sampled(cards.SMALL, 0.5, True), cards.SMALL, meta)
    one = deck_file.as_deck(tmp_path / "old.npz")
    assert one.members[0].name == "old" and one.groups[0].label == (augment or "plain")
    old = pack.load(tmp_path / "old.npz")
    np.testing.assert_allclose(one.predict(images), old.predict(images), rtol=1e-5)
    content = deck_file.encode(one)
    assert deck_file.true_bytes(one) == len(content)
    np.testing.assert_array_equal(deck_file.decode(content).predict(images), one.predict(images))


def test_a_deck_is_no_card(path):
    with pytest.raises(ValueError, match="not a card file .does not begin as a card file does"):
        pack.load(path)


def test_every_flipped_bit_is_refused(path):
    rng = np.random.default_rng(0)
    front = range(container.FRONT + 4)
    for at in [*front, *rng.integers(0, len(whole()), 200), len(whole()) - 1]:
        changed = bytearray(whole())
        changed[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with pytest.raises(
            ValueError, match=r"hand\.deck: damaged, or not a (deck|card) file \(.+"
        ):
            cards_jax.load(path)


def test_every_truncation_is_refused(path):
    for end in [*range(0, 120, 7), len(whole()) // 2, len(whole()) - 1]:
        path.write_bytes(whole()[:end])
        with pytest.raises(ValueError, match=r"hand\.deck: damaged"):
            cards_jax.load(path)
    path.write_bytes(whole() + b"\0")
    with pytest.raises(ValueError, match="bytes instead of"):
        cards_jax.load(path)


def lie(path, change) -> None:
    """A file with a valid hash whose header says something else."""
    header, payload = container.unwrap(whole(), container.DECK)
    header = json.loads(json.dumps(header))
    change(header)
    path.write_bytes(container.wrap(header, bytes(payload), container.DECK))


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h["cards"][0].__setitem__(1, h["cards"][0][1] + 1),
        lambda h: h["cards"][0].__setitem__(1, -1),
        lambda h: h["cards"].pop(),
        lambda h: h["cards"].clear(),
        lambda h: h["gate"]["references"].__setitem__(0, 2**40),
        lambda h: h["gate"].__setitem__("references", [0, 5]),
        lambda h: h["gate"].__setitem__("references", [40, 5, 1]),
        lambda h: h["gate"]["groups"].__setitem__(0, ["prime", {}]),
        lambda h: h["gate"]["groups"].__setitem__(0, h["gate"]["groups"][1]),
        lambda h: h["gate"]["groups"].__setitem__(0, ["augmix", {"hue": 1}]),
        lambda h: h["gate"]["settings"].__setitem__("noise", "much"),
        lambda h: h["gate"]["settings"]["spectrum"].__setitem__("colour", "red"),
        lambda h: h.pop("gate"),
        lambda h: h["cards"][0].__setitem__(2, ["augmix"]),
    ],
)
def test_headers_that_lie_are_refused(path, change):
    lie(path, change)
    with pytest.raises(ValueError, match=r"hand\.deck: damaged, or not a deck file \(.+\)$"):
        cards_jax.load(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(OSError):
        cards_jax.load(tmp_path / "absent.deck")
