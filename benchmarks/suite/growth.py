"""How time grows: of training with R, of heatmaps with images, bases and cards; as tables and a figure."""

import statistics
import time
from collections.abc import Sequence

from benchmarks.heatmap import cards_jax_contestant
from benchmarks.steps import Case
from benchmarks.suite import Options, Table, contest, failed, measured, median
from benchmarks.suite.train import of_case

QUICK = {"R": (2, 4), "images": (16, 32), "bases": (1, 4), "cards": (1,)}
FULL = {
    "R": (1, 2, 4, 8, 16, 32),
    "images": (64, 128, 256, 512),
    "bases": (2, 4, 8, 16),
    "cards": (1, 2, 4, 8),
}
BATCH = 64


def sweep_seconds(points: Sequence[tuple[int, int, int]], rows: int, rounds: int) -> list[float]:
    """Median seconds of heatmaps of (images, bases, cards), taking turns in one process."""
    sweeps = {(i, c): cards_jax_contestant(i, c, rows) for i, _, c in dict.fromkeys(points)}
    for sweep in sweeps.values():
        sweep(1)
    seconds: list[list[float]] = [[] for _ in points]
    for _ in range(rounds):
        for (images, bases, cards), found in zip(points, seconds, strict=True):
            began = time.perf_counter()
            sweeps[images, cards](bases)
            found.append(time.perf_counter() - began)
    return [statistics.median(found) for found in seconds]


def run(options: Options) -> list[Table]:
    """Tables, and growth.png and growth.svg in the folder."""
    sizes = QUICK if options.quick else FULL
    tables = [_training(sizes["R"], options), _heatmaps(sizes, options)]
    if options.folder and all(table.rows for table in tables):
        _draw(tables, options)
        tables[0].notes.append("![growth](growth.png)")
    return tables


def _training(counts: Sequence[int], options: Options) -> Table:
    cases = [Case("conv4", "ep", BATCH, r) for r in counts]
    rates, failures = contest([of_case(case) for case in cases], options)
    rows = [
        {
            "R": case.realizations,
            "ms per step and realization": 1000 * BATCH / median(rates, case.name),
        }
        for case in cases
        if case.name in rates
    ]
    note = f"Edge-popup of Conv4, batch {BATCH}; medians of interleaved rounds. R = 1 splits its batch over the cores."
    return Table("Growth of training with R", rows, [note, *failed(failures)])


def _heatmaps(sizes: dict[str, Sequence[int]], options: Options) -> Table:
    images, bases, cards = (sizes[k][0] for k in ("images", "bases", "cards"))
    points = [("images", n, (n, bases, cards)) for n in sizes["images"]]
    points += [("bases", n, (images, n, cards)) for n in sizes["bases"]]
    points += [("cards", n, (images, bases, n)) for n in sizes["cards"]]
    arguments = {"points": [p for *_, p in points], "rows": images, "rounds": options.rounds}
    found, reason = measured(options, "growth of heatmaps", sweep_seconds, **arguments)
    rows = [
        {"grows": what, "to": n, "images": p[0], "bases": p[1], "cards": p[2], "seconds": seconds}
        for (what, n, p), seconds in zip(points, found or [], strict=False)
    ]
    note = "Of Conv4; medians of rounds in which all take turns in one process."
    return Table("Growth of heatmaps", rows, [note] + [reason] * bool(reason))


def _draw(tables: list[Table], options: Options) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(13, 3.2), layout="constrained")
    training, heatmaps = tables
    x = [row["R"] for row in training.rows]
    axes[0].plot(x, [row["ms per step and realization"] for row in training.rows], "o-")
    axes[0].set(xlabel="realizations R", ylabel="ms per step and realization", title="Training")
    for axis, what in zip(axes[1:], ("images", "bases", "cards"), strict=True):
        rows = [row for row in heatmaps.rows if row["grows"] == what]
        x, y = [row["to"] for row in rows], [row["seconds"] for row in rows]
        axis.plot(x, y, "o-", label="measured")
        axis.plot(x, [y[0] * n / x[0] for n in x], ":", color="gray", label="proportional")
        axis.set(xlabel=what, ylabel="seconds", title=f"Heatmap, more {what}")
        axis.legend(frameon=False)
    axes[0].set_ylim(bottom=0)
    for axis in axes[1:]:
        axis.set_yscale("log")
    for axis in axes:
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:.0f}")
    for ending in ("png", "svg"):
        figure.savefig(options.folder / f"growth.{ending}", dpi=150)
    pyplot.close(figure)
