"""Decks are scored and searched as by hand."""

import dataclasses
import itertools

import decks
import jax.numpy as jnp
import numpy as np
import pytest

from cards_jax import deal, deck_file, gate, trials
from cards_jax.config import ConfigError
from cards_jax.deck import Deck
from cards_jax.trials import Answers

N, M, K = 23, 5, 3
NAMES = ("clean", *["spatter"] * 2, *["saturate"] * 3)


@pytest.fixture(scope="module")
def five() -> Deck:
    return decks.small()


@pytest.fixture(scope="module")
def answers() -> Answers:
    """Five cards; some batches have two groups at one distance, one has no distance."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(K, 0.3), (len(NAMES), 5, N)).astype(np.float32)
    distances = rng.integers(1, 4, (len(NAMES), 5, 2)).astype(np.float32)
    distances[2, 3] = np.nan
    return Answers(NAMES, probabilities, distances, rng.integers(0, K, N), M)


def naive(answers: Answers, cards, groups, gated=True) -> np.ndarray:
    """(C,): one image after another."""
    found = np.zeros(len(answers.names))
    for c in range(len(found)):
        for n in range(N):
            d = answers.distances_CBA[c, n // M]
            there = {groups[r] for r in cards}
            near = [r for r in cards if gated and d[groups[r]] == min(d[list(there)])]
            chosen = near or list(cards)
            mean = answers.probabilities_CRNK[c, chosen, n].astype(np.float64).mean(0)
            found[c] += (mean.argmax() == answers.labels_N[n]) / N
    return found


def subsets(count: int, most: int):
    return [x for n in range(1, most + 1) for x in itertools.combinations(range(count), n)]


@pytest.mark.parametrize("gated", [True, False])
def test_scores_are_those_of_every_deck(five, answers, gated):
    groups = [0, 1, 0, 1, 1]
    every = subsets(5, 5)
    for dealt in deal.score(five, answers, every, gated):
        wanted = naive(answers, dealt.cards, groups, gated)
        assert dealt.gated == (gated and len({groups[r] for r in dealt.cards}) == 2)
        assert dealt.accuracy == pytest.approx(wanted[0], abs=1e-6)
        names = [wanted[0], wanted[1:3].mean(), wanted[3:].mean()]
        assert dealt.robustness == pytest.approx(np.mean(names[1:]), abs=1e-6)
        assert dealt.score == pytest.approx(np.mean(names), abs=1e-6)
    assert [d.cards for d in deal.score(five, answers, every, gated)] == every


def test_answers_are_those_of_the_deck(five):
    """Through the cache as by predict."""
    labels = np.arange(30) % 3
    images = [decks.smooth(30), decks.noisy(decks.smooth(30))]
    sets = [trials.Trial(f"set {i}", i, x) for i, x in enumerate(images)]
    found = trials.answers(five, sets, labels, 10)
    accuracy = found.accuracy(np.ones((1, 5)), [0, 1, 0, 1, 1])[0]
    wanted = [np.mean(np.argmax(five.predict(x, 10), 1) == labels) for x in images]
    np.testing.assert_allclose(accuracy, wanted, atol=1e-6)
    agnostic = trials.answers(Deck(five.members), sets, labels, 10)
    wanted = [np.mean(np.argmax(five.predict(x, adaptive=False), 1) == labels) for x in images]
    np.testing.assert_allclose(agnostic.accuracy(np.ones((1, 5)), [0, 1, 0, 1, 1])[0], wanted)


def test_sizes_are_those_of_the_files(five, answers):
    for gated in (True, False):
        for dealt in deal.score(five, answers, [(0,), (0, 2), (1, 4, 2)], gated):
            some = deal.sub_deck(five, dealt.cards, dealt.gated)
            assert dealt.true_bytes == len(deck_file.encode(some))
            assert dealt.paper_bytes == pytest.approx(deck_file.paper_bytes(some))
            assert (some.gate is not None) == dealt.gated == (gated and dealt.cards == (1, 4, 2))


def both_ways(five, answers, hands) -> list[deal.Dealt]:
    """Every deck once, those of several groups with the gate and without."""
    ways = [deal.score(five, answers, hands, gated) for gated in (True, False)]
    return list({(d.cards, d.gated): d for d in itertools.chain(*ways)}.values())


def test_the_best_deck_within_a_budget(five, answers):
    every = both_ways(five, answers, subsets(5, 4))
    budgets = np.quantile([d.true_bytes for d in every], [0.05, 0.3, 0.7, 1])
    for budget in map(int, budgets):
        found = deal.search(five, answers, budget, 4)
        fitting = [d for d in every if d.true_bytes <= budget]
        assert {(d.cards, d.gated) for d in found} == {(d.cards, d.gated) for d in fitting}
        assert len(found) == len(fitting)
        assert found[0].score == max(d.score for d in fitting)
        assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)


def test_greedy_extends_the_best(five, answers, monkeypatch):
    monkeypatch.setattr(deal, "EXHAUSTIVE", 0)
    budget = max(d.true_bytes for d in deal.score(five, answers, subsets(5, 3)))
    found = deal.search(five, answers, budget, 3)
    assert all(d.true_bytes <= budget and len(d.cards) <= 3 for d in found)
    one, two, three = ([d for d in found if len(d.cards) == n] for n in (1, 2, 3))
    best = lambda dealt: max(dealt, key=lambda d: d.score)
    assert best(one).score == max(d.score for d in deal.score(five, answers, subsets(5, 1)))
    assert all(set(best(one).cards) < set(d.cards) for d in two)
    assert all(set(best(two).cards) < set(d.cards) for d in three)
    assert len({d.cards for d in two}) == 4 and len({d.cards for d in three}) == 3
    assert {d.gated for d in two} == {True, False}


def test_without_a_gate_all_cards_answer(five, answers):
    found = deal.search(Deck(five.members), answers, 10**9, 3)
    assert not any(d.gated for d in found)
    apart = both_ways(five, answers, subsets(5, 3))
    assert {d.cards: d.score for d in found} == {d.cards: d.score for d in apart if not d.gated}


def test_nothing_fits(five, answers):
    with pytest.raises(ConfigError, match=r"budget=10: allowed is [\d,]+ bytes, the smallest card"):
        deal.search(five, answers, 10)


def test_the_front_holds_what_nothing_beats(five, answers):
    every = both_ways(five, answers, subsets(5, 5))
    front = deal.front(every)
    better = lambda a, b: (
        a.accuracy >= b.accuracy and a.robustness >= b.robustness and a.true_bytes <= b.true_bytes
    )
    same = lambda a, b: better(a, b) and better(b, a)
    for d in every:
        beaten = any(better(other, d) and not same(other, d) for other in every)
        assert beaten != any(same(d, kept) for kept in front)
    assert [d.true_bytes for d in front] == sorted(d.true_bytes for d in front)
    assert "0: card (plain)" in deal.table(five, front)
    assert len(deal.rows(front)) == len(front)


def with_hash(member, found):
    file = dataclasses.replace(member.file, meta={**member.file.meta, "holdout_hash": found})
    return dataclasses.replace(member, file=file)


def test_holdouts_must_be_one(five):
    with pytest.raises(ConfigError, match="trained without holdout images"):
        trials.check_holdout(five.members)
    a, b = (with_hash(five.members[i], f"hash {i}") for i in (0, 1))
    trials.check_holdout([a, a])
    with pytest.raises(ConfigError, match="holdout hash hash 1; allowed is that of card, hash 0"):
        trials.check_holdout([a, b])


def test_a_soft_gate_in_the_cache(five, answers):
    found = answers.accuracy(np.ones((1, 5)), [0, 1, 0, 1, 1], 0.5)[0]
    weights = np.stack(
        [
            [gate.weigh(jnp.asarray(d), (2, 3), 0.5).weights for d in row]
            for row in answers.distances_CBA
        ]
    )
    each = np.repeat(weights, M, 1)[:, :N][..., [0, 1, 0, 1, 1]]
    mean = np.einsum("crnk,cnr->cnk", answers.probabilities_CRNK, each)
    np.testing.assert_allclose(found, (mean.argmax(-1) == answers.labels_N).mean(1), atol=1e-6)
