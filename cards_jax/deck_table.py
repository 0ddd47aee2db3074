"""How a deck does under corruptions, beside its cards and under the controls that its numbers need.

Predictors: every card alone; the agnostic deck; the adaptive one with batches of several sizes. Controls: the same
cards and the agnostic deck with the BatchNorm statistics of each batch (transductive: they see the same M images that
the gate sees); batches of one class; batches in which every image has another corruption and severity (`mixed`).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from cards_jax import report
from cards_jax.deck import BATCH, Deck, averaged
from cards_jax.trials import CLEAN, Trial

SIZES = (1, 10, 32, BATCH)
MIXED = "mixed"
AGNOSTIC, ADAPTIVE, TRANSDUCTIVE = "agnostic", "adaptive", "transductive"
AS_THEY_COME, ONE_CLASS = "as they come", "one class"
COLUMNS = ("corruption", "severity", "predictor", "batch", "order", "accuracy")
Row = dict[str, Any]


def card_names(deck: Deck) -> list[str]:
    """A name for every card that no other has."""
    return [f"card {i} ({m.augmentation.label})" for i, m in enumerate(deck.members)]


def with_mixed(sets: Iterable[Trial], seed: int = 0) -> Iterator[Trial]:
    """The sets, then one in which every image comes from a random one of them, the clean one aside."""
    rng, mixed, seen = np.random.default_rng(seed), None, 0
    for trial in sets:
        yield trial
        if trial.name == CLEAN:
            continue
        seen += 1
        mixed = trial.images.copy() if mixed is None else mixed
        # Each image takes the n-th set with probability 1/n: in the end all are equally likely.
        taken = rng.random(len(mixed)) < 1 / seen
        mixed[taken] = trial.images[taken]
    if mixed is not None:
        yield Trial(MIXED, 0, mixed)


def has_batchnorm(deck: Deck) -> bool:
    """Whether any card has averages that a batch's own could replace."""
    return any(jax.tree.leaves(part.hand.stats) for part in deck.parts)


def measure(
    deck: Deck,
    sets: Iterable[Trial],
    labels: np.ndarray,
    sizes: Sequence[int] = SIZES,
    transductive: bool = True,
) -> Iterator[Row]:
    """Rows of COLUMNS, and for the adaptive deck of the share of batches that goes to every group (`to LABEL`)."""
    orders = {AS_THEY_COME: np.arange(len(labels)), ONE_CLASS: np.argsort(labels, kind="stable")}
    transductive = transductive and has_batchnorm(deck)
    for trial in sets:
        about = {"corruption": trial.name, "severity": trial.severity}
        each_RNK = deck.each(trial.images)
        yield from _of_cards(deck, each_RNK, labels, "", about)
        for order, rows in orders.items():
            images, wanted = trial.images[rows], labels[rows]
            how = {**about, "order": order}
            if deck.gate:
                for size in sizes if order == AS_THEY_COME else sizes[-1:]:
                    yield _adaptive(deck, images, each_RNK[:, rows], wanted, size, how)
            if transductive:
                found_RNK = deck.each(images, transductive=True, batch=sizes[-1])
                how = {**how, "batch": sizes[-1]}
                yield from _of_cards(deck, found_RNK, wanted, f", {TRANSDUCTIVE}", how)


def _of_cards(deck: Deck, each_RNK: np.ndarray, labels, suffix: str, about: Row) -> Iterator[Row]:
    answers = [*zip(card_names(deck), each_RNK, strict=True), (AGNOSTIC, each_RNK.mean(0))]
    for name, probabilities in answers:
        yield {**about, "predictor": name + suffix, "accuracy": _accuracy(probabilities, labels)}


def _adaptive(deck: Deck, images, each_RNK, labels, size: int, about: Row) -> Row:
    choice = deck.choose(images, size)
    weights_NR = deck.weights(choice, len(images), size)
    share_BA = np.asarray(choice.weights) * np.asarray(deck.cards_A)
    shares = {f"to {g.label}": float(s) for g, s in zip(deck.groups, share_BA.mean(0), strict=True)}
    accuracy = _accuracy(np.asarray(averaged(each_RNK, weights_NR)), labels)
    return {**about, "predictor": ADAPTIVE, "batch": size, "accuracy": accuracy, **shares}


def _accuracy(probabilities_NK: np.ndarray, labels_N: np.ndarray) -> float:
    return float(np.mean(probabilities_NK.argmax(-1) == labels_N))


# --- tables


