"""Evaluation of a deck under corruptions, and the controls."""

import csv
import io

import cards
import decks
import numpy as np
import pytest

from cards_jax import deck, deck_file, deck_table, gate
from cards_jax.corruptions import BENCHMARK, EXTRA
from cards_jax.deck import Deck
from cards_jax.trials import Trial

LABELS = np.arange(40) % 3


def sets():
    clean = decks.smooth(40)
    yield Trial("clean", 0, clean)
    for severity in (1, 2):
        yield Trial("noise", severity, decks.noisy(clean, 0.1 * severity))


@pytest.fixture(scope="module")
def five() -> Deck:
    return decks.small()


@pytest.fixture(scope="module")
def rows(five) -> list[dict]:
    return list(deck_table.measure(five, deck_table.with_mixed(sets()), LABELS, (1, 20)))


def find(rows, **wanted) -> dict:
    found = [r for r in rows if all(r.get(k) == v for k, v in wanted.items())]
    assert len(found) == 1, found
    return found[0]


def accuracy(probabilities, labels=LABELS) -> float:
    return float(np.mean(np.argmax(np.asarray(probabilities), 1) == labels))


def test_rows_are_what_deck_and_cards_predict(five, rows):
    noisy = list(sets())[2].images
    about = {"corruption": "noise", "severity": 2}
    agnostic = find(rows, **about, predictor="agnostic")["accuracy"]
    assert agnostic == accuracy(five.predict(noisy, adaptive=False))
    for size in (1, 20):
        how = {"predictor": "adaptive", "batch": size, "order": "as they come"}
        assert find(rows, **about, **how)["accuracy"] == accuracy(five.predict(noisy, size))
    for i, member in enumerate(five.members):
        name = f"card {i} ({member.augmentation.label})"
        found = find(rows, **about, predictor=name)
        assert found["accuracy"] == accuracy(member.file.predict(noisy))
    order = np.argsort(LABELS, kind="stable")
    found = find(rows, **about, predictor="adaptive", batch=20, order="one class")
    assert found["accuracy"] == accuracy(five.predict(noisy[order], 20), LABELS[order])


def test_choices_are_shares_of_batches(rows):
    how = {"predictor": "adaptive", "batch": 20, "order": "as they come"}
    clean = find(rows, corruption="clean", **how)
    assert (clean["to plain"], clean["to gaussian"]) == pytest.approx((1, 0))
    noise = find(rows, corruption="noise", severity=2, **how)
    assert (noise["to plain"], noise["to gaussian"]) == pytest.approx((0, 1))


def test_networks_without_batchnorm_have_no_transductive_rows(rows):
    assert not [r for r in rows if "transductive" in r["predictor"]]


def test_mixed_images_come_from_all_corrupted_sets():
    count = 3000
    blank = lambda value: np.full((count, 1, 1, 3), value, np.uint8)
    given = [Trial("clean", 0, blank(0)), *(Trial("a", i, blank(i)) for i in (1, 2, 3))]
    *same, mixed = deck_table.with_mixed(given)
    assert same == given and mixed.name == "mixed"
    counts = np.bincount(mixed.images[:, 0, 0, 0], minlength=4)
    assert counts[0] == 0 and np.abs(counts[1:] - count / 3).max() < 100
    assert (given[1].images == 1).all()
    assert [t.name for t in deck_table.with_mixed(given[:1])] == ["clean"]


def test_choices_of_clean_images_have_no_severity(five, rows):
    """They stood under the first one."""
    text = deck_table.markdown(five, rows)
    head = next(line for line in text.splitlines() if "severity" in line and " all" in line)
    columns = [cell.strip() for cell in head.split("|")]
    clean = next(
        line for line in text[text.index(head) :].splitlines() if line.startswith("| clean")
    )
    cells = [cell.strip() for cell in clean.split("|")]
    assert cells[columns.index("all")] and not cells[columns.index("severity 2")]


def test_tables(five, rows):
    text = deck_table.markdown(five, rows)
    assert "| mean of corruptions |" in text and "plain/gaussian, in percent" in text
    assert "| noise " in text and "0/100" in text
    found = list(csv.DictReader(io.StringIO(deck_table.csv(rows))))
    assert len(found) == len(rows)
    assert float(found[-1]["accuracy"]) == pytest.approx(rows[-1]["accuracy"])
    without = Deck(five.members)
    few = list(deck_table.measure(without, list(sets())[:1], LABELS))
    assert {r["predictor"] for r in few} == {*deck_table.card_names(five), "agnostic"}
    assert "mean of corruptions" in deck_table.markdown(without, few)


def answered(names) -> list[dict]:
    """Rows of a deck of two cards without a gate, which is right half the time, and on extras a tenth of it."""
    return [
        {"deck": "two", "corruption": name, "severity": severity, "predictor": predictor}
        | {"accuracy": 0.1 if name in EXTRA else 0.5, "cards": 2, "asked": 2.0}
        | {"paper_bytes": 10.0, "true_bytes": 20}
        for name in names
        for severity in ((0,) if name in ("clean", "mixed") else (1, 2))
        for predictor in ("card 0 (plain)", "card 1 (gaussian)", "agnostic")
    ]


