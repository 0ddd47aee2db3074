"""The look of every figure: one style, colours that colour-blind readers can tell apart, the same bytes every time."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cards_jax import files

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


@contextlib.contextmanager
def figure(width: float, height: float) -> Iterator[Any]:
    """A figure of so many inches, in our style until the block ends."""
    import matplotlib  # not before: it writes a cache of fonts, and a dry run writes nothing
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), dpi=200, layout="constrained")


def reach(mean: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Lengths of error bars, (2, N): never negative, as rounding makes them where all values of a group are equal."""
    return np.maximum(0, np.stack([mean - low, high - mean]))


def legend_above(figure: Any, handles: Sequence, labels: Sequence[str], most: int) -> None:
    """A legend above the axes in at most so many columns, and no more than fit the figure's width."""
    for columns in range(most, 0, -1):
        legend = figure.legend(handles, labels, loc="outside upper left", ncols=columns)
        figure.draw_without_rendering()
        if columns == 1 or legend.get_window_extent().x1 <= figure.bbox.x1:
            return
        legend.remove()


def note(figure: Any, counts: Sequence[int]) -> None:
    """Says what lines, bands and bars mean, below everything else."""
    fewest, most = min(counts), max(counts)
    if most > 1:
        seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
        text = f"Mean of {seeds} seeds, range from smallest to largest"
        figure.supxlabel(text, x=0.01, ha="left", fontsize=7, color="#707070")


def colours(count: int) -> list[Any]:
    """Colours that colour-blind readers can tell apart; a scale where there are many."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    import matplotlib

    return list(matplotlib.colormaps["viridis"](np.linspace(0, 0.92, count)))


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Pushes neighbouring places away from each other until they are a gap apart."""
    moved = np.asarray(places, np.float64)
    order = np.argsort(moved, kind="stable")
    for _ in range(100):
        for below, above in zip(order[:-1], order[1:], strict=True):
            push = max(gap - (moved[above] - moved[below]), 0) / 2
            moved[below] -= push
            moved[above] += push
    return moved.tolist()


def save(figure: Any, stem: Path) -> list[Path]:
    """Writes the figure as STEM.png and STEM.svg, whatever points STEM has, without dates or versions: same rows, same
    bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out now, once for both files
    paths = []
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        picture = io.BytesIO()
        figure.savefig(picture, format=suffix, metadata=metadata)
        paths.append(files.deliver(stem.with_name(f"{stem.name}.{suffix}"), picture.getvalue()))
    return paths
