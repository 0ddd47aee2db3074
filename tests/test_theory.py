"""The oracle by hand, correlations of known ranks, and a whole small deck."""

import decks
import numpy as np
import pytest

from cards_jax import gate, theory
from cards_jax.deck import Deck
from cards_jax.ledger import Ledger
from cards_jax.trials import Trial

LABELS = np.arange(40) % 3


@pytest.fixture(scope="module")
def two() -> Deck:
    """One card for each of two groups."""
    found = decks.small(("plain", "gaussian"), gated=False)
    return Deck(found.members, gate.build(decks.SETTINGS, found.groups, decks.smooth(60)))


def test_the_oracle_by_hand(two):
    """Three batches: one that the first group answers better, one the second, one alike."""
    labels = np.zeros(10, int)
    right = np.array([[1, 1, 1, 1, 0, 0, 0, 0, 1, 0], [0, 1, 0, 1, 1, 1, 1, 0, 0, 1]])
    each = np.where(right[..., None], [0.9, 0.1, 0], [0.1, 0.9, 0])
    weights = np.repeat([[1.0, 0], [1, 0], [0, 1]], [4, 4, 2], axis=0)
    found = theory.oracle(two, each.astype(np.float32), weights, labels, 4)
    assert found["batches"] == 3
    assert found["oracle"] == pytest.approx((4 + 3 + 1) / 10)
    assert found["adaptive"] == pytest.approx((4 + 0 + 1) / 10)
    assert found["agreement"] == pytest.approx(2 / 3)
    assert found["chance"] == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)


def rows(count=6):
    rng, found = np.random.default_rng(0), []
    for i in range(count):
        for g, group in enumerate("ab"):
            x = i + 10 * g + rng.uniform(0, 0.1)
            row = {"corruption": f"c{i}", "severity": 1, "group": group, "missed": 0}
            row |= {"shift": x, "coupled": x**3, "excess": -x, "weight": 1 - g}
            found.append(row | {"gate distance": None if i == 0 else x})
        found.append({"corruption": f"c{i}", "severity": 1, "group": theory.ALL})
    return found


def test_rank_correlations():
    found = {(r["one"], r["other"]): r for r in theory.correlations(rows(), draws=50)}
    up, down = found["shift", "coupled"], found["shift", "excess"]
    assert [up[k] for k in ("rho", "low", "high")] == pytest.approx([1, 1, 1])
    assert down["rho"] == pytest.approx(-1) and up["rows"] == 12
    assert found["weight", "coupled"]["within"] < -0.8
    assert found["gate distance", "shift"]["rho"] == pytest.approx(1)  # of the rows that have one
    constant = [{**r, "shift": 1.0} for r in rows() if r["group"] != theory.ALL]
    assert theory.correlations(constant, draws=5)[0]["rho"] is None


@pytest.mark.slow
def test_a_whole_deck(two, tmp_path):
    clean = decks.smooth(40)
    sets = [Trial("clean", 0, clean), Trial("noise", 3, decks.noisy(clean, 0.2))]
    pieces = Ledger(tmp_path / "a.jsonl", {}, 4).rows
    found = theory.measure(two, sets, LABELS, pieces, batch=20, attacked=8, steps=4)
    assert len(found) == 2 * 3
    by = {(r["corruption"], r["group"]): r for r in found}
    assert by["clean", "plain"]["shift"] == 0 == by["clean", "plain"]["coupled"]
    assert by["clean", "plain"]["weight"] == 1 and by["noise", "gaussian"]["weight"] == 1
    assert by["noise", "plain"]["coupled"] > 1 and np.isfinite(by["noise", "plain"]["excess"])
    assert 0 <= by["noise", "all"]["adaptive"] <= by["noise", "all"]["oracle"] <= 1
    text = theory.markdown(two, found, 8)
    assert "| weight, shift" in text and "agreement" in text
    assert len(theory.draw(tmp_path / "p", found)) == 2
    again = theory.measure(two, sets, LABELS, Ledger(tmp_path / "a.jsonl", {}, 4).rows, 20, 8, 4)
    assert again == found
