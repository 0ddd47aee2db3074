"""Accuracy under corruptions: corruption by card, and for each kind of card corruption by severity."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from cards_jax.page import tables
from cards_jax.page.html import Html, Section, details, join, section
from cards_jax.page.switch import switched, under
from cards_jax.page.tables import Table
from cards_jax.summary import POINT

Row = dict[str, Any]
OTHER = ("corruption", "set")
ASIDE = ("prune potential", "RobustBench")  # what columns begin with that are no card's


def cards_of(table: Table) -> list[str]:
    """The columns of a table by corruption that hold accuracies of cards."""
    return [h for h in table.head if h and h not in OTHER and not h.startswith(ASIDE)]


def shaded(table: Table, title: str, identity: str) -> Html:
    """A table of accuracies, cells the darker the more errors; a scale over all its cards."""
    columns = [table.head.index(name) for name in cards_of(table)]
    values = {(r, c): tables.number(row[c]) for r, row in enumerate(table.body) for c in columns}
    scale = tables.scale(list(values.values()))
    return tables.render(table, title, identity, lambda r, c: scale(values.get((r, c))))


def against(table: Table, dense: str, identity: str) -> Html:
    """The same table as differences to the dense column: percentage points, blue above it and orange below."""
    base, columns = table.head.index(dense), [c for c in cards_of(table) if c != dense]
    places = [table.head.index(c) for c in columns]
    minus = lambda row, c: _difference(tables.number(row[c]), tables.number(row[base]))
    points = [[minus(row, c) for c in places] for row in table.body]
    body = [
        [row[0], *("" if v is None else f"{v:+.2f}" for v in values)]
        for row, values in zip(table.body, points, strict=True)
    ]
    most = max((abs(v) for values in points for v in values if v is not None), default=0) or 1.0
    shade = lambda r, c: None if points[r][c - 1] is None else points[r][c - 1] / most
    changes = tables.of_rows(
        "Percentage points above the dense mean; blue is better than dense, orange worse.",
        [table.head[0], *columns],
        body,
    )
    return tables.render(changes, f"Accuracy minus that of {dense}", identity, shade)


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def by_severity(
    points: Sequence[Row], cells: Sequence[Row], labels: Sequence[str]
) -> dict[str, Table]:
    """{label: corruption by severity} of every kind of card, in percent, means over its cards."""
    if len(points) != len(labels):
        return {}
    out = {}
    for label, point in zip(labels, points, strict=True):
        found: dict[str, dict[int, list[float]]] = {}
        for row in cells:
            if _belongs(row, label, point):
                each = found.setdefault(row["corruption"], {})
                each.setdefault(int(row["severity"]), []).append(float(row["accuracy"]))
        severities = sorted({s for each in found.values() for s in each} - {0})
        body = [
            [name, *(_mean(each.get(s if name != "clean" else 0)) for s in severities)]
            for name, each in found.items()
        ]
        if body:
            head = ["corruption", *(f"severity {s}" for s in severities)]
            text = f"Accuracy in percent, mean over {point.get('n', 'all')} cards. Clean images have no severity."
            out[label] = tables.of_rows(text, head, body)
    return out


def _belongs(cell: Row, label: str, point: Row) -> bool:
    """Whether a card is of a kind; tables of earlier versions do not say so."""
    if "label" in cell:
        return cell["label"] == label
    key = lambda row: tuple(row.get(k) for k in POINT)
    return key(cell) == key(point) and (point.get("card") or cell["card"]) == cell["card"]


def _mean(values: Sequence[float] | None) -> str:
    return "" if not values else f"{100 * np.mean(values):.2f}"


@dataclasses.dataclass(frozen=True)
class Part:
    """The tables on corruptions of one run."""

    name: str
    tables: Sequence[Table]
    points: Sequence[Row]
    cells: Sequence[Row]


def robustness(parts: Sequence[Part]) -> Section | None:
    """The section on corruptions; None where none were measured."""
    there = {part.name: part for part in parts if part.tables}
    shown = {name: _of_run(part, i) for i, (name, part) in enumerate(there.items())}
    if len(shown) < 2:
        return section("corruptions", "Corruptions", *shown.values()) if shown else None
    joint = joined(list(there.values()))
    return section(
        "corruptions",
        "Corruptions",
        shaded(joint, "Accuracy by corruption, all runs", "c-all") if joint else None,
        switched("corruptions-view", "Run", under(shown)),
    )


def joined(parts: Sequence[Part]) -> Table | None:
    """All cards of all runs in one table by corruption; what a run did not measure stays empty.

    A dense baseline that several runs were compared with is there once.
    """
    columns: dict[tuple[str, tuple[str, ...]], str] = {}
    each = {part.name: _by_corruption(part) for part in parts}
    names = list(dict.fromkeys(row[0] for table in each.values() if table for row in table.body))
    for part, table in each.items():
        for label in cards_of(table) if table else ():
            known = dict(zip(table.column(table.head[0]), table.column(label), strict=True))
            values = tuple(known.get(name, "") for name in names)
            columns.setdefault((label, values), f"{part}: {label}")
    if not columns:
        return None
    body = [[name, *(values[i] for _, values in columns)] for i, name in enumerate(names)]
    text = "Mean accuracy in percent over severities and seeds."
    return tables.of_rows(text, ["corruption", *columns.values()], body)


def _by_corruption(part: Part) -> Table | None:
    return next((t for t in part.tables if t.head[0] == "corruption"), None)


def _of_run(part: Part, number: int) -> Html:
    each = _by_corruption(part)
    others = [t for t in part.tables if t is not each]
    identity = f"c{number}"
    out = []
    if others:
        out.append(tables.render(others[0], "On corrupted images", f"{identity}-main"))
    if each:
        labels = cards_of(each)
        views = {"accuracy": shaded(each, "Accuracy by corruption", f"{identity}-each")}
        dense = [label for label in labels if label.split()[0] == "dense"]
        if len(dense) == 1 < len(labels):  # of several it is not clear which
            views[f"difference to {dense[0]}"] = against(each, dense[0], f"{identity}-change")
        out.append(switched(f"{identity}-view", "Show", views))
        severities = by_severity(part.points, part.cells, labels)
        if severities:
            title = "Accuracy by severity: {}".format
            tall = {
                label: shaded(table, title(label), f"{identity}-s{i}")
                for i, (label, table) in enumerate(severities.items())
            }
            out.append(details("By severity", switched(f"{identity}-severity", "Card", tall)))
    if others[1:]:
        kinds = [
            tables.render(table, "Kinds of corruptions", f"{identity}-kind{i}")
            for i, table in enumerate(others[1:])
        ]
        out.append(details("Means by kind of corruption", kinds))
    return join(out)
