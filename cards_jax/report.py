"""What a run found, written down: results.json, tables and pictures."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cards_jax import figures, files, learning_curves
from cards_jax.learning_curves import SPLITS, SWEEP, Curve, curves, splits_of, spread
from cards_jax.plain import plain
from cards_jax.summary import POINT, SUMMARY, Row, grouped, varies
from cards_jax.tabular import (
    caption,
    csv_table,
    latex_table,
    markdown_table,
    named,
    short_percent,
    table_columns,
)

DIRECT_LABELS = 4  # as many curves at most are labelled at their ends
LABEL_GAP = 0.09  # of the height of a panel: the least that keeps two labels apart


def write_results(folder: str | Path, payload: Row) -> Path:
    """Writes results.json: strict JSON (NaN and infinities as null), whole or not at all."""
    return write_json(Path(folder) / "results.json", payload)


def write_json(path: Path, payload: Row) -> Path:
    """Writes strict JSON (NaN and infinities as null), whole or not at all."""
    text = json.dumps(_strict(payload), indent=1, allow_nan=False) + "\n"
    return files.deliver(path, text)


def _strict(value: Any) -> Any:
    """The same nest of dicts and lists with scalars that strict JSON can hold."""
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple) or getattr(value, "ndim", 0):
        return [_strict(item) for item in value]
    return plain(value)


def write_tables(folder: str | Path, rows: Sequence[Row], results: Sequence[Row]) -> list[Path]:
    """Writes tables/results.{csv,md,tex} (summary rows) and tables/realizations.csv (results).

    Returns the paths.
    """
    columns = table_columns(rows)
    texts = {
        "results.csv": csv_table(rows, SUMMARY),
        "results.md": f"{caption(rows)}\n\n{markdown_table(rows, columns)}",
        "results.tex": latex_table(rows, columns, caption(rows)),
        "realizations.csv": csv_table(results),
    }
    tables = Path(folder) / "tables"
    return [files.deliver(tables / name, text) for name, text in texts.items()]


def plot_curves(folder: str | Path, metrics_rows: Sequence[Row]) -> list[Path]:
    """Draws plots/curves.{png,svg}: accuracy and loss against epoch, for training and test.

    One line per sparsity, learning rate and weight decay: the mean over the seeds, in a band from
    the smallest to the largest. Realizations that diverged are left out. Returns the paths, none
    where there is nothing to draw.
    """
    lines = curves(metrics_rows)
    if not lines:
        return []
    splits = splits_of(row for line in lines for row in line.rows)
    styles = [
        {"color": colour, "linestyle": figures.DASHES[line.dash]}
        for line, colour in zip(lines, _line_colours(lines), strict=True)
    ]
    drawn = [(line.label, line.rows, style) for line, style in zip(lines, styles, strict=True)]
    with figures.figure(3.2 * len(splits) + 1, 4.8) as figure:
        axes = figure.subplots(2, len(splits), sharex=True, sharey="row", squeeze=False)
        for column, split in enumerate(splits):
            _draw_curves(axes[0, column], drawn, split, "accuracy", 100)
            _draw_curves(axes[1, column], drawn, split, "loss", 1)
            axes[0, column].set_title(SPLITS.get(split, split))
            axes[1, column].set_xlabel("Epoch")
        axes[0, 0].set_ylabel("Accuracy (%)")
        axes[1, 0].set_ylabel("Loss")
        _scale_accuracy(axes[0])
        _scale_loss(axes[1])
        _label_curves(figure, axes[:, -1])
        figures.note(figure, [line.n for line in lines])
        return figures.save(figure, Path(folder) / "plots" / "curves")


def plot_sparsity(
    stem: str | Path, summary_rows: Sequence[Row], baseline_rows: Sequence[Row] = ()
) -> list[Path]:
    """Draws STEM.{png,svg}: mean test accuracy against sparsity, bars from min to max.

    The dense mean is a line in a band from min to max. The sparsity axis is logarithmic in the
    fraction kept. Returns the paths, none where there is but one sparsity and no baseline.
    """
    rows = [row | {"sparsity": row["sparsity"] or 0.0} for row in summary_rows if row["n"]]
    dense_rows = [row for row in baseline_rows if row["n"]]
    if not rows or not (dense_rows or varies(rows, "sparsity")):
        return []
    with figures.figure(4.8, 3.2) as figure:
        axes = figure.subplots()
        _draw_series(axes, rows)
        for row in dense_rows:
            _draw_dense(axes, row, named(dense_rows, row, SWEEP) or "dense")
        axes.set_xlabel("Sparsity (%)")
        axes.set_ylabel("Test accuracy (%)")
        if len(axes.get_legend_handles_labels()[1]) > 1:
            figures.legend_above(figure, *axes.get_legend_handles_labels(), most=3)
        figures.note(figure, [row["n"] for row in rows])
        return figures.save(figure, Path(stem))


def _line_colours(lines: Sequence[Curve]) -> list[Any]:
    colours = figures.colours(1 + max(line.colour for line in lines))
    return [colours[line.colour] for line in lines]


def _draw_curves(
    axes: Any, curves: Sequence[tuple[str, list[Row], dict]], split: str, key: str, scale: float
) -> None:
    for label, rows, style in curves:
        found = spread(rows, split, key)
        if not found:
            continue
        epochs, values = list(found), [[scale * v for v in each] for each in found.values()]
        low, high = [min(v) for v in values], [max(v) for v in values]
        marker = "o" if len(epochs) == 1 else None
        axes.plot(epochs, [np.mean(v) for v in values], label=label, marker=marker, **style)
        axes.fill_between(epochs, low, high, color=style["color"], alpha=0.2, linewidth=0)
    axes.margins(x=0)


def _scale_accuracy(row: Sequence[Any]) -> None:
    """Leaves out most of the first climb, which would flatten all that comes after it."""
    means = [line.get_ydata() for axes in row for line in axes.get_lines()]
    if means:
        low = learning_curves.lowest(means)
        high = max(axes.dataLim.y1 for axes in row if axes.get_lines())
        room = 0.05 * (high - low) + 0.1
        row[0].set_ylim(low - room, high + room)


def _scale_loss(row: Sequence[Any]) -> None:
    """A logarithmic axis with plain numbers, where every loss is positive."""
    from matplotlib.ticker import LogLocator, NullLocator

    lowest = min((axes.dataLim.y0 for axes in row if axes.get_lines()), default=0)
    if lowest > 0:
        row[0].set_yscale("log")
        row[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        row[0].yaxis.set_major_formatter("{x:g}")
        row[0].yaxis.set_minor_locator(NullLocator())


def _label_curves(figure: Any, column: Sequence[Any]) -> None:
    """Names the curves at their right ends where they are few, else in a legend outside."""
    handles, labels = column[0].get_legend_handles_labels()
    if len(labels) > DIRECT_LABELS:
        figure.legend(handles, labels, loc="outside right upper")
    elif len(labels) > 1:
        for axes in column:
            _label_ends(axes)


def _label_ends(axes: Any) -> None:
    lines = axes.get_lines()
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = [float(to_axes.transform(line.get_xydata()[-1])[1]) for line in lines]
    ends = [min(max(end, 0.0), 1.0) for end in ends]
    for line, end, place in zip(lines, ends, figures.apart(ends, LABEL_GAP), strict=True):
        axes.annotate(
            line.get_label(),
            xy=(1.01, end),
            xytext=(1.07, place),
            xycoords="axes fraction",
            color=line.get_color(),
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.6},
        )


def _draw_series(axes: Any, rows: Sequence[Row]) -> None:
    """Mean accuracy with bars from min to max against sparsity, one series per kind of card."""
    keys = [key for key in POINT if key != "sparsity"]
    series = grouped(rows, keys)
    places = {row["sparsity"]: -math.log10(1 - row["sparsity"]) for row in rows}
    left, right = min(places.values()), max(places.values())
    span = right - left or 1.0
    for i, (group, colour) in enumerate(
        zip(series.values(), figures.colours(len(series)), strict=True)
    ):
        group = sorted(group, key=lambda row: row["sparsity"])
        shift = (i - (len(series) - 1) / 2) * 0.012 * span  # so that bars do not hide each other
        x = [places[row["sparsity"]] + shift for row in group]
        style = {"color": colour, "marker": figures.MARKERS[i % len(figures.MARKERS)]}
        _draw_bars(axes, x, group, label=named(rows, group[0], keys), **style)
        _name_counts(axes, x, group, max(row["n"] for row in rows), colour)
    axes.set_xlim(left - 0.08 * span, right + 0.08 * span)
    _tick_sparsities(axes, dict(sorted(places.items())), 0.06 * span)


def _draw_bars(axes: Any, x: Sequence[float], rows: Sequence[Row], **style: Any) -> None:
    mean, low, high = (
        np.array([100 * row[f"accuracy_{name}"] for row in rows]) for name in ("mean", "min", "max")
    )
    bars = figures.reach(mean, low, high)
    axes.errorbar(x, mean, yerr=bars, markersize=4.5, capsize=2.5, elinewidth=1.0, **style)


def _name_counts(axes: Any, x: Sequence[float], rows: Sequence[Row], most: int, colour: Any):
    """Writes n over the means of fewer realizations than others have: some diverged."""
    for place, row in zip(x, rows, strict=True):
        if row["n"] < most:
            at = (place, 100 * row["accuracy_max"])
            style = {"textcoords": "offset points", "ha": "center", "fontsize": 7}
            axes.annotate(f"n={row['n']}", at, (0, 4), color=colour, **style)


def _tick_sparsities(axes: Any, places: dict[float, float], gap: float) -> None:
    """A tick at every sparsity, a label where the one before leaves room."""
    labels, last = [], -math.inf
    for sparsity, place in places.items():
        labels.append(short_percent(sparsity) if place - last >= gap else "")
        last = place if labels[-1] else last
    axes.set_xticks(list(places.values()), labels)


def _draw_dense(axes: Any, row: Row, label: str) -> None:
    mean, low, high = (100 * row[f"accuracy_{name}"] for name in ("mean", "min", "max"))
    axes.axhspan(low, high, color="#808080", alpha=0.1, linewidth=0, zorder=0)
    axes.axhline(mean, color="#505050", linewidth=1.0, linestyle=(0, (4, 2)), zorder=1)
    axes.annotate(
        f"{label}\n{mean:.2f}",
        xy=(1.01, mean),
        xycoords=("axes fraction", "data"),
        color="#505050",
        fontsize=8,
        va="center",
    )
