"""Rows as tables: markdown, LaTeX and CSV, headed and rounded for people."""

from collections.abc import Callable, Sequence
from typing import Any

from cards_jax.plain import csv_text, plain
from cards_jax.summary import MEANS, POINT, Row, varies


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def short_percent(fraction: float) -> str:
    return f"{100 * fraction:.6g}"


def _number(value: float) -> str:
    return f"{value:.6g}"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _signed(points: float) -> str:
    return f"{points:+.2f}".replace("-0.00", "+0.00")


# How a column is headed and how its values are written for people.
COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "sparsity": ("sparsity (%)", short_percent),
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


def table_columns(rows: Sequence[Row]) -> list[str]:
    """The columns worth showing: what all rows have in common goes into the caption instead."""
    columns = [key for key in POINT if key in ("method", "sparsity") or varies(rows, key)]
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


def _title(column: str) -> str:
    return COLUMNS[column][0] if column in COLUMNS else column.replace("_", " ")


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    if column == "accuracy_half" and row.get("accuracy_high") is not None:
        value = row["accuracy_high"] - row["accuracy_mean"]
    if value is None:
        return ""
    return COLUMNS[column][1](value) if column in COLUMNS else str(value)


def csv_table(rows: Sequence[Row], keys: Sequence[str] | None = None) -> str:
    """Rows as CSV; without `keys`, of every key that some row has."""
    keys = keys or list(dict.fromkeys(key for row in rows for key in row))
    return csv_text([keys, *([plain(row.get(key)) for key in keys] for row in rows)])


def named(rows: Sequence[Row], row: Row, keys: Sequence[str]) -> str:
    """Names a row by the keys in which the rows differ."""
    parts = []
    for key in keys:
        if varies(rows, key) and row.get(key) is not None:
            text = _text(row, key)
            parts.append(
                {
                    "sparsity": f"{text}% sparse",
                    "learning_rate": f"lr {text}",
                    "weight_decay": f"wd {text}",
                }.get(key, text)
            )
    return ", ".join(parts)
