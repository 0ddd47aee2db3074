"""Summaries of scores as text: markdown, LaTeX, CSV, JSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cards_jax import published, tabular
from cards_jax.corruptions import BENCHMARK, SETS, SEVERITIES
from cards_jax.robust_summary import FAMILIES, MEANS, Summary
from cards_jax.summary import POINT

Row = dict[str, Any]
HEADS = {
    "clean": "clean (%)",
    "benchmark": "corrupted (%)",
    "extra": "extra (%)",
    "bar": "bar (%)",
    "without_noise": "without noise (%)",
    "without_jpeg": "without jpeg (%)",
} | {family: f"{family} (%)" for family in FAMILIES}
WIDE = (
    "min",
    "max",
    "NLL",
    "clean interval",
    "clean to dense, interval",
    "learning rate",
)  # no page has room


def texts(s: Summary) -> dict[str, str]:
    """{file name: content} of all tables."""
    main, families, each = main_table(s), family_table(s), corruption_table(s)
    markdown = [f"{caption(s)}\n", _markdown(main)]
    if families:
        markdown += [
            "Means over corruptions of a kind, and over the fifteen without some, in percent.\n"
        ]
        markdown += [_markdown(families)]
    markdown += [f"{corruption_caption(s)}\n", _markdown(each)]
    narrow = [{k: v for k, v in row.items() if not k.endswith(WIDE)} for row in main]
    latex = [_latex(narrow, caption(s)), _latex(each, corruption_caption(s))]
    return {
        "corruptions.md": "\n".join(markdown),
        "corruptions.tex": "\n".join(latex),
        "corruptions.csv": tabular.csv_table(s.rows),
        "corruptions_each.csv": tabular.csv_table(s.corruptions),
        "corruptions_cells.csv": tabular.csv_table(s.cells),
    }


def payload(s: Summary) -> Row:
    """Everything, for programs; fractions."""
    return {
        **s.source.about(),
        "data": s.title,
        "names": s.source.names,
        "rows": s.rows,
        "corruptions": s.corruptions,
        "exemplars": s.exemplars,
        "population": s.population,
        "margin": s.margin,
        "cells": s.cells,
    }


def caption(s: Summary) -> str:
    """What the main table shows, and on what."""
    means = "top-1 accuracy in percent"
    if "benchmark_accuracy_mean" in _all_keys(s):
        means += f"; corrupted is the mean over {len(BENCHMARK)} corruptions x {len(SEVERITIES)} severities"
    text = f"{s.source.name}; {len(s.source.labels):,} images: {means}"
    text += ", in brackets the 95% interval over seeds and images (bootstrap)"
    if any(row.get("paired") is not None for row in s.rows):
        text += "; to dense in percentage points, paired by image"
        text += ", and by seed" if all(row.get("paired", True) for row in s.rows) else ""
    if s.baseless:
        text += f"; without a difference: {', '.join(s.baseless)}, as no dense baseline fits, or several do"
    if any(row["n"] == 1 for row in s.rows):
        text += "; intervals of one seed speak of images alone"
    if s.population:
        text += f"; effective robustness in points above the line through {s.population['n']} dense networks"
    return text + "."


def corruption_caption(s: Summary) -> str:
    """What the table by corruption shows."""
    text = f"{s.source.name}: mean accuracy in percent over severities and seeds"
    keys = _all_keys_of(s.corruptions)
    if any(k.startswith("prune potential") for k in keys):
        text += f"; prune potential: the largest sparsity in percent within {100 * s.margin:g} points of dense"
    if any(k.startswith("RobustBench") for k in keys):
        text += "; the columns RobustBench are published numbers of other networks"
    return text + "."


def main_table(s: Summary) -> list[Row]:
    """One row for each point."""
    point = _point_columns(s)
    keys, rows = _all_keys(s), []
    for row in s.rows:
        cells = {head: form(row) for head, form in point.items()}
        for mean in ("clean", *SETS):
            if f"{mean}_accuracy_mean" in keys:
                cells[HEADS[mean]] = _percent(row, f"{mean}_accuracy_mean")
                cells[f"{_short(mean)} interval"] = _interval(row, f"{mean}_accuracy")
        if "benchmark_accuracy_mean" in keys:
            cells["min"] = _percent(row, "benchmark_accuracy_min")
            cells["max"] = _percent(row, "benchmark_accuracy_max")
        cells["n"] = str(row["n"])
        if any(r["n_diverged"] for r in s.rows):
            cells["diverged"] = str(row["n_diverged"])
        for mean in ("clean", "benchmark"):
            if f"{mean}_difference_mean" in keys:
                cells[f"{_short(mean)} to dense"] = _points(row, f"{mean}_difference_mean")
                cells[f"{_short(mean)} to dense, interval"] = _interval(
                    row, f"{mean}_difference", True
                )
        for mean in ("clean", "benchmark"):
            if f"{mean}_ece" in keys:
                cells[f"{_short(mean)} ECE (%)"] = _percent(row, f"{mean}_ece")
                cells[f"{_short(mean)} NLL"] = _number(row, f"{mean}_nll")
        if "effective_robustness" in keys:
            cells["effective robustness"] = _points(row, "effective_robustness")
        rows.append(cells)
    return rows


def family_table(s: Summary) -> list[Row]:
    """Families of corruptions; none where no family is complete."""
    point, keys = _point_columns(s), _all_keys(s)
    means = [m for m in MEANS if m not in ("clean", *SETS) and f"{m}_accuracy_mean" in keys]
    if not means:
        return []
    return [
        {head: form(row) for head, form in point.items()}
        | {HEADS[m]: _percent(row, f"{m}_accuracy_mean") for m in means}
        | {
            f"{m.replace('_', ' ')} to dense": _points(row, f"{m}_difference_mean")
            for m in means
            if f"{m}_difference_mean" in keys
        }
        for row in s.rows
    ]


def corruption_table(s: Summary) -> list[Row]:
    """One row for each corruption and, of a complete benchmark, one for its mean; extras and bar stand below it."""
    listed = published.of(s.source.benchmark)
    rows, whole = [], "benchmark_accuracy_mean" in _all_keys(s)
    for row in s.corruptions:
        rows.append({k: v if k in ("corruption", "set") else _cell(v) for k, v in row.items()})
        if whole and row["corruption"] == _last_of_benchmark(s):
            mean = {"corruption": "mean of the fifteen", "set": "benchmark"}
            pairs = zip(s.labels, s.rows, strict=True)
            mean |= {label: _percent(r, "benchmark_accuracy_mean") for label, r in pairs}
            mean |= {f"RobustBench {k}": _cell(published.mean(v)) for k, v in listed.items()}
            rows.append(mean)
    heads = list(dict.fromkeys(k for row in rows for k in row))
    return [{k: row.get(k, "") for k in heads} for row in rows]


def _last_of_benchmark(s: Summary) -> str:
    return [n for n in s.source.names if n in BENCHMARK][-1]


def _point_columns(s: Summary) -> dict[str, Any]:
    """{heading: how a row is written} of the parts of the point that say something."""
    forms = {
        "sparsity": ("sparsity (%)", lambda x: f"{100 * x:.6g}"),
        "learning_rate": ("learning rate", lambda x: f"{x:.6g}"),
        "weight_decay": ("weight decay", lambda x: f"{x:.6g}"),
    }
    out = {}
    for key in (*POINT, "card"):
        values = {row.get(key) for row in s.rows}
        if key in ("method", "sparsity") and values != {None} or len(values) > 1:
            head, form = forms.get(key, (key, str))
            out[head] = lambda row, k=key, f=form: "" if row.get(k) is None else f(row[k])
    return out


def _short(mean: str) -> str:
    return {"benchmark": "corrupted"}.get(mean, mean)


def _all_keys(s: Summary) -> set[str]:
    return _all_keys_of(s.rows)


def _all_keys_of(rows: Sequence[Row]) -> set[str]:
    return {key for row in rows for key in row}


def _cell(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _percent(row: Row, key: str) -> str:
    return _cell(row.get(key))


def _points(row: Row, key: str) -> str:
    if row.get(key) is None:
        return ""
    return f"{100 * row[key]:+.2f}".replace("-0.00", "+0.00")


def _number(row: Row, key: str) -> str:
    value = row.get(key)
    return "" if value is None or not np.isfinite(value) else f"{value:.3f}"


def _interval(row: Row, stem: str, signed: bool = False) -> str:
    if row.get(f"{stem}_low") is None:
        return ""
    write = _points if signed else _percent
    return f"[{write(row, f'{stem}_low')}, {write(row, f'{stem}_high')}]"


def _markdown(rows: Sequence[Row]) -> str:
    return tabular.markdown_table(rows, list(rows[0])) if rows else ""


def _latex(rows: Sequence[Row], caption: str) -> str:
    return tabular.latex_table(rows, list(rows[0]), caption) if rows else ""
