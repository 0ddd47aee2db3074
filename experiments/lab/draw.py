"""Parts of figures that several experiments share, in the style of cards_jax/figures.py."""

import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cards_jax import figures, files, heat_report, tabular
from cards_jax.evaluate.bootstrap import Estimate
from cards_jax.evaluate.fourier import Settings
from cards_jax.figures import figure, save
from lab import verdict
from lab.collect import Card, Findings

COLOURS = {  # one for each method and control, in all figures
    "dense": "#505050",
    "FT": "#E69F00",
    "GMP": "#D55E00",
    "LTH": "#56B4E9",
    "LRR": "#0072B2",
    "EP (layerwise)": "#009E73",
    "EP (global)": "#7FCBAE",
    "BP (layerwise)": "#AA4499",
    "BP (global)": "#DDA0CF",
    "dense, twice the epochs": "#000000",
    "dense, LRR's cycles": "#7F7F7F",
    "dense, LRR's cycles and rates": "#B5B5B5",
    "dense, GMP's learning rate": "#8C564B",
    "FT, nothing removed": "#C7A76C",
    "GMP, LRR's epochs": "#882255",
    "FT, LRR's epochs": "#999933",
    "random masks": "#332288",
    "LRR's masks, shuffled": "#44AA99",
}
COLOURS_OF = figures.COLOURS  # by number
MARKERS = "osD^vP*X"
Lost = tuple[float, float, dict[str, Any]]  # place on the x axis, mean, look of its line
WRAP = 5  # maps of one norm that fit into one line
PAIRED = "Paired by seed; thin bars: smallest to largest seed, thick: 95% interval; arrows: a layer is lost."


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
    axes.set_xticks([kept(s) for s in sparsities], [f"{100 * s:.4g}" for s in sparsities])
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


def about(
    findings: Findings,
    more: str = "",
    n: str = "",
    corrupted: bool = True,
    runs: Sequence[str] | None = None,
) -> str:
    """What every caption says: data, corruptions (of what shows them), images, how many seeds, or `n` instead, and
    which of its runs (None: of all) have no cards yet."""
    counts = sorted({len(cards) for cards in findings.groups.values()})
    seeds = (
        f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}" if counts else "0"
    )
    trained = sorted({card.result.get("train_images") or 0 for card in findings.cards} - {0})
    images = f", {' or '.join(f'{n:,}' for n in trained)} training images" if trained else ""
    n = n or f"n = {seeds} seeds"
    text = f"{findings.title}{images}, scale {findings.scale.name}, {n}."
    if findings.source and corrupted:
        text += f" Corrupted: {findings.source.name}; {len(findings.source.labels):,} images."
    if absent := [name for name in findings.absent if runs is None or name in runs]:
        text += f" Not there yet: {', '.join(absent)}."
    return f"{text} {more}".strip()


def against(
    axes: Any, findings: Findings, lines: Sequence[tuple[str, str]], base: str, measure: str
) -> list[Lost]:
    """Lines (run, label) over sparsity: differences to the dense cards of the same seeds, in points, as tables have
    them. Thin bars reach from the smallest to the largest seed, thick ones are 95% intervals.

    measure: of verdict.MEASURES. Groups that lost a layer are left out and given back, for `below`.
    """
    dense = findings.group(base)
    if not dense:
        return []
    axes.axhline(0, color="#505050", linewidth=0.9, linestyle=(0, (4, 2)))
    shown = sorted({s for run, _ in lines for s in findings.sparsities(run)})
    width = (kept(shown[-1]) - kept(shown[0]) if len(shown) > 1 else 1) * 0.018
    labels, lost = [label for _, label in lines], []
    for i, (run, label) in enumerate(lines):
        found = [
            (s, e, verdict.constant(findings, (run, s)))
            for s in findings.sparsities(run)
            if (e := verdict.difference(findings, measure, (run, s), (base, 0.0)))
        ]
        if not found:
            continue
        shift = (i - (len(lines) - 1) / 2) * width
        style = {"color": colour(label, i, labels), "marker": MARKERS[i % len(MARKERS)]}
        alive = [(kept(s) + shift, e) for s, e, constant in found if not constant]
        _estimates(axes, alive, label, **style)
        lost += [(kept(s) + shift, e.mean, style) for s, e, constant in found if constant]
    ticks(axes, shown)
    axes.set_title(
        f"{100 * values_of(findings, measure, dense).mean():.2f}% dense", fontsize=7, loc="right"
    )
    return lost


