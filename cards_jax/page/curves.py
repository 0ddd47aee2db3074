"""How accuracy and loss went: charts of the metrics, and accuracy against sparsity."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cards_jax import learning_curves, summary, tabular
from cards_jax.page import tables
from cards_jax.page.chart import Chart, Line, figure, legend
from cards_jax.page.html import Html, Section, details, join, section, tag
from cards_jax.page.switch import switched, under

Row = dict[str, Any]
MOST, ALL = 240, 2400  # x of one line, and of all lines of a chart, that are drawn and told
GREY = (6, 7, 1)  # of a dense line: colour of so many, dash
LISTED = 20  # epochs of the table


def lines_of(
    curves: Sequence[learning_curves.Curve], split: str, key: str, factor: float
) -> tuple[Line, ...]:
    """One line for each curve that has such values."""
    out, most = [], max(LISTED, min(MOST, ALL // len(curves)))
    for curve in curves:
        found = learning_curves.spread(curve.rows, split, key)
        xs = _thinned(list(found), most)
        if not xs:
            continue
        values = [[factor * v for v in found[x]] for x in xs]
        columns = (tuple(f(v) for v in values) for f in (np.mean, min, max))
        look = (curve.colour, 1 + max(c.colour for c in curves), curve.dash)
        out.append(Line(curve.label, tuple(xs), *columns, *look))
    return tuple(out)


def _thinned(xs: list[float], most: int) -> list[float]:
    """At most so many, evenly, the last one among them."""
    if len(xs) <= most:
        return xs
    return [xs[i] for i in np.unique(np.linspace(0, len(xs) - 1, most).round().astype(int))]


def charts(curves: Sequence[learning_curves.Curve], prefix: str) -> list[Chart]:
    """Accuracy for each split, then loss."""
    rows = [row for curve in curves for row in curve.rows]
    splits = learning_curves.splits_of(rows)
    steps = {row["epoch"]: row.get("step") for row in rows}
    at = lambda x: f"epoch {x:g}" + (f" (step {steps[x]:,})" if steps.get(x) is not None else "")
    accuracy = {split: lines_of(curves, split, "accuracy", 100) for split in splits}
    y = _accuracy_range([line for lines in accuracy.values() for line in lines])
    out = []
    for key, name, text in (("accuracy", "accuracy (%)", "{:.2f}"), ("loss", "loss", "{:.4g}")):
        for split in splits:
            lines = accuracy[split] if key == "accuracy" else lines_of(curves, split, key, 1)
            if not lines:
                continue
            positive = min(v for line in lines for v in line.low) > 0
            style = dict(y=y) if key == "accuracy" else dict(logarithmic=positive)
            title = f"{learning_curves.SPLITS.get(split, split)} {name}"
            named = f"{prefix}-{key}-{len(out)}"
            out.append(Chart(named, title, "epoch", lines, text.format, at, **style))
    return out


def _accuracy_range(lines: Sequence[Line]) -> tuple[float, float] | None:
    """Without most of the first climb, which would flatten all that comes after it."""
    if not lines:
        return None
    low = learning_curves.lowest([line.mean for line in lines])
    high = max(v for line in lines for v in line.high)
    return (low, high) if high > low else (high - 1, high + 1)


def history(parts: Sequence[tuple[str, Sequence[Row]]]) -> Section | None:
    """The section on training of (name, metrics) of runs; None where nothing was logged."""
    shown = {name: _of_run(metrics, i) for i, (name, metrics) in enumerate(parts)}
    shown = {name: content for name, content in shown.items() if content}
    if not shown:
        return None
    many = len(shown) > 1
    content = switched("training-view", "Run", under(shown)) if many else list(shown.values())
    return section("training", "Training", content)


def _of_run(metrics: Sequence[Row], number: int) -> Html | None:
    curves, prefix = learning_curves.curves(metrics), f"r{number}"
    drawn = charts(curves, prefix) if curves else []
    if not drawn:
        return None
    lines = max((chart.lines for chart in drawn), key=len)
    many = max(curve.n for curve in curves)
    hidden = any(
        v < chart.y[0] for chart in drawn if chart.y for line in chart.lines for v in line.mean
    )
    notes = ["Lines are means over seeds, bands reach from the smallest to the largest."] * (
        many > 1
    )
    notes += ["The beginning of the climb lies below the axis of accuracy."] * hidden
    table = tables.render(_numbers(drawn), "Accuracy by epoch", f"{prefix}-epochs")
    return join(
        tables.prose(" ".join(notes)),
        legend(lines) if len(lines) > 1 else None,
        tag("div", [figure(chart) for chart in drawn], class_="charts"),
        details("Accuracy as a table", table),
    )


def _numbers(drawn: Sequence[Chart]) -> tables.Table:
    shown = [
        (chart, line) for chart in drawn if "-accuracy-" in chart.identity for line in chart.lines
    ]
    xs = sorted({x for _, line in shown for x in line.x})
    split = lambda chart: chart.title.removesuffix(" accuracy (%)")
    head = ["epoch", *(f"{split(chart)}, {line.label}" for chart, line in shown)]
    body = [
        [f"{x:g}", *(chart.value(line, x) for chart, line in shown)] for x in _thinned(xs, LISTED)
    ]
    return tables.of_rows("In percent: mean over seeds (smallest to largest).", head, body, 0)


def against_sparsity(rows: Sequence[Row], dense: Sequence[Row]) -> Html | None:
    """Accuracy against sparsity; None where there are not two sparsities."""
    alive = [{**row, "sparsity": row["sparsity"] or 0.0} for row in rows if row["n"]]
    if len({row["sparsity"] for row in alive}) < 2:
        return None
    keys = [key for key in summary.POINT if key != "sparsity"]
    groups = summary.grouped(alive, keys)
    place = lambda s: -math.log10(1 - s)
    lines = []
    for i, group in enumerate(groups.values()):
        group = sorted(group, key=lambda row: row["sparsity"])
        label = tabular.named(alive, group[0], keys) or group[0]["method"]
        lines.append(
            _of_summary(label, [place(r["sparsity"]) for r in group], group, i, len(groups))
        )
    ends = [place(f([row["sparsity"] for row in alive])) for f in (min, max)]
    there = [row for row in dense if row["n"]]
    for row in there if len(there) == 1 else ():  # of several, which would be meant?
        lines.append(_of_summary("dense", ends, [row, row], *GREY))
    names = {place(row["sparsity"]): f"{100 * row['sparsity']:.6g}" for row in alive}
    at = lambda x: f"sparsity {names[x]}%"
    marks = tuple(sorted(names.items()))
    style = dict(text="{:.2f}".format, at=at, ticks=marks, marks=True)
    chart = Chart("sparsity", "Test accuracy (%)", "sparsity (%)", tuple(lines), **style)
    return tag(
        "div",
        legend(lines) if len(lines) > 1 else None,
        tag("div", figure(chart), class_="charts"),
    )


def _of_summary(label: str, xs, rows: Sequence[Row], *look: int) -> Line:
    columns = (
        tuple(100 * row[f"accuracy_{key}"] for row in rows) for key in ("mean", "min", "max")
    )
    return Line(label, tuple(xs), *columns, *look)
