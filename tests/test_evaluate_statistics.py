"""Calibration, intervals, effective robustness, prune potential, exemplars: against loops and known truths."""

from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cards_jax.evaluate import answers, bootstrap, calibration, effective, exemplars, potential


def naive_error(confidence, correct, count=15):
    total = 0.0
    for b in range(count):
        low, high = b / count, (b + 1) / count
        rows = [i for i, c in enumerate(confidence) if low < c <= high]
        if rows:
            accuracy = sum(bool(correct[i]) for i in rows) / len(rows)
            mean = sum(confidence[i] for i in rows) / len(rows)
            total += len(rows) / len(confidence) * abs(accuracy - mean)
    return total


def test_calibration_error_against_a_loop():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.1, 1, 500)
    correct = rng.random(500) < confidence**2
    found = calibration.error(calibration.bins(confidence, correct))
    assert found == pytest.approx(naive_error(confidence.tolist(), correct), abs=1e-12)
    assert found > 0.1


def test_a_network_that_answers_nan_is_sure_of_nothing():
    found = calibration.bins(np.array([np.nan, 0.9]), np.array([False, True]))
    assert calibration.error(found) == pytest.approx(0.05)


def test_bins_of_several_sets_add_up():
    rng = np.random.default_rng(1)
    confidence, correct = rng.random(200), rng.random(200) < 0.5
    halves = [calibration.bins(confidence[s], correct[s]) for s in (slice(90), slice(90, None))]
    np.testing.assert_allclose(sum(halves), calibration.bins(confidence, correct))
    assert calibration.bins(np.array([0.0, 1.0]), np.array([True, True]))[[0, -1], 0].tolist() == [
        1,
        1,
    ]


def test_answers_are_those_of_a_softmax():
    rng = np.random.default_rng(2)
    table = rng.normal(size=(256, 4)).astype(np.float32) * 3
    images = rng.integers(0, 256, (12, 2, 2, 1), dtype=np.uint8)
    labels = rng.integers(0, 4, 12).astype(np.int32)
    predict = lambda x: jnp.asarray(table)[x[:, 0, 0, 0]]
    found = answers.measure(predict, jnp.asarray(images), jnp.asarray(labels), 3)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        logits = table[image[0, 0, 0]].astype(float)
        p = np.exp(logits) / np.exp(logits).sum()
        assert found["predicted"][i] == p.argmax()
        assert found["confidence"][i] == pytest.approx(p.max(), rel=1e-5)
        assert found["loss"][i] == pytest.approx(-np.log(p[label]), rel=1e-4)


def trial(rng, seeds, images, cells=1):
    """Scores of cards on images, both with effects of their own, around a known truth of 0.7."""
    centre = 0.7 + 0.03 * rng.normal(size=(seeds, 1)) + 0.15 * rng.normal(size=(1, images))
    return centre + 0.1 * rng.normal(size=(seeds, images))


@pytest.mark.parametrize(("seeds", "images"), [(2, 300), (5, 300), (10, 60)])
def test_interval_covers_a_known_truth(seeds, images):
    rng = np.random.default_rng(seeds)
    weights = bootstrap.image_weights(images, 400)
    found = [bootstrap.interval(trial(rng, seeds, images), weights) for _ in range(200)]
    covered = np.mean([e.low <= 0.7 <= e.high for e in found])
    assert 0.90 <= covered <= 0.995, covered


@pytest.mark.parametrize("shared", [2, 3])
def test_decks_of_a_ring_know_less_than_as_many_that_share_nothing(shared):
    rng, weights, seeds = np.random.default_rng(shared), bootstrap.image_weights(60, 400), 5
    naive, found = [], []
    for _ in range(200):
        cards = 0.7 + 0.03 * rng.normal(size=(seeds, 1)) + 0.01 * rng.normal(size=(seeds, 60))
        decks = np.mean([np.roll(cards, -k, axis=0) for k in range(shared)], 0)
        naive.append(bootstrap.interval(decks, weights))
        found.append(bootstrap.interval(decks, weights, shared=shared))
        assert found[-1][3:] == naive[-1][3:]
    covered = [np.mean([e.low <= 0.7 <= e.high for e in each]) for each in (naive, found)]
    assert covered[0] < 0.88 and 0.90 <= covered[1] <= 0.995, covered


