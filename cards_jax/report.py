"""What a run found: results.json, tables, pictures.

A *result* is a dict about one trained realization, a *summary row* one about the realizations that
differ in nothing but their seed. Accuracies and sparsities are fractions in dicts, JSON and CSV,
and percent where people read them.
"""

import contextlib
import dataclasses
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from cards_jax.log import csv_text, plain

Row = dict[str, Any]

# `run` is there where several runs are compared that differ in nothing else that is named here.
POINT = ("method", "scope", "model", "data", "sparsity", "learning_rate", "weight_decay", "run")
MEANS = ("realised_sparsity", "parameters", "paper_bytes", "true_bytes")
MEANS += ("holdout_accuracy", "batchnorm_shift")
SUMMARY = (
    *POINT,
    *MEANS,
    "accuracy_mean",
    "accuracy_min",
    "accuracy_max",
    "accuracy_std",
    "accuracy_low",
    "accuracy_high",
    "n",
    "n_diverged",
    "dense_accuracy",
    "difference_mean",
    "difference_min",
    "difference_max",
)


def write_results(folder: str | Path, payload: Row) -> Path:
    """Writes results.json: strict JSON (NaN and infinities as null), whole or not at all."""
    return write_json(Path(folder) / "results.json", payload)


def write_json(path: Path, payload: Row) -> Path:
    """Writes strict JSON (NaN and infinities as null), whole or not at all."""
    text = json.dumps(_strict(payload), indent=1, allow_nan=False) + "\n"
    return _replace(path, text.encode())


# --- summaries


def summarise(results: Sequence[Row], baseline: Sequence[Row] | None = None) -> list[Row]:
    """Test accuracy over the seeds of each point: one row per point, sorted, with the keys SUMMARY.

    `accuracy_std` is the sample standard deviation, `accuracy_low` and `accuracy_high` bound the
    95% interval of the mean (Student t); both are None for fewer than two realizations. Diverged
    realizations count in `n_diverged` alone. `difference_*` are percentage points above
    `dense_accuracy`, the mean of the dense `baseline` of the same data and model, a constant.
    """
    groups = grouped(results, POINT)
    rows = []
    for point in sorted(groups, key=_order):
        group = groups[point]
        alive = [result for result in group if _alive(result)]
        row = dict.fromkeys(SUMMARY) | dict(zip(POINT, point, strict=True))
        row |= {"n": len(alive), "n_diverged": len(group) - len(alive)}
        row |= _spread([result["test_accuracy"] for result in alive])
        row |= {key: _mean(alive or group, key) for key in MEANS}
        dense = _dense_accuracy(row, baseline or [])
        if dense is not None and alive:
            row["dense_accuracy"] = dense
            for name in ("mean", "min", "max"):
                row[f"difference_{name}"] = 100 * (row[f"accuracy_{name}"] - dense)
        rows.append(row)
    return rows


def _spread(accuracies: Sequence[float]) -> Row:
    if not accuracies:
        return {}
    values = np.asarray(accuracies, np.float64)
    mean, n = float(values.mean()), len(values)
    row = {
        "accuracy_mean": mean,
        "accuracy_min": float(values.min()),
        "accuracy_max": float(values.max()),
    }
    if n > 1:
        std = float(values.std(ddof=1))
        half = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
        row |= {"accuracy_std": std, "accuracy_low": mean - half, "accuracy_high": mean + half}
    return row


def _dense_accuracy(row: Row, baseline: Sequence[Row]) -> float | None:
    """Mean dense accuracy to compare a row with, or None where it is not clear which.

    The dense point with the row's learning rate and weight decay, else the only dense point.
    """
    points = grouped(
        [r for r in baseline if _alive(r) and all(r.get(k) == row[k] for k in ("model", "data"))],
        ("learning_rate", "weight_decay"),
    )
    same = points.get((row["learning_rate"], row["weight_decay"]))
    group = same or (next(iter(points.values())) if len(points) == 1 else [])
    return _mean(group, "test_accuracy")


