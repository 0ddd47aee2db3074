"""Accuracy by corruption and severity, as small panels on one scale."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from cards_jax import figures
from cards_jax.corruptions import SEVERITIES
from cards_jax.robust_summary import Summary

COLUMNS = 5


def draw(stem: Path, s: Summary) -> list[Path]:
    """Draws STEM.{png,svg}: a panel for each corruption, a line for each point from clean images to severity 5.

    Lines are means over seeds, bands reach from the smallest to the largest. Returns the paths, none where
    every card diverged.
    """
    names, curves = s.source.names, s.curves
    if not any(curves.values()):
        return []  # all diverged
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    colours = dict(zip(s.labels, figures.colours(len(s.labels)), strict=True))
    # Thin figures still need room for the legend and the caption.
    with figures.figure(max(1.75 * columns + 0.4, 4.8), 1.45 * rows + 0.9) as figure:
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for place, name in zip(axes.flat, names, strict=False):
            _panel(place, name, curves[name], colours)
        for place in axes.flat[len(names) :]:
            place.set_axis_off()
        for column in range(columns):  # the last panel of a column, whose ticks are not hidden
            lowest = max(r for r in range(rows) if r * columns + column < len(names))
            axes[lowest, column].tick_params(labelbottom=True)
            axes[lowest, column].set_xlabel("Severity")
        for place in axes[:, 0]:
            place.set_ylabel("Accuracy (%)")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figures.legend_above(figure, handles, labels, most=5)
        most = max(len(x) for lines in curves.values() for x in lines.values())
        bands = " Lines: means over seeds; bands: smallest to largest." if most > 1 else ""
        _caption(figure, f"{s.source.name}; {len(s.source.labels):,} images.{bands}")
        return figures.save(figure, stem)


def _panel(axes: Any, name: str, lines: dict[str, np.ndarray], colours: dict[str, Any]) -> None:
    x = (0, *SEVERITIES)
    for label, accuracies in lines.items():
        values = 100 * accuracies
        style = {"color": colours[label], "markersize": 2.5, "linewidth": 1.2}
        axes.plot(x, values.mean(0), label=label, marker="o", **style)
        if len(values) > 1:
            low, high = values.min(0), values.max(0)
            axes.fill_between(x, low, high, color=colours[label], alpha=0.2, linewidth=0)
    axes.set_title(name.replace("_", " "), fontsize=8)
    axes.set_xticks(x, ["clean", *map(str, SEVERITIES)])
    axes.tick_params(labelsize=7)


def _caption(figure: Any, text: str) -> None:
    width = int(figure.get_figwidth() * 17)
    figure.supxlabel(textwrap.fill(text, width), x=0.01, ha="left", fontsize=6.5, color="#707070")
