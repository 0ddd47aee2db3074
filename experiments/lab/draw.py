"""Parts of figures that several experiments share, in the style of cards_jax/figures.py."""

import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cards_jax import figures, files, heat_report, tabular
from cards_jax.evaluate.fourier import Settings
from cards_jax.figures import figure, save
from lab.collect import Card, Findings

COLOURS = {  # one for each method, in all figures
    "dense": "#505050",
    "FT": "#E69F00",
    "GMP": "#D55E00",
    "LTH": "#56B4E9",
    "LRR": "#0072B2",
    "EP (layerwise)": "#009E73",
    "EP (global)": "#7FCBAE",
    "BP (layerwise)": "#AA4499",
    "BP (global)": "#DDA0CF",
}
COLOURS_OF = figures.COLOURS  # by number
MARKERS = "osD^vP*X"
WRAP = 5  # maps of one norm that fit into one line


def colour(label: str, number: int, beside: Sequence[str] = ()) -> str:
    """Of a label: its own, or one by its number among those that no label beside it owns."""
    taken = {COLOURS.get(other) for other in beside}
    free = [c for c in COLOURS_OF if c not in taken]
    return COLOURS.get(label) or free[number % len(free)]


def kept(sparsity: float) -> float:
    """Where a sparsity stands on an axis that is logarithmic in the fraction kept."""
    return -math.log10(1 - sparsity)


def ticks(axes: Any, sparsities: Sequence[float]) -> None:
    """Ticks at sparsities, in percent."""
    axes.set_xticks([kept(s) for s in sparsities], [f"{100 * s:.3g}" for s in sparsities])
    axes.set_xlabel("Sparsity (%)")


def bars(axes: Any, x: Sequence[float], values: Sequence[np.ndarray], label: str, **style) -> None:
    """Means of groups with bars from the smallest to the largest."""
    mean, low, high = (np.array([f(v) for v in values]) for f in (np.mean, np.min, np.max))
    style = {"markersize": 4, "capsize": 2, "elinewidth": 0.9, "linewidth": 1.2, **style}
    axes.errorbar(x, mean, yerr=figures.reach(mean, low, high), label=label, **style)


def caption(fig: Any, text: str) -> None:
    """Small text below a figure."""
    width = max(40, int(fig.get_figwidth() * 17))
    fig.supxlabel(textwrap.fill(text, width), x=0.01, ha="left", fontsize=6.5, color="#707070")


def about(findings: Findings, more: str = "", n: str = "") -> str:
    """What every caption says: data, corruptions, images, and how many seeds, or `n` in their place."""
    counts = sorted({len(cards) for cards in findings.groups.values()})
    seeds = (
        f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}" if counts else "0"
    )
    trained = sorted({card.result.get("train_images") or 0 for card in findings.cards} - {0})
    images = f", {' or '.join(f'{n:,}' for n in trained)} training images" if trained else ""
    n = n or f"n = {seeds} seeds"
    text = f"{findings.title}{images}, scale {findings.scale.name}, {n}."
    if findings.source:
        text += f" Corrupted: {findings.source.name}; {len(findings.source.labels):,} images."
    if findings.missing:
        text += f" Not finished: {', '.join(findings.missing)}."
    return f"{text} {more}".strip()


