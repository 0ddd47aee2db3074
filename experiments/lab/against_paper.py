"""Our numbers beside those of the paper and of RobustBench, which facts.csv holds with their source.

A number is compared with a published one only where both are of the same benchmark files, network and sparsity: inside
or outside of our 95% interval over seeds, of five at least, and over base images where we measured on a part of them.
Everything else that we measure stands in a column that names its own data and corruptions.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cards_jax import files, tabular
from cards_jax.evaluate import bootstrap
from lab import verdict
from lab.collect import Findings
from lab.decks import Decks
from lab.images import TEST

FACTS = Path(__file__).parents[1] / "facts.csv"
NUMBERS = ("clean", "corrupted", "megabytes")
Row = dict[str, Any]


def facts(benchmark: str) -> list[Row]:
    """Published numbers of "cifar10" or "cifar100", in percent and MB; None where none was published."""
    with FACTS.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["benchmark"] == benchmark]
    number = lambda text: float(text) if text else None
    kinds = {**dict.fromkeys(NUMBERS, number), "size": int, "sparsity": float}
    return [{k: kinds.get(k, str)(v) for k, v in row.items()} for row in rows]


def inside(low: float, high: float, published: float) -> str:
    """Where a published number lies."""
    return "inside" if low <= published <= high else "outside"


def table(
    findings: Findings, found: Sequence[Decks], benchmark: str, network: str, sparsity: float
) -> list[Row]:
    """A row for every published number, and for every kind of deck that has none; ours beside it."""
    same_files = findings.source is not None and findings.source.benchmark == benchmark
    title = "this benchmark's files" if same_files else f"{findings.title}, own corruptions"
    ours = {(d.label, d.size, d.way or "card"): d for d in found}
    listed = facts(benchmark)
    known = {(f["cards"], f["size"], f["way"]) for f in listed}
    rows = []
    for fact in [
        *listed,
        *[dict(zip(("cards", "size", "way"), k, strict=True)) for k in ours if k not in known],
    ]:
        decks = ours.get((fact["cards"], fact["size"], fact["way"]))
        row: Row = {k: fact[k] for k in ("cards", "size", "way")}
        row |= {"source": fact.get("source"), "published network": fact.get("network")}
        row["published sparsity (%)"] = _percent(fact.get("sparsity"))
        for key in NUMBERS:
            row[f"published {key}"] = fact.get(key)
        sparse = 0.0 if fact["cards"].startswith("dense") else sparsity
        same = same_files and fact.get("network") == network and fact.get("sparsity") == sparse
        row |= {"our network": network if decks else None}
        row["our sparsity (%)"] = _percent(sparse) if decks else None
        row["n"] = len(decks.clean) if decks else 0
        for key in ("clean", "corrupted") if decks else ():
            right = 100 * getattr(decks, key).astype(float)
            weights = verdict.weights_of(right.shape[1])
            e = bootstrap.interval(right, weights, shared=decks.shared)
            name = f"{key}, {title}"
            row |= {name: e.mean, f"{name}, low": e.low, f"{name}, high": e.high}
            row |= {f"{name}, min": e.smallest, f"{name}, max": e.largest}
            if same and fact.get(key) is not None:
                if len(right) < verdict.SEEDS:
                    row[f"{key}, published is"] = f"n below {verdict.SEEDS}: not said"
                    continue
                if right.shape[1] == TEST[benchmark]:  # both of these images: they are no sample
                    e = bootstrap.interval(
                        right, np.full_like(weights, 1 / len(weights[0])), 0, decks.shared
                    )
                row[f"{key}, published is"] = inside(e.low, e.high, fact[key])
        row["MB, paper's formula"] = decks.paper_bytes / 1e6 if decks else None
        rows.append(row)
    return rows


def _percent(sparsity: float | None) -> float | None:
    """None where nothing is said of it."""
    return None if sparsity is None else 100 * sparsity


def markdown(rows: Sequence[Row], findings: Findings) -> str:
    """For people: a line for every row, intervals in brackets."""
    heads = list(dict.fromkeys(k for row in rows for k in row))
    ends = (", low", ", high", ", min", ", max")
    shown = [h for h in heads if not h.endswith(ends[:2])]

    def cell(row: Row, head: str) -> str:
        value = row.get(head)
        if value is None or isinstance(value, str):
            return value or ""
        if isinstance(value, int | np.integer):
            return str(value)
        interval = [row.get(f"{head}{end}") for end in ends[:2]]
        text = f"{value:.4g}" if "MB" in head or "mega" in head else f"{value:.2f}"
        return text if None in interval else f"{text} [{interval[0]:.2f}, {interval[1]:.2f}]"

    body = [[cell(row, head) for head in shown] for row in rows]
    words = [any(isinstance(row.get(h), str) for row in rows) for h in shown]
    rule = " ".join(__doc__.split("\n\n")[1].split())
    name = findings.source.name if findings.source else findings.title
    note = f"Accuracies in percent, in brackets their 95% interval; n decks or cards. Ours: {name}. {rule}"
    if findings.scale.data == "digits":
        note += " Digits are a smoke test of the code, never evidence."
    return f"{note}\n\n{tabular.aligned(shown, body, words)}"


def write(
    findings: Findings,
    found: Sequence[Decks],
    benchmark: str,
    network: str,
    sparsity: float,
    stem: Path,
) -> list[Path]:
    """STEM.csv and STEM.md."""
    if not found:
        return []
    rows = table(findings, found, benchmark, network, sparsity)
    paths = [stem.with_name(f"{stem.name}{end}") for end in (".csv", ".md")]
    files.write_atomically(paths[0], tabular.csv_table(rows))
    files.write_atomically(paths[1], markdown(rows, findings))
    return paths
