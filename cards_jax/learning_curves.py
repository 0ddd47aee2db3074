"""Curves of training: which lines there are, and what they show at every epoch."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from cards_jax.figures import DASHES
from cards_jax.summary import Row, grouped, order
from cards_jax.tabular import named

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
    points = sorted(groups, key=order)
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


def _sound(row: Row) -> bool:
    values = [row.get("loss", 0.0), row.get("accuracy", 0.0)]
    finite = all(value is not None and math.isfinite(value) for value in values)
    return finite and bool(row.get("alive", True))


def lowest(lines: Sequence[Sequence[float]]) -> float:
    """Where an axis of accuracy may begin: above most of the first climb, which would flatten what comes after it, and
    below whatever a line shows after the first quarter of its points."""
    later = [min(line[len(line) // 4 :]) for line in lines if len(line)]
    every = [value for line in lines for value in line]
    return float(min(np.quantile(every, 0.1), *later))