def test_windows_of_a_ring_have_fewer_degrees_of_freedom():
    """All R - 1 for rows that share nothing, or all but one of their seeds; fewer between, where the spectrum of the
    window is uneven: of two seeds in a ring of five, cos(pi k / 5)^2."""
    found = [bootstrap._freedom(5, shared) for shared in (1, 2, 3, 4)]
    powers = np.cos(np.pi * np.arange(1, 5) / 5) ** 2
    assert found == pytest.approx([4, powers.sum() ** 2 / (powers**2).sum(), found[1], 4])
    assert 2.5 < found[1] < 2.7


@pytest.mark.parametrize("shared", [0, 5, 6])
def test_decks_of_all_seeds_are_one_deck(shared):
    with pytest.raises(ValueError, match=f"shared={shared}: allowed is 1 to 4 for 5 rows"):
        bootstrap.interval(np.ones((5, 8)), bootstrap.image_weights(8, 4), shared=shared)


def test_cells_of_one_image_are_no_further_evidence():
    """As 75 N independent images the interval would be 8.7 times narrower."""
    rng = np.random.default_rng(0)
    right = (rng.random((3, 400)) < 0.7).astype(float)
    weights = bootstrap.image_weights(400)
    once = bootstrap.interval(right, weights)
    cells = np.repeat(right[:, None], 75, axis=1).mean(1)
    assert bootstrap.interval(cells, weights) == pytest.approx(once)
    assert once.high - once.low > 2 * 1.96 * np.sqrt(0.21 / 1200)


def test_of_two_seeds_the_interval_is_students():
    level = np.array([[0.6], [0.7]]) + np.zeros((2, 50))
    found = bootstrap.interval(level, bootstrap.image_weights(50))
    half = 12.706 * np.std([0.6, 0.7], ddof=1) / np.sqrt(2)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.08)


def test_one_seed_speaks_of_images_alone():
    right = (np.random.default_rng(0).random((1, 2000)) < 0.8).astype(float)
    found = bootstrap.interval(right, bootstrap.image_weights(2000))
    expected = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 2000)
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.08)
    assert (found.smallest, found.largest, found.n) == (found.mean, found.mean, 1)


def test_pairing_by_seed_takes_out_what_seeds_share():
    rng = np.random.default_rng(3)
    shared = 0.05 * rng.normal(size=(5, 1))
    a = 0.72 + shared + 0.1 * rng.normal(size=(5, 500))
    b = 0.70 + shared + 0.1 * rng.normal(size=(5, 500))
    weights = bootstrap.image_weights(500)
    paired, apart = (bootstrap.difference(a, b, weights, p) for p in (True, False))
    assert paired.mean == pytest.approx(apart.mean) == pytest.approx((a - b).mean())
    assert paired.high - paired.low < 0.5 * (apart.high - apart.low)
    assert paired.low <= 0.02 <= paired.high


def test_image_weights_are_samples():
    weights = bootstrap.image_weights(7, 50)
    counts = weights * 7
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-5)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)


def test_effective_robustness_is_zero_on_the_line():
    clean = np.array([0.8, 0.85, 0.9, 0.95])
    logit = lambda p: np.log(p / (1 - p))
    shifted = 1 / (1 + np.exp(-(0.8 * logit(clean) - 1)))
    line = effective.fit(clean, shifted)
    assert line == pytest.approx((0.8, -1.0))
    np.testing.assert_allclose(effective.residual(line, clean, shifted + 0.03), 0.03, atol=1e-9)
    assert effective.fit(clean[:2], shifted[:2]) is None
    assert effective.fit(np.full(4, 0.9), shifted) is None


def test_prune_potential_by_hand():
    errors = {0.5: 0.100, 0.8: 0.1049, 0.9: 0.12, 0.95: 0.104}
    assert potential.potential(errors, 0.1) == 0.95
    assert potential.potential(errors, 0.1, 0.002) == 0.5
    assert potential.potential({0.5: 0.2}, 0.1) == 0


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 4)), elements=st.integers(0, 3))
)
def test_modal_label_against_counting(predicted):
    for column, found in zip(predicted.T, exemplars.modal(predicted), strict=True):
        counts = Counter(column.tolist())
        assert found == min(counts, key=lambda k: (-counts[k], k))


def test_exemplars_are_where_the_populations_differ():
    dense = np.array([[0, 1, 2], [0, 1, 2], [1, 1, 0]])
    compressed = np.array([[0, 2, 0], [0, 2, 0], [0, 1, 2]])
    assert exemplars.disagree(compressed, dense).tolist() == [False, True, True]
