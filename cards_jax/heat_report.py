"""Heatmaps of several cards for people: rows averaged over seeds, tables, pictures."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cards_jax import figures, fourier, summary
from cards_jax.evaluate.fourier import Settings
from cards_jax.heat import Heat

POINT = summary.POINT
RINGS = {"all": (0, 9), "low": (0, 1 / 3), "mid": (1 / 3, 2 / 3), "high": (2 / 3, 9)}
ERROR, CHANGE = "viridis", "RdBu_r"  # colours of errors, and of differences
COLUMNS = ("card", "eps", "ring", "n", "error_mean", "error_min", "error_max", "to_dense")


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """Cards that differ in nothing but their seed: label, errors float64 (n, E, H, W)."""

    label: str
    errors: np.ndarray


def grouped(heats: Sequence[Heat], dense: bool = False) -> dict[str, list[Heat]]:
    """Cards by method, sparsity and whatever else differs but the seed, in the order in which they first occur.

    Diverged ones are left out. Cards of another config are never seeds of one another.
    """
    alive = [h for h in heats if h.meta.get("result", {}).get("diverged_at") is None]
    about = lambda key: [heat.meta.get(key) or {} for heat in alive]
    results = summary.told_apart(about("result"), about("config"))
    groups: dict[Any, list[Heat]] = {}
    points: dict[Any, Any] = {}
    for heat, result in zip(alive, results, strict=True):
        key = tuple(result.get(k) for k in POINT) if result else heat.path.stem
        groups.setdefault(key, []).append(heat)
        points[key] = result
    labels = {key: _label(r, _varying(points.values())) if r else key for key, r in points.items()}
    if dense and not _varying(points.values()):
        labels = dict.fromkeys(labels, "dense")
    # Where methods differ rates are not shown, as long as cards can be told apart without.
    for label in set(labels.values()):
        clash = [key for key in labels if labels[key] == label]
        if len(clash) > 1:
            varies = _varying([points[key] for key in clash])
            for key in clash:
                labels[key] = f"{label} {_rates(points[key], varies)}"
    return {labels[key]: members for key, members in groups.items()}


def rows(heats: Sequence[Heat], dense: bool = False) -> list[Row]:
    """One row per group of cards."""
    groups = grouped(heats, dense).items()
    return [Row(label, np.stack([heat.errors for heat in members])) for label, members in groups]


def _varying(results: Iterable[dict[str, Any]]) -> list[str]:
    results = list(results)
    return [k for k in POINT if len({r.get(k) for r in results}) > 1]


def _label(result: dict[str, Any], varies: Sequence[str]) -> str:
    words = [result.get("method", "card")]
    words += [str(result[k]) for k in ("scope", "model", "run") if k in varies and result.get(k)]
    if result.get("sparsity"):
        words.append(f"{100 * result['sparsity']:.6g}%")
    if "method" not in varies:
        words.append(_rates(result, varies))
    return " ".join(filter(None, words))


def _rates(result: dict[str, Any], varies: Sequence[str]) -> str:
    short = {"learning_rate": "lr", "weight_decay": "wd"}
    return " ".join(f"{word} {result[k]:g}" for k, word in short.items() if k in varies)


def table(found: Sequence[Row], dense: Row | None, s: Settings) -> list[dict[str, Any]]:
    """Mean errors over rings of frequencies, fractions; `to_dense` is in percentage points.

    low, mid and high end at 1/3, 2/3 of the highest frequency along an axis, and in the corners; a cell counts once.
    """
    out = []
    for row in [*([dense] if dense else []), *found]:
        radius = fourier.radius(*row.errors.shape[2:])
        for e, eps in enumerate(s.eps):
            for ring, (low, high) in RINGS.items():
                cells = (radius >= low) & (radius < high)
                if not cells.any():
                    continue
                each = row.errors[:, e, cells].mean(1)
                record = dict(zip(COLUMNS, (row.label, eps, ring, len(each)), strict=False))
                record |= {
                    "error_mean": each.mean(),
                    "error_min": each.min(),
                    "error_max": each.max(),
                }
                if dense is not None and row is not dense:
                    base = dense.errors[:, e, cells].mean()
                    record["to_dense"] = 100 * (each.mean() - base)
                out.append(record)
    return out


def markdown(records: Sequence[dict[str, Any]], s: Settings, title: str, images: int) -> str:
    """The table with a caption."""
    text = (
        f"Error in percent under Fourier noise of norm eps in each channel ({title}, {images} test images, "
        f"{'clipped to [0, 1]' if s.clip else 'not clipped'}): mean over the cells of a ring of frequencies, and over "
        "n cards, with the least and the most of a card; then percentage points above the dense mean."
    )
    head = ["card", "eps", "ring", "n", "error (%)", "min", "max", "to dense"]
    lines = [head, [":--", "--:", ":--", *["--:"] * 5]]
    for r in records:
        percents = [f"{100 * r[k]:.2f}" for k in COLUMNS[4:7]]
        change = f"{r['to_dense']:+.2f}" if "to_dense" in r else ""
        lines.append([r["card"], f"{r['eps']:g}", r["ring"], str(r["n"]), *percents, change])
    return f"{text}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


# --- pictures


def draw(
    stem: Path, found: Sequence[Row], dense: Row | None, s: Settings, title: str, images: int
) -> list[Path]:
    """STEM.{png,svg}, errors, and STEM_difference.{png,svg}, percentage points above dense; the paths.

    Rows are methods and sparsities, columns norms, as in Figure 2 of the paper.
    """
    shown = [*([dense] if dense else []), *found]
    if not shown:
        return []  # all diverged
    about = f"{title}, {images} images"
    maps = [(row.label, 100 * row.errors.mean(0)) for row in shown]
    paths = _grid(stem, maps, s, about, "Error (%)", ERROR, span([m for _, m in maps]))
    if dense and found:
        base = dense.errors.mean(0)
        changes = [(row.label, 100 * (row.errors.mean(0) - base)) for row in found]
        most = max(1.0, *(float(np.abs(change).max()) for _, change in changes))
        label = "Error minus that of dense (points)"
        name = stem.with_name(f"{stem.name}_difference")
        paths += _grid(name, changes, s, about, label, CHANGE, (-most, most))
    return paths


def span(maps: Sequence[np.ndarray]) -> tuple[float, float]:
    """Limits of one colour scale for errors in percent: all that occur, to the next multiples of 5."""
    low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
    return 5 * np.floor(low / 5), max(5 * np.ceil(high / 5), 5 * np.floor(low / 5) + 5)


def panel(axes: Any, values: np.ndarray, colours: str, limits: tuple[float, float]) -> Any:
    """One map (H, W), frequency 0 in its middle, ticks in cycles per image; what a colour bar is made of."""
    H, W = values.shape
    edges = (-(W // 2) - 0.5, (W - 1) // 2 + 0.5, (H - 1) // 2 + 0.5, -(H // 2) - 0.5)
    style = {"cmap": colours, "vmin": limits[0], "vmax": limits[1], "extent": edges}
    picture = axes.imshow(values, interpolation="nearest", **style)
    axes.grid(False)
    axes.set_xticks([-(W // 4), 0, W // 4])
    axes.set_yticks([-(H // 4), 0, H // 4])
    return picture


def _grid(
    stem: Path,
    maps: Sequence[tuple[str, np.ndarray]],
    s: Settings,
    about: str,
    label: str,
    colours: str,
    limits: tuple[float, float],
) -> list[Path]:
    with figures.figure(1.6 * len(s.eps) + 1.2, 1.6 * len(maps) + 0.7) as figure:
        grid = figure.subplots(len(maps), len(s.eps), squeeze=False, sharex=True, sharey=True)
        for number, (line, (name, errors)) in enumerate(zip(grid, maps, strict=True)):
            for axes, values, eps in zip(line, errors, s.eps, strict=True):
                picture = panel(axes, values, colours, limits)
                if number == 0:
                    axes.set_title(rf"$\epsilon$ = {eps:g}")
            line[0].set_ylabel(name)
        figure.colorbar(picture, ax=grid, label=label, aspect=15 * len(maps), pad=0.02)
        figure.supxlabel(
            f"Frequency (cycles per image); {about}", fontsize=7, color="#707070", x=0.01, ha="left"
        )
        stem.parent.mkdir(parents=True, exist_ok=True)
        return figures.save(figure, stem)