def grouped(rows: Sequence[Row], keys: Sequence[str]) -> dict[tuple, list[Row]]:
    """{values of the keys: the rows that have them}, in the order in which they first occur."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    return groups


def _order(point: tuple) -> list[tuple]:
    # None before numbers before words, as a sort key
    return [(v is not None, isinstance(v, str), 0 if v is None else v) for v in point]


def _alive(result: Row) -> bool:
    accuracy = result["test_accuracy"]
    finite = accuracy is not None and math.isfinite(accuracy)
    return finite and result.get("diverged_at") is None


def _mean(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row.get(key) is not None]
    if not values:
        return None
    same = all(value == values[0] for value in values)
    return plain(values[0]) if same else float(np.mean(values))


# --- curves

SPLITS = {"train": "Training", "test": "Test", "holdout": "Holdout"}
SWEEP = ("sparsity", "learning_rate", "weight_decay")


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """The metric rows of realizations that differ in nothing but their seed, with the name and look of their line.

    colour: number of the first value in which lines differ; dash: that of the others, an index into DASHES.
    """

    label: str
    rows: list[Row]
    colour: int
    dash: int

    @property
    def n(self) -> int:
        """Realizations."""
        return len({row["realization"] for row in self.rows})


def curves(metrics_rows: Sequence[Row]) -> list[Curve]:
    """One line per sparsity, learning rate and weight decay; realizations that diverged are left out."""
    dead = {row["realization"] for row in metrics_rows if not _sound(row)}
    rows = [row for row in metrics_rows if row["realization"] not in dead]
    groups = grouped(rows, SWEEP)
    points = sorted(groups, key=_order)
    varying = [i for i in range(len(SWEEP)) if len({point[i] for point in points}) > 1]
    colours = [tuple(point[i] for i in varying[:1]) for point in points]
    dashes = [tuple(point[i] for i in varying[1:]) for point in points]
    number = lambda value, values: list(dict.fromkeys(values)).index(value)
    return [
        Curve(
            # Phases that all sparsities share have none of their own.
            named(rows, groups[point][0], SWEEP) or "all",
            groups[point],
            number(colour, colours),
            number(dash, dashes) % len(DASHES),
        )
        for point, colour, dash in zip(points, colours, dashes, strict=True)
    ]


def splits_of(rows: Iterable[Row]) -> list[str]:
    """The splits that metric rows are about, training first."""
    return sorted({row["split"] for row in rows}, key=lambda s: (s != "train", s))


def spread(rows: Sequence[Row], split: str, key: str) -> dict[float, list[float]]:
    """{epoch: the values of all realizations}, in order."""
    groups = grouped([row for row in rows if row["split"] == split and key in row], ("epoch",))
    return {epoch: [row[key] for row in groups[epoch,]] for (epoch,) in sorted(groups)}


# --- tables


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
    return [_replace(tables / name, text.encode()) for name, text in texts.items()]


def table_columns(rows: Sequence[Row]) -> list[str]:
    """The columns worth showing: what all rows have in common goes into the caption instead."""
    columns = [key for key in POINT if key in ("method", "sparsity") or _varies(rows, key)]
    columns += [key for key in MEANS if key != "parameters" and _has(rows, key)]
    columns += ["accuracy_mean", "accuracy_min", "accuracy_max", "accuracy_std", "accuracy_half"]
    columns += ["n"] + ["n_diverged"] * any(row["n_diverged"] for row in rows)
    if any(row["difference_mean"] is not None for row in rows):
        columns += ["difference_mean", "difference_min", "difference_max"]
    return columns


def _has(rows: Sequence[Row], key: str) -> bool:
    return any(row.get(key) is not None for row in rows)


def caption(rows: Sequence[Row]) -> str:
    """What the columns of the summary rows mean and what all rows have in common, in one line."""
    shown = table_columns(rows)
    common = [
        f"{_title(key)} {_text(rows[0], key)}"
        for key in POINT
        if key not in shown and rows and rows[0][key] is not None
    ]
    sizes = "Paper bytes count the kept weights alone, true bytes are the card's file. "
    text = sizes * ("true_bytes" in shown) + "Test accuracy in percent"
    text += f" ({', '.join(common)})" if common else ""
    text += ": mean, smallest, largest, standard deviation and half-width of the 95% interval of"
    text += " the mean over n realizations"
    text += ", diverged ones left out" if "n_diverged" in shown else ""
    if "difference_mean" in shown:
        dense = sorted({row["dense_accuracy"] for row in rows} - {None})
        means = ", ".join(_percent(value) for value in dense)
        text += f"; then percentage points above the mean dense accuracy ({means})"
    return text + "."


def markdown_table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """A markdown table, padded so that it also reads well on a console; ends in a newline."""
    head = [_title(column) for column in columns]
    body = [[_text(row, column).replace("|", "\\|") for column in columns] for row in rows]
    return aligned(head, body, [column in WORDS for column in columns])


def aligned(head: Sequence[str], body: Sequence[Sequence[str]], left: Sequence[bool]) -> str:
    """Cells as a padded markdown table; `left` says which columns hold words."""
    widths = [max(3, *map(len, cells)) for cells in zip(head, *body, strict=True)]
    rule = [
        ":" + "-" * (width - 1) if word else "-" * (width - 1) + ":"
        for width, word in zip(widths, left, strict=True)
    ]
    lines = []
    for cells in (head, rule, *body):
        padded = [
            cell.ljust(width) if word else cell.rjust(width)
            for cell, width, word in zip(cells, widths, left, strict=True)
        ]
        lines.append(f"| {' | '.join(padded)} |\n")
    return "".join(lines)


def latex_table(rows: Sequence[Row], columns: Sequence[str], caption: str) -> str:
    """A LaTeX table with booktabs rules; every text is escaped."""

    def line(cells: Sequence[str]) -> str:
        return "    " + " & ".join(cell.translate(LATEX) for cell in cells) + r" \\"

    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{caption.translate(LATEX)}}}",
        rf"  \begin{{tabular}}{{{''.join('l' if c in WORDS else 'r' for c in columns)}}}",
        r"    \toprule",
        line([_title(column) for column in columns]),
        r"    \midrule",
        *[line([_text(row, column) for column in columns]) for row in rows],
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def _short_percent(fraction: float) -> str:
    return f"{100 * fraction:.6g}"


def _number(value: float) -> str:
    return f"{value:.6g}"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _signed(points: float) -> str:
    return f"{points:+.2f}".replace("-0.00", "+0.00")


# How a column is headed and how its values are written for people.
COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "sparsity": ("sparsity (%)", _short_percent),
    "realised_sparsity": ("realised sparsity (%)", _percent),
    "paper_bytes": ("paper bytes", _whole),
    "true_bytes": ("true bytes", _whole),
    "learning_rate": ("learning rate", _number),
    "weight_decay": ("weight decay", _number),
    "accuracy_mean": ("accuracy (%)", _percent),
    "accuracy_min": ("min", _percent),
    "accuracy_max": ("max", _percent),
    "accuracy_std": ("std", _percent),
    "accuracy_half": ("± 95%", _percent),
    "dense_accuracy": ("dense (%)", _percent),
    "n_diverged": ("diverged", str),
    "difference_mean": ("to dense", _signed),
    "difference_min": ("min", _signed),
    "difference_max": ("max", _signed),
    "test_accuracy": ("test accuracy (%)", _percent),
    "train_accuracy": ("train accuracy (%)", _percent),
    "holdout_accuracy": ("holdout (%)", _percent),
    "batchnorm_shift": ("BatchNorm shift", _number),
}
WORDS = ("id", "method", "scope", "model", "data", "run", "corruption", "set", "card")
LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
    }
    | {character: "\\" + character for character in "{}$&#_%"}
)


def _title(column: str) -> str:
    return COLUMNS[column][0] if column in COLUMNS else column.replace("_", " ")


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    if column == "accuracy_half" and row.get("accuracy_high") is not None:
        value = row["accuracy_high"] - row["accuracy_mean"]
    if value is None:
        return ""
    return COLUMNS[column][1](value) if column in COLUMNS else str(value)


def _varies(rows: Sequence[Row], key: str) -> bool:
    return len({row.get(key) for row in rows}) > 1


def csv_table(rows: Sequence[Row], keys: Sequence[str] | None = None) -> str:
    """Rows as CSV; without `keys`, of every key that some row has."""
    keys = keys or list(dict.fromkeys(key for row in rows for key in row))
    return csv_text([keys, *([plain(row.get(key)) for key in keys] for row in rows)])


# --- pictures

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*"
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.linewidth": 0.8,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "svg.hashsalt": "cards_jax",  # else every drawing has other ids
    "text.usetex": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
DIRECT_LABELS = 4  # as many curves at most are labelled at their ends
LABEL_GAP = 0.09  # of the height of a panel: the least that keeps two labels apart


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
        {"color": colour, "linestyle": DASHES[line.dash]}
        for line, colour in zip(lines, _line_colours(lines), strict=True)
    ]
    drawn = [(line.label, line.rows, style) for line, style in zip(lines, styles, strict=True)]
    with _figure(3.2 * len(splits) + 1, 4.8) as figure:
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
        _note(figure, [line.n for line in lines])
        return _save(figure, Path(folder) / "plots" / "curves")


def plot_sparsity(
    stem: str | Path, summary_rows: Sequence[Row], baseline_rows: Sequence[Row] = ()
) -> list[Path]:
    """Draws STEM.{png,svg}: mean test accuracy against sparsity, bars from min to max.

    The dense mean is a line in a band from min to max. The sparsity axis is logarithmic in the
    fraction kept. Returns the paths, none where there is but one sparsity and no baseline.
    """
    rows = [row | {"sparsity": row["sparsity"] or 0.0} for row in summary_rows if row["n"]]
    dense_rows = [row for row in baseline_rows if row["n"]]
    if not rows or not (dense_rows or _varies(rows, "sparsity")):
        return []
    with _figure(4.8, 3.2) as figure:
        axes = figure.subplots()
        _draw_series(axes, rows)
        for row in dense_rows:
            _draw_dense(axes, row, named(dense_rows, row, SWEEP) or "dense")
        axes.set_xlabel("Sparsity (%)")
        axes.set_ylabel("Test accuracy (%)")
        if len(axes.get_legend_handles_labels()[1]) > 1:
            legend_above(figure, *axes.get_legend_handles_labels(), most=3)
        _note(figure, [row["n"] for row in rows])
        return _save(figure, Path(stem))


@contextlib.contextmanager
def _figure(width: float, height: float) -> Iterator[Any]:
    """A figure of so many inches, in our style until the block ends."""
    import matplotlib  # not before: it writes a cache of fonts, and a dry run writes nothing
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), dpi=200, layout="constrained")


def legend_above(figure: Any, handles: Sequence, labels: Sequence[str], most: int) -> None:
    """A legend above the axes in at most so many columns, and no more than fit the figure's width."""
    for columns in range(most, 0, -1):
        legend = figure.legend(handles, labels, loc="outside upper left", ncols=columns)
        figure.draw_without_rendering()
        if columns == 1 or legend.get_window_extent().x1 <= figure.bbox.x1:
            return
        legend.remove()