def against(
    axes: Any,
    findings: Findings,
    lines: Sequence[tuple[str, str]],
    base: str,
    value,
    span: float = 0.0,
) -> None:
    """Lines (run, label) over sparsity: the difference of every card to the mean of the dense ones, in points.

    value: (cards) -> fractions (R,).
    """
    dense = findings.group(base)
    if not dense:
        return
    zero = 100 * value(dense)
    axes.axhspan(*(np.array([zero.min(), zero.max()]) - zero.mean()), color="#808080", alpha=0.12)
    axes.axhline(0, color="#505050", linewidth=0.9, linestyle=(0, (4, 2)))
    shown = sorted({s for run, _ in lines for s in findings.sparsities(run)})
    width = (kept(shown[-1]) - kept(shown[0]) if len(shown) > 1 else 1) * 0.012
    labels = [label for _, label in lines]
    for i, (run, label) in enumerate(lines):
        own = findings.sparsities(run)
        if not own:
            continue
        shift = (i - (len(lines) - 1) / 2) * width
        values = [100 * value(findings.group(run, s)) - zero.mean() for s in own]
        style = {"color": colour(label, i, labels), "marker": MARKERS[i % len(MARKERS)]}
        bars(axes, [kept(s) + shift for s in own], values, label, **style)
    ticks(axes, shown)
    axes.set_title(f"{100 * value(dense).mean():.2f}% dense", fontsize=7, loc="right")


def legend(fig: Any, columns: int = 5) -> None:
    """One legend above everything, of what the panels hold: some may lack what is not finished."""
    known: dict[str, Any] = {}
    for axes in fig.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    if known:
        figures.legend_above(fig, list(known.values()), list(known), columns)


def mean_heat(cards: Sequence[Card]) -> np.ndarray:
    """(E, H, W), percent: the mean over seeds."""
    return 100 * np.mean([card.heat.errors for card in cards], 0)


def stem(out: Path, name: str) -> Path:
    """Where a figure goes; its folder is made."""
    out.mkdir(parents=True, exist_ok=True)
    return out / name


def heatmaps(
    findings: Findings,
    out: Path,
    name: str,
    rows: Sequence[tuple[str, Sequence[Card]]],
    dense: Sequence[Card],
    text: str,
) -> list[Path]:
    """NAME.{png,svg}, errors, and NAME_difference.{png,svg}, points above dense: a column for each of the rows given,
    a line for each norm; and NAME.md, NAME.csv, means over rings of frequencies."""
    rows = [(label, cards) for label, cards in rows if cards]
    shown = [("dense", dense), *rows] if dense else rows
    if not shown:
        return []
    eps = findings.wanted.eps
    settings = Settings(eps, shown[0][1][0].heat.wrong.shape[-1])
    as_rows = lambda pairs: [
        heat_report.Row(k, np.stack([c.heat.errors for c in v])) for k, v in pairs
    ]
    base = as_rows([("dense", dense)])[0] if dense else None
    records = heat_report.table(as_rows(rows), base, settings)
    images = settings.images
    table = heat_report.markdown(records, settings, findings.title, images)
    files.write_atomically(stem(out, f"{name}.md"), table)
    files.write_atomically(out / f"{name}.csv", tabular.csv_table(records, heat_report.COLUMNS))
    caption_ = about(findings, f"{text}; {images} images, mean over seeds.")
    maps = [(label, mean_heat(cards)) for label, cards in shown]
    paths = [out / f"{name}.md"]
    paths += _maps(stem(out, name), maps, eps, caption_, "Error (%)", "jet", (0, 100))
    if dense and rows:
        zero = mean_heat(dense)
        maps = [(label, mean_heat(cards) - zero) for label, cards in rows]
        most = max(1.0, *(float(np.abs(m).max()) for _, m in maps))
        label = "Error to dense (points)"
        where = stem(out, f"{name}_difference")
        paths += _maps(where, maps, eps, caption_, label, "RdBu_r", (-most, most))
    return paths


