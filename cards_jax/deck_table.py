"""How a deck does under corruptions, beside its cards and under the controls that its numbers need.

Predictors: every card alone; the agnostic deck; the adaptive one with batches of several sizes (of one image: it gates
each image), under several gates. Controls: the same cards and the agnostic deck with the BatchNorm statistics of each
batch (transductive: they see the same M images that the gate sees); batches of one class; batches in which every image
has another corruption and severity (`mixed`).
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cards_jax import deck_file, size, tabular
from cards_jax.corruptions import BENCHMARK
from cards_jax.deck import BATCH, Deck, averaged
from cards_jax.gate import Gate
from cards_jax.trials import CLEAN, Trial

SIZES = (1, 10, 32, BATCH)
MIXED = "mixed"
AGNOSTIC, ADAPTIVE, TRANSDUCTIVE = "agnostic", "adaptive", "transductive"
AS_THEY_COME, ONE_CLASS = "as they come", "one class"
SOFT = (
    0.05  # temperature of the soft gate, fixed beforehand: about what two groups differ in distance
)
SOFTLY = "soft"  # how the name of such a gate ends
COLUMNS = ("deck", "corruption", "severity", "predictor", "batch", "order", "accuracy")
COLUMNS += ("cards", "asked", "paper_bytes", "true_bytes")
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


def softened(known: Gate) -> Gate:
    """The same gate with the temperature SOFT."""
    return Gate(
        dataclasses.replace(known.settings, temperature=SOFT), known.groups, known.references_APF
    )


def measure(
    deck: Deck,
    sets: Iterable[Trial],
    labels: np.ndarray,
    sizes: Sequence[int] = SIZES,
    transductive: bool = True,
    gates: Mapping[str, Gate] | None = None,
) -> Iterator[Row]:
    """`measure_one` of all sets."""
    gates = own_gate(deck) if gates is None else gates
    about = sizes_of(deck, gates)
    for trial in sets:
        yield from measure_one(deck, trial, labels, sizes, transductive, gates, about)


def measure_one(
    deck: Deck,
    trial: Trial,
    labels: np.ndarray,
    sizes: Sequence[int] = SIZES,
    transductive: bool = True,
    gates: Mapping[str, Gate] | None = None,
    weigh: Mapping[str, Row] | None = None,
) -> Iterator[Row]:
    """Rows of COLUMNS on one set of images, and for adaptive decks of the share of batches that goes to each group.

    gates: {predictor: gate}; the deck's own by default. The shares are `to LABEL`. weigh: of `sizes_of`.
    """
    gates = own_gate(deck) if gates is None else gates
    weigh = weigh or sizes_of(deck, gates)
    each_RNK = deck.each(trial.images)
    gated = {name: Deck(deck.members, known) for name, known in gates.items()}
    about = {"corruption": trial.name, "severity": trial.severity}

    def rows() -> Iterator[Row]:
        yield from _of_cards(deck, each_RNK, labels, "", about)
        orders = {AS_THEY_COME: np.arange(len(labels))}
        orders[ONE_CLASS] = np.argsort(labels, kind="stable")
        for order, places in orders.items():
            images, wanted = trial.images[places], labels[places]
            how = {**about, "order": order}
            for name, d in gated.items():
                for M in sizes if order == AS_THEY_COME else sizes[-1:]:
                    yield _adaptive(name, d, images, each_RNK[:, places], wanted, M, how)
            if transductive and has_batchnorm(deck):
                found_RNK = deck.each(images, transductive=True, batch=sizes[-1])
                how = {**how, "batch": sizes[-1]}
                yield from _of_cards(deck, found_RNK, wanted, f", {TRANSDUCTIVE}", how)

    for row in rows():
        plain = row["predictor"].removesuffix(f", {TRANSDUCTIVE}")
        of = weigh[plain]
        yield {**row, **of, "asked": row.get("asked", of["cards"])}


def own_gate(deck: Deck) -> dict[str, Gate]:
    """{predictor: gate}: the deck's own, if it has one."""
    return {ADAPTIVE: deck.gate} if deck.gate else {}


def sizes_of(deck: Deck, gates: Mapping[str, Gate]) -> dict[str, Row]:
    """{predictor: cards, paper_bytes, true_bytes}: of a card's file, the deck's file without a gate and with each."""

    def of_deck(d: Deck) -> Row:
        sizes = {"paper_bytes": deck_file.paper_bytes(d), "true_bytes": deck_file.true_bytes(d)}
        return {"cards": len(d), **sizes}

    found = {AGNOSTIC: of_deck(Deck(deck.members))}
    found |= {name: of_deck(Deck(deck.members, known)) for name, known in gates.items()}
    for name, member in zip(card_names(deck), deck.members, strict=True):
        total = size.table(member.content).total
        found[name] = {"cards": 1, "paper_bytes": total.paper, "true_bytes": total.true}
    return found