@pytest.mark.parametrize(
    ("names", "mean", "said"),
    [
        (BENCHMARK + EXTRA, 0.5, True),
        (BENCHMARK, 0.5, False),
        (BENCHMARK[:14] + EXTRA[:2], (14 * 0.5 + 2 * 0.1) / 16, False),
    ],
)
def test_extras_are_not_averaged_in_beside_the_benchmark(names, mean, said):
    """Where it is there as a whole; else nothing is left out."""
    two = decks.small(("plain", "gaussian"), gated=False)
    rows = answered(("clean", *names, "mixed"))
    assert [r["robustness"] for r in deck_table.summary(rows)] == pytest.approx([mean] * 3)
    text = deck_table.markdown(two, rows)
    assert ("Their mean is over the benchmark's 15." in text) == said
    cells = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")]
    by_name = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in cells}
    assert by_name["mean of corruptions"] == [f"{100 * mean:.2f}"] * 3
    assert by_name["agnostic"][3] == f"{100 * mean:.2f}"  # of the controls


def test_the_largest_batch_is_that_of_each_deck():
    """Of evaluations with other batches, side by side."""
    of = lambda deck, batch: {"deck": deck, "batch": batch, "predictor": deck_table.ADAPTIVE}
    rows = [of("a", 1), of("a", 100), of("b", 200), of("b", 100)]
    assert deck_table.main_rows(rows) == [of("a", 100), of("b", 200)]


def test_sizes_and_cards_that_are_asked(five, rows):
    of = deck_table.sizes_of(five, {"adaptive": five.gate})
    assert of["adaptive"]["true_bytes"] == len(deck_file.encode(five))
    assert of["agnostic"]["true_bytes"] == len(deck_file.encode(Deck(five.members)))
    assert of["card 0 (plain)"]["true_bytes"] == len(five.members[0].content)
    how = {"batch": 20, "order": "as they come", "predictor": "adaptive"}
    clean, noise = find(rows, corruption="clean", **how), find(rows, severity=2, **how)
    assert (clean["asked"], noise["asked"], clean["cards"]) == (2, 3, 5)
    assert {r["asked"] for r in rows if r["predictor"] == "agnostic"} == {5}
    assert clean["paper_bytes"] == deck_file.paper_bytes(five)


def test_the_adaptive_deck_asks_half_the_cards_of_the_agnostic_one():
    """As many cards for one augmentation as for the other."""
    four = decks.small(("plain", "gaussian", "plain", "gaussian"))
    found = list(deck_table.measure(four, sets(), LABELS, (20,)))
    asked = {r["predictor"]: r["asked"] for r in found}
    assert asked["adaptive"] * 2 == asked["agnostic"] == 4


def test_several_gates(five):
    gates = {"adaptive, own": five.gate, "adaptive, own, soft": deck_table.softened(five.gate)}
    found = list(deck_table.measure(five, list(sets())[:1], LABELS, (1, 20), gates=gates))
    soft = find(found, predictor="adaptive, own, soft", batch=20, order="as they come")
    hard = find(found, predictor="adaptive, own", batch=20, order="as they come")
    assert hard["to plain"] == pytest.approx(1) and soft["asked"] == 5
    assert 0.5 < soft["to plain"] < 1
    # A gate weighs what it does in a file, whether the deck was built with one or not.
    bare = Deck(five.members)
    asked = list(deck_table.measure(bare, list(sets())[:1], LABELS, (20,), gates=gates))
    weights = {r["predictor"]: r["true_bytes"] for r in asked}
    assert weights["adaptive, own"] == len(deck_file.encode(five)) > weights["agnostic"]
    references = gate.reference_bytes(five.gate.settings, 2, five.image_HWC)
    assert references == 2 * five.gate.references_APF.size
    d = Deck(five.members, gates["adaptive, own, soft"])
    assert soft["accuracy"] == accuracy(d.predict(decks.smooth(40), 20))
    text = deck_table.markdown(five, found)
    assert "(adaptive, own)" in text and "(adaptive, own, soft)" not in text
    named = [{**r, "deck": "five"} for r in found]
    assert "| five | adaptive, own, soft" in deck_table.summary_table(named)


@pytest.mark.slow
def test_transductive_rows():
    d = deck.of(
        [decks.file(cards.NORMALISED, s, k) for s, k in ((0.2, "plain"), (0.5, "gaussian"))]
    )
    d = Deck(d.members, gate.build(decks.SETTINGS, d.groups, decks.smooth(60)))
    rows = list(deck_table.measure(d, list(sets())[:1], LABELS, (20,)))
    found = find(rows, predictor="agnostic, transductive", batch=20, order="one class")
    order = np.argsort(LABELS, kind="stable")
    each = d.each(decks.smooth(40)[order], transductive=True, batch=20)
    assert found["accuracy"] == accuracy(each.mean(0), LABELS[order])
    assert "transductive" in deck_table.markdown(d, rows)