def _maps(where, maps, eps, text, label, colours, limits) -> list[Path]:
    """A column for each map and a line for each norm; of one norm the maps go on in a second line."""
    _, H, W = maps[0][1].shape
    edges = (-(W // 2) - 0.5, (W - 1) // 2 + 0.5, (H - 1) // 2 + 0.5, -(H // 2) - 0.5)
    style = {"cmap": colours, "vmin": limits[0], "vmax": limits[1], "extent": edges}
    wrapped = len(eps) == 1 and len(maps) > WRAP
    columns, lines = (-(-len(maps) // 2), 2) if wrapped else (len(maps), len(eps))
    with figure(max(1.25 * columns + 0.9, 4.5), 1.4 * lines + 0.7) as fig:
        grid = fig.subplots(lines, columns, squeeze=False, sharey=True)
        panels = list(grid.flat) if wrapped else list(grid.T.flat)
        cells = [(name, errors[e]) for name, errors in maps for e in range(len(eps))]
        for axes, (name, values) in zip(panels, cells, strict=False):
            picture = axes.imshow(values, interpolation="nearest", **style)
            if wrapped or axes.get_subplotspec().is_first_row():
                axes.set_title(name, fontsize=8)
            axes.grid(False)
            axes.set_xticks([-(W // 4), 0, W // 4])
            axes.set_yticks([-(H // 4), 0, H // 4])
            axes.tick_params(labelsize=6)
        for axes in panels[len(cells) :]:
            axes.set_axis_off()
        for i, axes in enumerate(grid[:, 0]):
            axes.set_ylabel(rf"$\epsilon$ = {eps[0 if wrapped else i]:g}", fontsize=8)
        fig.colorbar(picture, ax=grid, label=label, aspect=11 * lines, pad=0.01)
        caption(fig, text)
        return save(fig, where)


def over_sparsity(
    findings: Findings, out: Path, name: str, lines: Sequence[tuple[str, str]], base: str
) -> list[Path]:
    """NAME.{png,svg}: clean accuracy and robustness of runs (run, label) over sparsity, relative to dense."""

    def panel(axes: Any, value: Callable) -> None:
        against(axes, findings, lines, base, value)

    return _pair(findings, out, name, panel, ("Accuracy", "Robustness"), " to dense (points)")


def over_numbers(
    findings: Findings,
    out: Path,
    name: str,
    lines: Sequence[tuple[str, Sequence[tuple[float, Sequence[Card]]]]],
    label: str,
    dense: Sequence[Card] = (),
    logarithmic: bool = False,
) -> list[Path]:
    """NAME.{png,svg}: accuracy and robustness of lines (label, [(x, cards)]) over any number, with the dense mean."""
    numbers = sorted({x for _, points in lines for x, _ in points})
    labels = [line for line, _ in lines]

    def panel(axes: Any, value: Callable) -> None:
        for i, (line, points) in enumerate(lines):
            there = [(x, 100 * value(cards)) for x, cards in points if cards]
            if there:
                x, values = zip(*there, strict=True)
                style = {"color": colour(line, i, labels), "marker": MARKERS[i % len(MARKERS)]}
                bars(axes, x, values, line, **style)
        if dense:
            mean = 100 * value(dense).mean()
            axes.axhline(mean, color="#505050", linewidth=0.9, linestyle=(0, (4, 2)))
        if logarithmic:
            axes.set_xscale("log")
            axes.minorticks_off()
        axes.set_xticks(numbers, [f"{x:g}" for x in numbers])
        axes.set_xlabel(label)

    more = " Dashes: dense mean." if dense else ""
    return _pair(findings, out, name, panel, ("Accuracy", "Corrupted accuracy"), " (%)", more)


def _pair(
    findings: Findings,
    out: Path,
    name: str,
    panel: Callable[[Any, Callable], None],
    labels: tuple[str, str],
    unit: str,
    more: str = "",
) -> list[Path]:
    """NAME.{png,svg}: what `panel` draws of clean accuracy, and beside it of robustness."""
    with figure(6.8, 3.6) as fig:
        pair = fig.subplots(1, 2)
        measures = (findings.clean_of, findings.robust_of)
        for axes, value, text in zip(pair, measures, labels, strict=True):
            panel(axes, value)
            axes.set_ylabel(text + unit)
        legend(fig, 3)
        caption(fig, about(findings, f"Bars: smallest to largest seed.{more}"))
        return save(fig, stem(out, name))