def _of_cards(deck: Deck, each_RNK: np.ndarray, labels, suffix: str, about: Row) -> Iterator[Row]:
    answers = [*zip(card_names(deck), each_RNK, strict=True), (AGNOSTIC, each_RNK.mean(0))]
    for name, probabilities in answers:
        yield {**about, "predictor": name + suffix, "accuracy": _accuracy(probabilities, labels)}


def _adaptive(name: str, deck: Deck, images, each_RNK, labels, size: int, about: Row) -> Row:
    choice = deck.choose(images, size)
    weights_NR = deck.weights(choice, len(images), size)
    share_BA = np.asarray(choice.weights) * np.asarray(deck.cards_A)
    shares = {f"to {g.label}": float(s) for g, s in zip(deck.groups, share_BA.mean(0), strict=True)}
    accuracy = _accuracy(np.asarray(averaged(each_RNK, weights_NR)), labels)
    asked = float((weights_NR > 0).sum(1).mean())  # cards that are computed for an image
    found = {"predictor": name, "batch": size, "accuracy": accuracy, "asked": asked}
    return {**about, **found, **shares}


def _accuracy(probabilities_NK: np.ndarray, labels_N: np.ndarray) -> float:
    return float(np.mean(probabilities_NK.argmax(-1) == labels_N))


# --- tables


def csv(rows: Sequence[Row]) -> str:
    """All rows."""
    groups = [k for k in dict.fromkeys(k for row in rows for k in row) if k.startswith("to ")]
    return tabular.csv_table(rows, (*COLUMNS, *groups))


def markdown(deck: Deck, rows: Sequence[Row]) -> str:
    """Accuracy by corruption, the gates' choices, the controls; in percent, means over severities."""
    parts = [
        f"Accuracy in percent, by corruption: mean over severities.{_set(rows)}\n\n"
        + _accuracies(deck, rows),
        f"Controls: mean over the same corruptions, then batches of mixed ones. {CONTROLS}\n\n"
        + _controls(rows),
    ]
    labels = "/".join(group.label for group in deck.groups)
    for name in reversed([x for x in _gates(rows) if not x.endswith(SOFTLY)]):
        head = f"Batches that go to {labels}, in percent ({name}).\n\n"
        parts.insert(1, head + _choices(deck, rows, name))
    return "\n".join(parts)


def _set(rows: Sequence[Row]) -> str:
    """What the mean of corruptions leaves out, as a sentence."""
    rest = len({row["corruption"] for row in rows} - {CLEAN, MIXED, *BENCHMARK})
    whole = {row["corruption"] for row in averaged_over(rows)} == set(BENCHMARK)
    return f" Their mean is over the benchmark's {len(BENCHMARK)}." if whole and rest else ""


CONTROLS = (
    "Rows of M = 1 gate every image by itself; transductive ones take BatchNorm's statistics from the batch, and so "
    "are no predictions of single images. Asked: cards that are computed for an image."
)


def main_rows(rows: Sequence[Row]) -> list[Row]:
    """Cards and decks as one uses them: batches in order, of the largest size that a deck was asked in."""
    largest: dict[Any, int] = {}
    for row in rows:
        if row.get("batch"):
            deck = row.get("deck")
            largest[deck] = max(row["batch"], largest.get(deck, 0))
    return [
        row
        for row in rows
        if (row.get("order") or AS_THEY_COME) == AS_THEY_COME
        and row.get("batch") in (None, largest.get(row.get("deck")))
        and TRANSDUCTIVE not in row["predictor"]
    ]


def averaged_over(rows: Sequence[Row]) -> list[Row]:
    """Those that a mean of corruptions is over: the benchmark's fifteen where all are there, else all but mixed ones.

    Extras are never averaged in beside the benchmark.
    """
    names = {row["corruption"] for row in rows} - {CLEAN, MIXED}
    wanted = BENCHMARK if names.issuperset(BENCHMARK) else names
    return [row for row in rows if row["corruption"] in wanted]


