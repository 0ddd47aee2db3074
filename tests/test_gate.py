"""Which group a batch belongs to."""

import dataclasses

import decks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KDTree

from cards_jax import augment, gate, spectrum
from cards_jax.config import ConfigError
from cards_jax.gate import OURS, PAPER, Augmentation, Settings

AUGMIX, GAUSSIAN = Augmentation("augmix"), Augmentation("gaussian")


@pytest.fixture(scope="module")
def known() -> gate.Gate:
    settings = Settings(references=200)
    return gate.build(settings, (AUGMIX, GAUSSIAN), decks.smooth(150))


def features(images) -> jax.Array:
    return spectrum.features(jnp.asarray(images), spectrum.Spectrum())


def picked(known, images, cards=(1, 1), temperature=0.0) -> gate.Choice:
    real = jnp.ones(len(images), bool)
    return gate.choose(features(images), real, known.references_APF, cards, temperature)


def test_the_named_settings():
    assert PAPER.noise == 0.5 and PAPER.references == OURS.references == 5000
    assert OURS.noise == 1.0 and not (OURS.temperature or OURS.per_image)


def test_references_are_unit_vectors_of_augmented_images(known):
    assert known.references_APF.shape == (2, 200, 5)
    assert known.references_APF.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(known.references_APF, axis=-1), 1, atol=1e-4)
    again = gate.build(known.settings, known.groups, decks.smooth(150))
    np.testing.assert_array_equal(again.references_APF, known.references_APF)
    other = gate.build(Settings(references=200, seed=1), known.groups, decks.smooth(150))
    assert (other.references_APF != known.references_APF).any()


def test_every_image_is_used_once_before_any_is_used_twice():
    """Plain references are the images' own features."""
    images = decks.smooth(30)
    plain = Augmentation("plain")
    found = gate.build(Settings(references=50), [plain], images).references_APF[0]
    wanted = gate.gridded(np.asarray(features(images)))
    nearest = [int(np.abs(wanted - x).sum(1).argmin()) for x in found]
    np.testing.assert_allclose(found, wanted[nearest], atol=2e-5)
    assert sorted(nearest[:30]) == list(range(30)) and len(set(nearest[30:])) == 20


def test_noise_is_the_part_of_gaussian_references_that_has_noise():
    images = decks.smooth(200)
    plain = KDTree(np.asarray(features(images)))
    for noise, share in ((0.0, 1.0), (0.5, 0.5), (1.0, 0.0)):
        known = gate.build(Settings(noise, references=200), [GAUSSIAN], images)
        far, _ = plain.query(known.references_APF[0])
        assert abs(np.mean(far < 1e-4) - share) < 0.12


def test_references_keep_their_grid():
    rng = np.random.default_rng(0)
    x = rng.random((2, 7, 5)).astype(np.float32)
    found = gate.gridded(x)
    assert np.abs(found - x).max() < 8e-6
    np.testing.assert_array_equal(gate.gridded(found), found)


def test_distances_and_choices_equal_those_of_a_kd_tree(known):
    rng = np.random.default_rng(0)
    sets = [np.asarray(features(f(decks.smooth(500, seed=2)))) for f in (np.array, decks.noisy)]
    shares = rng.random(1000)
    batches = np.stack(
        [sets[0][rng.integers(0, 500, 20)] for _ in shares]
    )  # from all smooth to all noisy
    mixed = rng.random((1000, 20)) < shares[:, None]
    batches[mixed] = sets[1][rng.integers(0, 500, mixed.sum())]
    found = gate.choose_all(batches.reshape(-1, 5), 20_000, 20, known.references_APF, (3, 3))
    means = batches.mean(1)
    wanted = np.stack([KDTree(x).query(means)[0][:, 0] for x in known.references_APF], 1)
    np.testing.assert_allclose(found.distances, wanted, rtol=2e-5, atol=1e-6)
    sure = np.abs(wanted[:, 0] - wanted[:, 1]) > 1e-5
    chosen = np.asarray(found.weights).argmax(1)
    assert sure.mean() > 0.99 and (chosen == wanted.argmin(1))[sure].all()
    assert set(chosen) == {0, 1} and not found.agnostic.any()


def test_smooth_and_noisy_batches_go_to_their_groups(known):
    images = decks.smooth(100, seed=5)
    np.testing.assert_array_equal(picked(known, images).weights, [1, 0])
    np.testing.assert_array_equal(picked(known, decks.noisy(images)).weights, [0, 1])