def values_of(findings: Findings, measure: str, cards: Sequence[Card]) -> np.ndarray:
    """Clean or corrupted accuracies (R,), fractions."""
    return {"clean": findings.clean_of, "corrupted": findings.robust_of}[measure](cards)


def _estimates(axes: Any, points: Sequence[tuple[float, Estimate]], label: str, **style) -> None:
    """Means with their extremes, and their intervals where there are seeds enough for one."""
    x = [x for x, _ in points]
    mean, low, high = (
        np.array([getattr(e, k) for _, e in points]) for k in ("mean", "smallest", "largest")
    )
    thin = {"markersize": 4, "capsize": 2, "elinewidth": 0.8, "linewidth": 1.0, **style}
    axes.errorbar(x, mean, yerr=figures.reach(mean, low, high), label=label, **thin)
    for at, e in points:
        if e.n >= verdict.SEEDS:
            axes.plot([at, at], [e.low, e.high], color=style["color"], linewidth=2.6, alpha=0.45)


def below(row: Sequence[Any], lost: Sequence[Sequence[Lost]]) -> None:
    """Arrows at the lower edge of panels that share an axis, with a number each, for means that would squeeze all
    others; room is made once."""
    if not any(lost):
        return
    low, high = row[0].get_ylim()
    row[0].set_ylim(low - 0.16 * (high - low), high)
    for axes, each in zip(row, lost, strict=True):
        for i, (x, mean, style) in enumerate(each):
            height = 0.02 + 0.06 * (i % 2)
            where = {"transform": axes.get_xaxis_transform(), "color": style["color"]}
            axes.plot([x], [height], marker="v", markersize=4, linestyle="none", **where)
            axes.text(x, height, f"{mean:.0f}  ", ha="right", va="center", fontsize=6, **where)


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
    flat = [
        label for label, cards in shown if 2 * sum(bool(c.emptied) for c in cards) >= len(cards)
    ]
    if flat:
        text += f"; a layer is lost, and answers are constant: {', '.join(flat)}"
    caption_ = about(
        findings, f"{text}; {images} images, mean over seeds.", corrupted=False, runs=()
    )
    maps = [(label, mean_heat(cards)) for label, cards in shown]
    paths = [out / f"{name}.md"]
    limits = heat_report.span([m for _, m in maps])
    paths += _maps(stem(out, name), maps, eps, caption_, "Error (%)", heat_report.ERROR, limits)
    if dense and rows:
        zero = mean_heat(dense)
        maps = [(label, mean_heat(cards) - zero) for label, cards in rows]
        most = max(1.0, *(float(np.abs(m).max()) for _, m in maps))
        label, limits = "Error to dense (points)", (-most, most)
        where = stem(out, f"{name}_difference")
        paths += _maps(where, maps, eps, caption_, label, heat_report.CHANGE, limits)
    return paths