def _sound(row: Row) -> bool:
    values = [row.get("loss", 0.0), row.get("accuracy", 0.0)]
    finite = all(value is not None and math.isfinite(value) for value in values)
    return finite and bool(row.get("alive", True))


def named(rows: Sequence[Row], row: Row, keys: Sequence[str]) -> str:
    """Names a row by the keys in which the rows differ."""
    parts = []
    for key in keys:
        if _varies(rows, key) and row.get(key) is not None:
            text = _text(row, key)
            parts.append(
                {
                    "sparsity": f"{text}% sparse",
                    "learning_rate": f"lr {text}",
                    "weight_decay": f"wd {text}",
                }.get(key, text)
            )
    return ", ".join(parts)


def _note(figure: Any, counts: Sequence[int]) -> None:
    """Says what lines, bands and bars mean, below everything else."""
    fewest, most = min(counts), max(counts)
    if most > 1:
        seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
        text = f"Mean of {seeds} seeds, range from smallest to largest"
        figure.supxlabel(text, x=0.01, ha="left", fontsize=7, color="#707070")


def _colours(count: int) -> list[Any]:
    """Colours that colour-blind readers can tell apart; a scale where there are many."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    import matplotlib

    return list(matplotlib.colormaps["viridis"](np.linspace(0, 0.92, count)))


def _line_colours(lines: Sequence[Curve]) -> list[Any]:
    colours = _colours(1 + max(line.colour for line in lines))
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
        low = np.quantile(np.concatenate(means), 0.1)
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
    for line, end, place in zip(lines, ends, _apart(ends, LABEL_GAP), strict=True):
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


def _apart(places: Sequence[float], gap: float) -> list[float]:
    """Pushes neighbouring places away from each other until they are a gap apart."""
    moved = np.asarray(places, np.float64)
    order = np.argsort(moved, kind="stable")
    for _ in range(100):
        for below, above in zip(order[:-1], order[1:], strict=True):
            push = max(gap - (moved[above] - moved[below]), 0) / 2
            moved[below] -= push
            moved[above] += push
    return moved.tolist()


def _draw_series(axes: Any, rows: Sequence[Row]) -> None:
    """Mean accuracy with bars from min to max against sparsity, one series per kind of card."""
    keys = [key for key in POINT if key != "sparsity"]
    series = grouped(rows, keys)
    places = {row["sparsity"]: -math.log10(1 - row["sparsity"]) for row in rows}
    left, right = min(places.values()), max(places.values())
    span = right - left or 1.0
    for i, (group, colour) in enumerate(zip(series.values(), _colours(len(series)), strict=True)):
        group = sorted(group, key=lambda row: row["sparsity"])
        shift = (i - (len(series) - 1) / 2) * 0.012 * span  # so that bars do not hide each other
        x = [places[row["sparsity"]] + shift for row in group]
        style = {"color": colour, "marker": MARKERS[i % len(MARKERS)]}
        _draw_bars(axes, x, group, label=named(rows, group[0], keys), **style)
        _name_counts(axes, x, group, max(row["n"] for row in rows), colour)
    axes.set_xlim(left - 0.08 * span, right + 0.08 * span)
    _tick_sparsities(axes, dict(sorted(places.items())), 0.06 * span)


def _draw_bars(axes: Any, x: Sequence[float], rows: Sequence[Row], **style: Any) -> None:
    mean, low, high = (
        np.array([100 * row[f"accuracy_{name}"] for row in rows]) for name in ("mean", "min", "max")
    )
    bars = (mean - low, high - mean)
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
        labels.append(_short_percent(sparsity) if place - last >= gap else "")
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


def _save(figure: Any, stem: Path) -> list[Path]:
    """Writes the figure as .png and .svg without dates or versions: same rows, same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out now, once for both files
    paths = []
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        picture = io.BytesIO()
        figure.savefig(picture, format=suffix, metadata=metadata)
        paths.append(_replace(stem.with_suffix(f".{suffix}"), picture.getvalue()))
    return paths


# --- files


def _strict(value: Any) -> Any:
    """The same nest of dicts and lists with scalars that strict JSON can hold."""
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple) or getattr(value, "ndim", 0):
        return [_strict(item) for item in value]
    return plain(value)


def _replace(path: Path, data: bytes) -> Path:
    """Writes a file whole or not at all; an OSError (full disk) names the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".tmp")
    try:
        with open(draft, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    return path