def csv(rows: Sequence[Row]) -> str:
    """All rows."""
    groups = [k for k in dict.fromkeys(k for row in rows for k in row) if k.startswith("to ")]
    return report.csv_table(rows, (*COLUMNS, *groups))


def markdown(deck: Deck, rows: Sequence[Row]) -> str:
    """Accuracy by corruption, the gate's choices, the controls; in percent, means over severities."""
    parts = [
        "Accuracy in percent, by corruption: mean over severities.\n\n" + _accuracies(deck, rows),
        "Controls: mean over the corruptions above, then batches of mixed corruptions.\n\n"
        + _controls(deck, rows),
    ]
    if deck.gate:
        labels = "/".join(group.label for group in deck.groups)
        parts.insert(1, f"Batches that go to {labels}, in percent.\n\n" + _choices(deck, rows))
    return "\n".join(parts)


def _main(rows: Sequence[Row]) -> list[Row]:
    """Cards and decks as one uses them: batches in order, of the largest size."""
    largest = max((row["batch"] for row in rows if row.get("batch")), default=None)
    return [
        row
        for row in rows
        if row.get("order", AS_THEY_COME) == AS_THEY_COME
        and row.get("batch") in (None, largest)
        and TRANSDUCTIVE not in row["predictor"]
    ]


def _mean(rows: Iterable[Row], **wanted: Any) -> float | None:
    found = [r["accuracy"] for r in rows if all(r.get(k) == v for k, v in wanted.items())]
    return float(np.mean(found)) if found else None


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["corruption"] for row in rows))


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _accuracies(deck: Deck, rows: Sequence[Row]) -> str:
    shown, predictors = _main(rows), [*card_names(deck), AGNOSTIC]
    predictors += [ADAPTIVE] * bool(deck.gate)
    body = [
        [name, *(_percent(_mean(shown, corruption=name, predictor=p)) for p in predictors)]
        for name in _names(rows)
    ]
    corrupted = [r for r in shown if r["corruption"] not in (CLEAN, MIXED)]
    means = [_percent(_mean(_balanced(corrupted), predictor=p)) for p in predictors]
    body.append(["mean of corruptions", *means])
    return report.aligned(["", *predictors], body, [True, *[False] * len(predictors)])


def _balanced(rows: Sequence[Row]) -> list[Row]:
    """One row per corruption and predictor, its mean over severities."""
    groups: dict[tuple, list[float]] = {}
    for row in rows:
        groups.setdefault((row["corruption"], row["predictor"]), []).append(row["accuracy"])
    return [
        {"corruption": c, "predictor": p, "accuracy": float(np.mean(x))}
        for (c, p), x in groups.items()
    ]


def _choices(deck: Deck, rows: Sequence[Row]) -> str:
    shown = [row for row in _main(rows) if row["predictor"] == ADAPTIVE]
    severities = sorted({row["severity"] for row in shown} - {0})
    width = max(1, len(severities))
    body = []
    for name in _names(rows):
        cells = [_shares(deck, row) for row in shown if row["corruption"] == name]
        body.append([name, *cells, *[""] * (width - len(cells))])
    head = [f"severity {s}" for s in severities] or ["all"]
    return report.aligned(["", *head], body, [True, *[False] * width])


def _shares(deck: Deck, row: Row) -> str:
    return "/".join(f"{100 * row[f'to {g.label}']:.0f}" for g in deck.groups)


def _controls(deck: Deck, rows: Sequence[Row]) -> str:
    keys = list(
        dict.fromkeys((r["predictor"], r.get("batch"), r.get("order", AS_THEY_COME)) for r in rows)
    )
    keys = [k for k in keys if not k[0].startswith("card")]
    keys.sort(key=lambda k: (k[0], k[2], k[1] or 0))
    body = []
    for predictor, batch, order in keys:
        mine = [
            r
            for r in rows
            if (r["predictor"], r.get("batch"), r.get("order", AS_THEY_COME))
            == (predictor, batch, order)
        ]
        corrupted = [r for r in mine if r["corruption"] not in (CLEAN, MIXED)]
        values = (
            _mean(mine, corruption=CLEAN),
            _mean(_balanced(corrupted)),
            _mean(mine, corruption=MIXED),
        )
        size = str(batch) if batch else "any"
        body.append([predictor, order if batch else "any", size, *map(_percent, values)])
    head = ["predictor", "batches", "M", "clean", "corruptions", "mixed"]
    return report.aligned(head, body, [True, True, *[False] * 4])