def summary(rows: Sequence[Row]) -> list[Row]:
    """One row for every deck and predictor, as one uses them: clean accuracy, mean of corruptions, sizes.

    robustness: mean over the corruptions (`averaged_over`) of means over severities, None where there are none.
    """
    shown, found = main_rows(rows), []
    for deck, predictor in dict.fromkeys((row.get("deck"), row["predictor"]) for row in shown):
        mine = [r for r in shown if (r.get("deck"), r["predictor"]) == (deck, predictor)]
        if mine[0]["cards"] == 1 and not predictor.startswith("card"):
            continue  # a deck of one is its card
        corrupted = _balanced(averaged_over(mine))
        about = {k: mine[0].get(k) for k in ("cards", "paper_bytes", "true_bytes")}
        asked = float(np.mean([r["asked"] for r in mine]))
        accuracy, robustness = _mean(mine, corruption=CLEAN), _mean(corrupted)
        name = {"deck": deck, "predictor": predictor}
        found.append(
            {**name, "accuracy": accuracy, "robustness": robustness, "asked": asked, **about}
        )
    return found


def summary_table(rows: Sequence[Row]) -> str:
    """`summary` as markdown."""
    words, numbers = ("deck", "predictor"), ("clean", "corruptions", "cards", "asked")
    body = [
        [
            str(row["deck"] or ""),
            row["predictor"],
            *map(_percent, (row["accuracy"], row["robustness"])),
            str(row["cards"]),
            f"{row['asked']:.2f}",
            f"{row['paper_bytes']:,.0f}",
            f"{row['true_bytes']:,}",
        ]
        for row in summary(rows)
    ]
    head = [*words, *numbers, "paper bytes", "true bytes"]
    return tabular.aligned(head, body, [True, True, *[False] * 6])


def _gates(rows: Sequence[Row]) -> list[str]:
    """Names of the adaptive predictors."""
    return [p for p in dict.fromkeys(r["predictor"] for r in rows) if p.startswith(ADAPTIVE)]


def _mean(rows: Iterable[Row], **wanted: Any) -> float | None:
    found = [r["accuracy"] for r in rows if all(r.get(k) == v for k, v in wanted.items())]
    return float(np.mean(found)) if found else None


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["corruption"] for row in rows))


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _accuracies(deck: Deck, rows: Sequence[Row]) -> str:
    shown, predictors = main_rows(rows), [*card_names(deck), AGNOSTIC, *_gates(rows)]
    body = [
        [name, *(_percent(_mean(shown, corruption=name, predictor=p)) for p in predictors)]
        for name in _names(rows)
    ]
    corrupted = _balanced(averaged_over(shown))
    means = [_percent(_mean(corrupted, predictor=p)) for p in predictors]
    body.append(["mean of corruptions", *means])
    return tabular.aligned(["", *predictors], body, [True, *[False] * len(predictors)])


def _balanced(rows: Sequence[Row]) -> list[Row]:
    """One row per corruption and predictor, its mean over severities."""
    groups: dict[tuple, list[float]] = {}
    for row in rows:
        groups.setdefault((row["corruption"], row["predictor"]), []).append(row["accuracy"])
    return [
        {"corruption": c, "predictor": p, "accuracy": float(np.mean(x))}
        for (c, p), x in groups.items()
    ]


def _choices(deck: Deck, rows: Sequence[Row], predictor: str) -> str:
    shown = [row for row in main_rows(rows) if row["predictor"] == predictor]
    severities = sorted({row["severity"] for row in shown})
    body = []
    for name in _names(rows):
        of = {row["severity"]: _shares(deck, row) for row in shown if row["corruption"] == name}
        body.append([name, *(of.get(s, "") for s in severities)])
    head = [f"severity {s}" if s else "all" for s in severities]
    return tabular.aligned(["", *head], body, [True, *[False] * len(severities)])


def _shares(deck: Deck, row: Row) -> str:
    return "/".join(f"{100 * row[f'to {g.label}']:.0f}" for g in deck.groups)


def _controls(rows: Sequence[Row]) -> str:
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        if not row["predictor"].startswith("card"):
            order = row.get("order") or AS_THEY_COME
            groups.setdefault((row["predictor"], order, row.get("batch") or 0), []).append(row)
    body = []
    for (predictor, order, batch), mine in sorted(groups.items(), key=lambda x: x[0]):
        values = (
            _mean(mine, corruption=CLEAN),
            _mean(_balanced(averaged_over(mine))),
            _mean(mine, corruption=MIXED),
        )
        about = [order, str(batch)] if batch else ["any", "any"]
        asked = f"{np.mean([r['asked'] for r in mine]):.2f}"
        body.append([predictor, *about, *map(_percent, values), asked])
    head = ["predictor", "batches", "M", "clean", "corruptions", "mixed", "asked"]
    return tabular.aligned(head, body, [True, True, *[False] * 5])
