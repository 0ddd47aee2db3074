"""Accuracy against robustness, memory as the area of a bubble: cards, decks and controls of saved evaluations."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cards_jax import deck_table, figures
from cards_jax.config import ConfigError
from cards_jax.deck_table import ADAPTIVE, AGNOSTIC, SOFTLY

BYTES = {"true": "true_bytes", "paper": "paper_bytes"}
SAID = {"true": "true bytes: the whole file", "paper": "paper bytes: kept weights alone"}
LARGEST, SMALLEST = 900.0, 6.0  # area of bubbles in square points
Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Rows of a saved evaluation; ConfigError for anything else. A deck without a name is called as its file."""
    try:
        with path.open(newline="") as file:
            found = [_row(fields, path) for fields in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{path}: no evaluation that `deck evaluate --save` wrote ({reason})"
        ) from None
    if not found:
        raise ConfigError(f"{path}: holds no rows; allowed is what `deck evaluate --save` wrote")
    return found


class MeasuredOn(NamedTuple):
    """The (corruption, severity) of an evaluation, and on how many images, where that is known."""

    sets: frozenset[tuple[str, int | None]]
    images: int | None

    def fits(self, other: "MeasuredOn") -> bool:
        """Whether numbers of both belong on one axis."""
        known = {self.images, other.images} - {None}
        return self.sets == other.sets and len(known) < 2


def measured_on(path: Path, rows: Sequence[Row]) -> MeasuredOn:
    """What an evaluation was measured on; PATH.json beside it says on how many images."""
    try:
        images = json.loads(path.with_suffix(".json").read_text()).get("images")
    except (OSError, ValueError, AttributeError):
        images = None
    return MeasuredOn(frozenset((row["corruption"], row["severity"]) for row in rows), images)


def _row(fields: dict[str, str], path: Path) -> Row:
    whole = lambda name: int(fields[name]) if fields[name] else None
    number = lambda name: float(fields[name])
    return {
        "deck": fields["deck"] or path.stem,
        "predictor": fields["predictor"],
        "corruption": fields["corruption"],
        "severity": whole("severity"),
        "batch": whole("batch"),
        "order": fields["order"] or None,
        "cards": whole("cards"),
        "true_bytes": whole("true_bytes"),
        **{name: number(name) for name in ("accuracy", "asked", "paper_bytes")},
    }


def points(rows: Sequence[Row]) -> list[Row]:
    """What is drawn: `deck_table.summary` without what has no robustness.

    Soft gates stay in the tables. `alone`: a card that was evaluated by itself; `label`: its name, or a deck's.
    """
    found = [r for r in deck_table.summary(rows) if r["robustness"] is not None]
    several = {r["deck"] for r in found if r["predictor"] == AGNOSTIC}
    found = [r for r in found if not r["predictor"].endswith(SOFTLY)]
    for r in found:
        name = r["predictor"].removeprefix(f"{ADAPTIVE}, ")
        r["alone"] = r["deck"] not in several
        r["label"] = r["deck"] if r["alone"] else f"{r['deck']}: {name}"
    return found


def front(points: Sequence[Row], keys: Sequence[str], less: Sequence[str] = ()) -> list[Row]:
    """Points that no other beats: as good in all of `keys`, as small in all of `less`, better in one of them."""
    if not points:
        return []
    table = np.array([[p[k] for k in keys] + [-p[k] for k in less] for p in points])
    beaten = [((table >= row).all(1) & (table > row).any(1)).any() for row in table]
    return [p for p, lost in zip(points, beaten, strict=True) if not lost]


def draw(stem: Path, rows: Sequence[Row], kind: str = "true", title: str = "") -> list[Path]:
    """Draws STEM.{png,svg}; kind says which bytes the bubbles show. Returns the paths, none where nothing is drawn.

    One colour for each deck (a card by itself is one); faint bubbles are a deck's single cards. The line joins what
    nothing beats in accuracy and robustness; a dark rim has what nothing beats when memory counts as well.
    """
    found = points(rows)
    if not found:
        return []
    size = BYTES[kind]
    decks = list(dict.fromkeys(p["deck"] for p in found))
    colours = dict(zip(decks, figures.colours(len(decks)), strict=True))
    most = max(p[size] for p in found)
    area = lambda value: max(SMALLEST, LARGEST * value / most)
    edge = front(found, ("accuracy", "robustness"), (size,))
    with figures.figure(6.4, 4.4) as figure:
        axes = figure.subplots()
        line = sorted(front(found, ("accuracy", "robustness")), key=lambda p: p["accuracy"])
        x, y = ([100 * p[k] for p in line] for k in ("accuracy", "robustness"))
        axes.step(
            x, y, where="pre", color="#808080", linewidth=0.8, linestyle=(0, (4, 2)), zorder=1
        )
        for p in sorted(found, key=lambda p: -p[size]):
            card = p["predictor"].startswith("card") and not p["alone"]
            axes.scatter(
                100 * p["accuracy"],
                100 * p["robustness"],
                s=area(p[size]),
                color=colours[p["deck"]],
                alpha=0.35 if card else 0.75,
                edgecolors="black" if p in edge else colours[p["deck"]],
                linewidths=1.2 if p in edge else 0.6,
                zorder=2,
            )
        axes.margins(0.12)
        axes.set_xlabel("Accuracy on clean images (%)")
        axes.set_ylabel("Mean accuracy under corruptions (%)")
        _names(
            figure, axes, [p for p in found if p["alone"] or not p["predictor"].startswith("card")]
        )
        _legend(figure, colours, most, area)
        figure.supxlabel(f"{title} Area: {SAID[kind]}.".strip(), fontsize=7, x=0.02, ha="left")
        return figures.save(figure, Path(stem))


def _names(figure: Any, axes: Any, decks: Sequence[Row]) -> None:
    """Writes what a deck's bubbles are at the right side, each joined to its bubble by a thin line."""
    figure.draw_without_rendering()
    to_axes = axes.transData + axes.transAxes.inverted()
    at = [to_axes.transform((100 * p["accuracy"], 100 * p["robustness"])) for p in decks]
    places = figures.apart([float(y) for _, y in at], 0.055)
    for p, (x, y), place in zip(decks, at, places, strict=True):
        axes.annotate(
            p["label"],
            xy=(x, y),
            xytext=(1.02, place),
            xycoords="axes fraction",
            fontsize=7,
            va="center",
            arrowprops={"arrowstyle": "-", "color": "#a0a0a0", "linewidth": 0.5},
            zorder=3,
        )


def _legend(figure: Any, colours: dict[str, Any], most: float, area: Any) -> None:
    from matplotlib.lines import Line2D

    marker = lambda colour, size, label: Line2D(
        [], [], marker="o", linestyle="", color=colour, markersize=size, label=label
    )
    step = 10 ** math.floor(math.log10(most))
    scale = [v for v in (step / 100, step / 10, step) if v >= 1]
    handles = [marker(colour, 6, name) for name, colour in colours.items()]
    sizes = [marker("#b0b0b0", math.sqrt(area(v)), _bytes(v)) for v in scale]
    figures.legend_above(figure, handles, list(colours), most=5)
    figure.legend(handles=sizes, loc="outside lower right", ncols=len(sizes))


def _bytes(value: float) -> str:
    for unit, name in ((1e6, "MB"), (1e3, "kB")):
        if value >= unit:
            return f"{value / unit:g} {name}"
    return f"{value:g} B"
