"""Cards that predict together."""

import dataclasses

import cards
import decks
import jax
import numpy as np
import pytest

import cards_jax
from cards_jax import deck, deck_program, gate
from cards_jax.config import ConfigError
from cards_jax.deck import Deck


@pytest.fixture(scope="module")
def five() -> Deck:
    return decks.small()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Batches of 20: smooth, noisy, smooth, and 7 noisy ones."""
    smooth = decks.smooth(67, seed=9)
    return np.concatenate(
        [smooth[:20], decks.noisy(smooth[20:40]), smooth[40:60], decks.noisy(smooth[60:])]
    )


def alone(d: Deck, images) -> np.ndarray:
    """(R, N, K): what the cards say by themselves."""
    return np.stack([np.asarray(m.file.predict(images)) for m in d.members])


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def of_group(d: Deck, label: str) -> list[int]:
    return [i for i, m in enumerate(d.members) if m.augmentation.label == label]


def test_agnostic_is_the_mean_of_all_cards(five, images):
    found = five.predict(images, adaptive=False)
    assert found.shape == (67, 3) and found.dtype == np.float32
    close(found, alone(five, images).mean(0))
    close(found.sum(1), 1)
    without = Deck(five.members)
    close(without.predict(images), found)


@pytest.mark.parametrize("batch", [20, 7, 100])
def test_adaptive_is_the_mean_of_the_group_that_the_gate_picks(five, images, batch):
    choice = five.choose(images, batch)
    assert choice.weights.shape == (-(-67 // batch), 2)
    weights = np.repeat(np.asarray(choice.weights), batch, axis=0)[:67]
    each = alone(five, images)
    groups = [of_group(five, label) for label in five.gate.labels]
    wanted = sum(w[:, None] * each[g].sum(0) for w, g in zip(weights.T, groups, strict=True))
    close(five.predict(images, batch), wanted)
    if batch == 20:
        assert five.gate.labels == ["plain", "gaussian"]
        np.testing.assert_allclose(choice.weights, [[1 / 2, 0], [0, 1 / 3]] * 2)


def test_a_deck_of_one_is_its_card(images):
    one = deck.of([decks.file()])
    close(one.predict(images), one.members[0].file.predict(images))
    gated = Deck(one.members, gate.build(decks.SETTINGS, one.groups, decks.smooth(60)))
    close(gated.predict(images), one.members[0].file.predict(images))


def test_batch_mates_only_matter_to_the_gate(five, images):
    """The same choice, other mates: the same predictions."""
    other = np.concatenate([images[:10], decks.smooth(10, seed=77)])
    choices = [five.choose(x[:20], 20).weights for x in (images, other)]
    np.testing.assert_array_equal(*choices)
    first, second = (np.asarray(five.predict(x[:20], 20)) for x in (images, other))
    np.testing.assert_allclose(first[:10], second[:10], rtol=1e-6, atol=1e-7)
    mates = np.concatenate([images[:4], decks.noisy(decks.smooth(60, seed=5))])
    assert np.abs(np.asarray(five.predict(mates, 64))[:4] - first[:4]).max() > 1e-3


@pytest.mark.slow
def test_averages_of_batchnorm_know_no_batch_mates():
    """With cards that have BatchNorm: other mates, the same choice, the same prediction."""
    kinds = ("plain", "gaussian")
    d = deck.of([decks.file(cards.NORMALISED, 0.5, kind) for kind in kinds])
    d = Deck(d.members, gate.build(decks.SETTINGS, d.groups, decks.smooth(60)))
    images = decks.smooth(20, seed=9)
    other = np.concatenate([images[:10], decks.smooth(10, seed=77)])
    choices = [d.choose(x, 20).weights for x in (images, other)]
    np.testing.assert_array_equal(*choices)
    first, second = (np.asarray(d.predict(x, 20)) for x in (images, other))
    np.testing.assert_allclose(first[:10], second[:10], rtol=1e-5, atol=1e-6)


def test_only_the_cards_that_the_gate_picks_are_computed(five, images, monkeypatch):
    """Cards count how often they are asked."""
    asked, whole = [], deck_program.sum_of_cards

    def counted(spec, stack, some, **how):
        cards_in_stack = len(jax.tree.leaves(stack)[0])
        jax.debug.callback(lambda: asked.append(cards_in_stack * len(some)))
        return whole(spec, stack, some, **how)

    monkeypatch.setattr(deck_program, "sum_of_cards", counted)
    monkeypatch.setattr(deck_program, "PIECE", {"other": 20, "cpu": 20})
    deck_program.program.cache_clear()
    found = five.predict(images, 20)
    jax.effects_barrier()
    assert sum(asked) == 2 * 40 + 3 * 40  # 27 noisy images fill two pieces of 20
    asked.clear()
    close(five.predict(images[:60], 20)[:20], found[:20])
    jax.effects_barrier()
    assert sum(asked) == 2 * 40 + 3 * 20
    deck_program.program.cache_clear()


def test_one_program_for_many_counts(five):
    """No compilation for every number of images."""
    five.predict(decks.smooth(64), 20)
    before = deck_program.program.cache_info().misses
    for count in (61, 66, 80):
        five.predict(decks.smooth(count), 20)
    assert deck_program.program.cache_info().misses == before


def test_any_number_of_images(five):
    for count in (0, 1, 3):
        images = decks.smooth(count)
        found = five.predict(images)
        assert found.shape == (count, 3)
        for i in range(count):
            close(found[i : i + 1], five.predict(images[i : i + 1]))
    close(found, five.predict(images / np.float32(255)))


def test_more_images_than_a_program_takes(five, images, monkeypatch):
    whole, choice = five.predict(images, 20), five.choose(images, 20)
    monkeypatch.setattr(deck, "BATCHES", 2)
    close(five.predict(images, 20), whole)
    np.testing.assert_array_equal(five.choose(images, 20).weights, choice.weights)


def test_three_groups_and_a_soft_gate(images):
    files = [decks.file(sparsity=0.2), decks.file(augment="gaussian")]
    files.append(decks.file(sparsity=0.8, augment="gaussian", sigma=0.3))
    three = deck.of([*files, decks.file(sparsity=0.3, augment="gaussian")])
    three = Deck(three.members, gate.build(decks.SETTINGS, three.groups, decks.smooth(60)))
    assert three.gate.labels == ["plain", "gaussian", "gaussian(sigma=0.3)"]
    soft = dataclasses.replace(three.gate, settings=gate.Settings(references=40, temperature=0.1))
    for known in (three.gate, soft):
        d = Deck(three.members, known)
        weights = np.repeat(np.asarray(d.choose(images, 20).weights), 20, axis=0)[:67]
        places = [d.groups.index(m.augmentation) for m in d.members]
        close(d.predict(images, 20), np.einsum("rnk,nr->nk", alone(d, images), weights[:, places]))
    assert (np.asarray(Deck(three.members, soft).choose(images).weights) > 0).all()


def test_per_image_gating_is_a_batch_of_one(five, images):
    settings = dataclasses.replace(five.gate.settings, per_image=True)
    d = Deck(five.members, dataclasses.replace(five.gate, settings=settings))
    close(d.predict(images, 20), five.predict(images, 1))


def test_the_gate_says_where_it_cannot_choose(five, images):
    flat = images.copy()
    flat[25] = 7  # without a say: the others of its batch choose as before
    np.testing.assert_array_equal(five.choose(flat, 20).agnostic, [0, 0, 0, 0])
    np.testing.assert_array_equal(five.choose(flat, 20).weights, five.choose(images, 20).weights)
    flat[20:40] = 7
    with pytest.warns(RuntimeWarning, match="1 of 4 batches went to all cards"):
        found = np.asarray(five.predict(flat, 20))
    close(found[20:40], alone(five, flat).mean(0)[20:40])
    close(found[:20], five.predict(images, 20)[:20])
    np.testing.assert_array_equal(five.choose(flat, 20).agnostic, [0, 1, 0, 0])


def test_a_group_without_cards(five, images):
    only = Deck(tuple(m for m in five.members if m.augmentation.label == "plain"), five.gate)
    with pytest.warns(RuntimeWarning, match="2 of 4 batches"):
        found = only.predict(images, 20)
    close(found, alone(only, images).mean(0))


def test_each_card_by_itself(five, images):
    close(five.each(images), alone(five, images))


@pytest.mark.slow
def test_transductive_cards_take_the_statistics_of_their_batch():
    d = deck.of([decks.file(cards.NORMALISED, s) for s in (0.2, 0.5)])
    images = decks.noisy(decks.smooth(35))
    found = d.each(images, transductive=True, batch=20)
    close(d.each(images[:20], transductive=True, batch=20), found[:, :20])
    close(d.each(images[20:], transductive=True, batch=20), found[:, 20:])
    mixed = d.each(images[::-1], transductive=True, batch=20)[:, ::-1]
    assert np.abs(mixed - found).max() > 1e-3
    assert np.abs(d.each(images) - found).max() > 1e-2


def test_no_images_have_no_answers(five):
    assert five.each(np.zeros((0, 8, 8, 3), np.uint8)).shape == (5, 0, 3)


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 9, 9, 3), np.uint8), np.zeros((8, 8, 3)), np.full((1, 8, 8, 3), 1.5)]
)
def test_images_are_refused_as_a_card_refuses_them(five, wrong):
    with pytest.raises(ValueError) as of_card:
        five.members[0].file.predict(wrong)
    with pytest.raises(ValueError) as of_deck:
        five.predict(wrong)
    assert str(of_card.value) == str(of_deck.value) and "images: " in str(of_deck.value)


def test_wrong_decks_are_refused(five, images):
    with pytest.raises(ConfigError, match="at least one card"):
        Deck(())
    with pytest.raises(ConfigError, match=r"card: num_classes 10; allowed is that of card, 3"):
        deck.of([decks.file(), decks.file(cards.NORMALISED)])
    other = decks.file()
    for field, value in (("classes", list("xyz")), ("data_fingerprint", "b")):
        other = dataclasses.replace(other, meta={**decks.file().meta, field: value})
        first = decks.file()
        first.meta["data_fingerprint"] = "a"
        with pytest.raises(ConfigError, match=f"card: {field} .*; allowed is that of card, "):
            deck.of([first, other])
    with pytest.raises(ConfigError, match="trained with augmix; the gate has references for plain"):
        Deck(deck.of([decks.file(augment="augmix")]).members, five.gate)
    with pytest.raises(ConfigError, match="allowed is one for each of 1 cards"):
        deck.of([decks.file()], augment=["plain", "plain"])
    for batch in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="batch=.*: allowed is a whole number from 1"):
            five.predict(images, batch)
    with pytest.raises(ValueError, match="domain-agnostic, it does not choose"):
        Deck(five.members).choose(images)


def test_cards_that_know_their_data_are_compared_with_one_another():
    """Whatever the first card knows: imported ones know nothing."""

    def member(name, **meta):
        kind = {"config": {"augment": "plain"}}
        return deck.Member.of(dataclasses.replace(decks.file(), meta=kind | meta), name=name)

    unknown, abc = member("unknown"), member("abc", classes=list("abc"))
    assert Deck((unknown,)).classes == ["0", "1", "2"]
    assert Deck((unknown, abc)).classes == ["a", "b", "c"]
    with pytest.raises(ConfigError, match="xyz: classes x, y, z; allowed is that of abc, a, b, c"):
        Deck((unknown, abc, member("xyz", classes=list("xyz"))))
    one, other = (member(name, data_fingerprint=name) for name in ("one", "other"))
    with pytest.raises(ConfigError, match="other: data_fingerprint other; .* that of one, one"):
        Deck((unknown, one, other))


def test_in_the_packages_own_namespace():
    assert cards_jax.Deck is Deck