def test_rows_that_fill_a_batch_do_not_count(known):
    images = decks.smooth(30, seed=6)
    filled = np.concatenate([images[:20], np.zeros((10, 8, 8, 3), np.uint8)])
    real = jnp.arange(30) < 20
    found = gate.choose(features(filled), real, known.references_APF, (1, 1))
    wanted = picked(known, images[:20])
    np.testing.assert_allclose(found.distances, wanted.distances, rtol=1e-5)
    assert not found.agnostic


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=5).filter(any),
    st.sampled_from([0.0, 0.01, 1.0]),
    st.integers(0, 5),
)
def test_weights_are_a_mean_over_cards(cards, temperature, seed):
    """Whatever the groups: non-negative, over all cards they sum to 1; hard choices weigh their cards equally."""
    rng = np.random.default_rng(seed)
    references = rng.random((len(cards), 6, 5)).astype(np.float32)
    batch = rng.random((4, 5)).astype(np.float32)
    found = gate.choose(batch, np.ones(4, bool), references, cards, temperature)
    weights = np.asarray(found.weights)
    assert (weights >= 0).all() and np.isclose(weights @ cards, 1, atol=1e-5)
    nearest = int(np.asarray(found.distances).argmin())
    if not temperature:
        assert bool(found.agnostic) == (cards[nearest] == 0)
        wanted = 1 / cards[nearest] if cards[nearest] else 1 / sum(cards)
        assert np.isclose(weights[nearest], wanted)
    elif cards[nearest]:
        mine = weights * cards
        assert mine.argmax() == nearest and not found.agnostic


def test_ties_join_groups(known):
    twice = np.concatenate([known.references_APF, known.references_APF[:1]])
    one = jnp.asarray(features(decks.smooth(20, seed=3)))
    found = gate.choose(one, jnp.ones(20, bool), twice, (2, 3, 4))
    np.testing.assert_allclose(found.weights, [1 / 6, 0, 1 / 6])


def test_without_features_or_cards_all_cards_are_asked(known):
    images = decks.smooth(20, seed=3)
    images[7] = 99
    assert not picked(known, images, (2, 3)).agnostic
    images[:] = 99
    flat = picked(known, images, (2, 3))
    assert flat.agnostic
    np.testing.assert_allclose(flat.weights, [1 / 5, 1 / 5])
    empty = picked(known, decks.smooth(20, seed=3), (0, 3))
    assert empty.agnostic
    np.testing.assert_allclose(empty.weights, [1 / 3, 1 / 3])
    assert not picked(known, decks.noisy(decks.smooth(20, seed=3)), (0, 3)).agnostic


def test_a_soft_gate_follows_the_softmin_of_distances(known):
    found = picked(known, decks.smooth(20, seed=3), (2, 4), temperature=0.05)
    shares = jax.nn.softmax(-found.distances / 0.05)
    np.testing.assert_allclose(found.weights, shares / np.array([2, 4]), rtol=1e-5)


@pytest.mark.parametrize("name", augment.names())
def test_every_augmentation_is_a_group(name):
    group = Augmentation.of(name, {})
    assert group.label == ("plain" if name in ("standard", "crop", "plain") else name)
    image = jnp.asarray(decks.smooth(1)[0] / np.float32(255))
    assert group.view(1.0)(jax.random.key(0), image).shape == image.shape


def test_what_makes_another_group():
    card = lambda config: Augmentation.of_card({"config": config})
    assert card({}) == card({"augment": "crop"}) == Augmentation("plain")
    first = {"augment": "gaussian", "gaussian.first": "crop", "gaussian.p": 0.9}
    assert card(first) == GAUSSIAN
    strong = card({"augment": "gaussian", "gaussian.sigma": 0.2, "augmix.width": 2})
    assert strong != GAUSSIAN and strong.label == "gaussian(sigma=0.2)"
    for meta in ({}, {"config": None}):
        with pytest.raises(ConfigError, match="does not say with which augmentation"):
            Augmentation.of_card(meta)
    with pytest.raises(ConfigError, match="augment='x': allowed are augmix, "):
        card({"augment": "x"})
    with pytest.raises(ConfigError, match="'gaussian' has no setting 'hue'"):
        card({"augment": "gaussian", "gaussian.hue": 1})


def test_images_of_one_colour_are_no_references():
    images = np.concatenate([decks.smooth(10), np.zeros((10, 8, 8, 3), np.uint8)])
    found = gate.build(Settings(references=20), [Augmentation("plain")], images).references_APF
    assert np.isfinite(found).all()
    with pytest.raises(ValueError, match="every augmented training image is of one colour"):
        gate.build(Settings(references=5), [Augmentation("plain")], images[10:])


def test_settings_as_json():
    settings = Settings(0.5, spectrum.Spectrum("channels", "floor", 22), 10, True, 0.1, 3)
    assert Settings.read(settings.written()) == settings
    assert Settings.read({"noise": 1}) == dataclasses.replace(OURS, noise=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([], "allowed is an object"),
        ({"noisy": 1}, "'noisy' is no setting; allowed are noise, spectrum"),
        ({"noise": "1"}, "noise='1': must be of type float"),
        ({"noise": 1.5}, "noise=1.5: allowed are 0 to 1"),
        ({"references": 0}, "references=0: allowed are 1 to"),
        ({"temperature": -1}, "temperature=-1: allowed are 0"),
        ({"spectrum": {"colour": "red"}}, "colour='red': allowed are"),
        ({"spectrum": {"color": "luma"}}, "unexpected keyword"),
    ],
)
def test_wrong_settings_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Settings.read(fields)