def _maps(where, maps, eps, text, label, colours, limits) -> list[Path]:
    """A column for each map and a line for each norm; of one norm the maps go on in a second line."""
    wrapped = len(eps) == 1 and len(maps) > WRAP
    columns, lines = (-(-len(maps) // 2), 2) if wrapped else (len(maps), len(eps))
    with figure(max(1.25 * columns + 0.9, 4.5), 1.4 * lines + 0.8) as fig:
        grid = fig.subplots(lines, columns, squeeze=False, sharey=True)
        panels = list(grid.flat) if wrapped else list(grid.T.flat)
        cells = [(name, errors[e]) for name, errors in maps for e in range(len(eps))]
        for axes, (name, values) in zip(panels, cells, strict=False):
            picture = heat_report.panel(axes, values, colours, limits)
            if wrapped or axes.get_subplotspec().is_first_row():
                axes.set_title(name, fontsize=8)
            axes.tick_params(labelsize=6)
        for axes in panels[len(cells) :]:
            axes.set_axis_off()
        for i, axes in enumerate(grid[:, 0]):
            axes.set_ylabel(rf"$\epsilon$ = {eps[0 if wrapped else i]:g}", fontsize=8)
        fig.colorbar(picture, ax=grid, label=label, aspect=11 * lines, pad=0.01)
        caption(fig, f"Axes: frequency in cycles per image. {text}")
        return save(fig, where)


def over_sparsity(
    findings: Findings, out: Path, name: str, lines: Sequence[tuple[str, str]], base: str
) -> list[Path]:
    """NAME.{png,svg}: clean accuracy and robustness of runs (run, label) over sparsity, relative to dense."""

    def panel(axes: Any, measure: str) -> None:
        below([axes], [against(axes, findings, lines, base, measure)])

    labels = ("Accuracy to dense (points)", "Robustness to dense (points)")
    return _pair(findings, out, name, panel, labels, PAIRED)


def over_numbers(
    findings: Findings,
    out: Path,
    name: str,
    lines: Sequence[tuple[str, Sequence[tuple[float, Sequence[Card]]]]],
    label: str,
    dense: Sequence[Card] = (),
    logarithmic: bool = False,
    text: str = "",
) -> list[Path]:
    """NAME.{png,svg}: accuracy and robustness of lines (label, [(x, cards)]) over any number, with the dense mean.

    Lines are set apart a little, so that their bars do not hide each other. text: for the caption.
    """
    numbers = sorted({x for _, points in lines for x, _ in points})
    labels = [line for line, _ in lines]
    step = 0.012 * (math.log(numbers[-1] / numbers[0]) if logarithmic else numbers[-1] - numbers[0])
    moved = lambda x, by: x * math.exp(by * step) if logarithmic else x + by * step

    def panel(axes: Any, measure: str) -> None:
        value = lambda cards: values_of(findings, measure, cards)
        for i, (line, points) in enumerate(lines):
            there = [(x, 100 * value(cards)) for x, cards in points if cards]
            if there:
                x, values = zip(*there, strict=True)
                x = [moved(at, i - (len(lines) - 1) / 2) for at in x]
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

    more = f"{text} Bars: smallest to largest seed.".strip() + " Dashes: dense mean." * bool(dense)
    return _pair(findings, out, name, panel, ("Accuracy (%)", "Corrupted accuracy (%)"), more)


def _pair(
    findings: Findings,
    out: Path,
    name: str,
    panel: Callable[[Any, str], None],
    labels: tuple[str, str],
    more: str,
) -> list[Path]:
    """NAME.{png,svg}: what `panel` draws of clean accuracy, and beside it of robustness."""
    with figure(6.8, 3.6) as fig:
        for axes, measure, label in zip(
            fig.subplots(1, 2), ("clean", "corrupted"), labels, strict=True
        ):
            panel(axes, measure)
            axes.set_ylabel(label)
        legend(fig, 3)
        caption(fig, about(findings, more))
        return save(fig, stem(out, name))


def panels(
    findings: Findings,
    where: Path,
    columns: Sequence[tuple[str, Sequence[tuple[str, str]], str]],
    more: str = "",
) -> list[Path]:
    """WHERE.{png,svg}: a column for each (title, lines, base), accuracy above and robustness below, as `against`."""
    with figure(max(3.1 * len(columns), 6.4), 5.2) as fig:
        grid = fig.subplots(2, len(columns), squeeze=False, sharex="col", sharey="row")
        for row, measure in zip(grid, ("clean", "corrupted"), strict=True):
            pairs = zip(row, columns, strict=True)
            below(row, [against(axes, findings, *of, measure) for axes, (_, *of) in pairs])
        for axes, (title, *_) in zip(grid[0], columns, strict=True):
            axes.set_title(title, loc="left")
            axes.set_xlabel("")
        grid[0, 0].set_ylabel("Accuracy to dense (points)")
        grid[1, 0].set_ylabel("Robustness to dense (points)")
        legend(fig, 4)
        named = [run for _, lines, _ in columns for run, _ in lines]
        caption(fig, about(findings, f"{more} {PAIRED}".strip(), runs=named))
        return save(fig, where)
