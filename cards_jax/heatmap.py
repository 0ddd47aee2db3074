"""Fourier heatmaps of cards: the error under noise of every frequency, relative to dense.

python -m cards_jax.heatmap CARD_OR_RUN ... [--baseline=DENSE_RUN] [--eps=3,4,6] [--images=1000] [--save=PATH]
"""

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cards_jax import data, files, folder, hand, heat, heat_report, pack, page, tabular
from cards_jax.commands import (
    Form,
    add_data_flags,
    data_config,
    dense_only,
    ended,
    methods_of,
    say,
    stem,
    use_all_cores,
)
from cards_jax.config import ConfigError
from cards_jax.data import Data
from cards_jax.evaluate.fourier import Settings
from cards_jax.heat import Heat
from cards_jax.heat_report import Row
from cards_jax.log import RunLog


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """Heatmaps of cards and of their dense baseline, and what they were measured with and on.

    title: the name of the data for people.
    """

    found: Sequence[Heat]
    dense: Sequence[Heat]
    settings: Settings
    title: str
    data: Data

    @functools.cached_property
    def rows(self) -> tuple[list[Row], Row | None]:
        """Cards averaged over seeds, and the dense ones; ConfigError where these are of more than one kind."""
        _of_one_kind(self.dense)
        base = heat_report.rows(self.dense, dense=True)
        return heat_report.rows(self.found), base[0] if base else None

    @property
    def images(self) -> int:
        """How many were measured on."""
        return min(self.settings.images, len(self.data.test_images))

    def records(self) -> list[dict[str, Any]]:
        """Mean errors over rings of frequencies: one for each row, norm and ring."""
        return heat_report.table(*self.rows, self.settings)

    def text(self) -> str:
        """The table with a caption."""
        return heat_report.markdown(self.records(), self.settings, self.title, self.images)

    def save(self, stem: Path, plots: Path) -> None:
        """STEM.npz, .md, .csv, and the pictures PLOTS.{png,svg} and PLOTS_difference.{png,svg}."""
        text, cards = self.text(), [*self.found, *self.dense]
        stem.parent.mkdir(parents=True, exist_ok=True)
        about = {**dataclasses.asdict(self.settings), "images": self.images, "data": self.title}
        about |= {"fingerprint": self.data.fingerprint, "dense": len(self.dense)}
        files.deliver_arrays(
            stem.with_name(f"{stem.name}.npz"),
            errors=np.stack([h.errors for h in cards]),
            cards=np.array([h.path.name for h in cards]),
            results=np.array([json.dumps(h.meta.get("result", {})) for h in cards]),
            configs=np.array([json.dumps(h.meta.get("config", {})) for h in cards]),
            settings=np.array(json.dumps(about)),
        )
        files.write_atomically(stem.with_name(f"{stem.name}.md"), text)
        table = tabular.csv_table(self.records(), heat_report.COLUMNS)
        files.write_atomically(stem.with_name(f"{stem.name}.csv"), table)
        heat_report.draw(plots, *self.rows, self.settings, self.title, self.images)


def _of_one_kind(dense: Sequence[Heat]) -> None:
    if len(heat_report.grouped(dense, dense=True)) > 1:
        raise ConfigError("baseline: holds more than one kind of card; allowed is one dense point")


def of_run(c: ConfigDict, cards: Sequence[Path], baseline: Sequence[Path], log: RunLog) -> None:
    """What `evaluate.heatmap` of a run's config asks for: heatmaps, tables and plots in its folder."""
    if not c.evaluate.heatmap:
        return
    s, d = heat.settings(c.evaluate.heatmap, c.evaluate.heatmap_images), data.prepare(c)
    first = jax.process_index() == 0
    measure = lambda paths: heat.evaluate(paths, d, s, log.say, first)
    found, dense = measure(cards), measure(baseline) if baseline else []
    if first:
        path = folder.path_of(c)
        findings = Findings(found, dense, s, heat.title_of(c), d)
        findings.save(path / "tables" / "heatmap", path / "plots" / "heatmap")


# --- the command


def measured(args: argparse.Namespace) -> Findings:
    """Everything that the command does before it prints and saves; ConfigError for what was given wrong."""
    s = heat.settings(args.eps, args.images)
    dense_paths = hand.find([args.baseline]) if args.baseline else []
    paths = [p for p in hand.find(args.cards) if p not in dense_paths]
    if not paths:
        raise ConfigError("cards: all of them are the baseline's; allowed are others beside it")
    c = data_config(args, paths)
    dense_only("baseline", args.baseline, methods_of(dense_paths))
    _of_one_kind([Heat(path, pack.meta(path), np.empty(0)) for path in dense_paths])
    d = data.prepare(c)
    every = {h.path: h for h in heat.evaluate([*paths, *dense_paths], d, s, say)}
    found, dense = ([every[p] for p in places] for places in (paths, dense_paths))
    return Findings(found, dense, s, heat.title_of(c), d)


def _norms(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(x) for x in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: allowed are numbers with commas") from None


def form() -> argparse.ArgumentParser:
    """The command line."""
    f = Form("python -m cards_jax.heatmap", description=__doc__.split("\n")[0])
    add = f.add_argument
    add("cards", nargs="+", metavar="CARD_OR_RUN", help="card files, run folders, folders of cards")
    add("--baseline", metavar="DENSE_RUN", help="dense cards that others are compared with")
    add("--eps", type=_norms, default=(3.0, 4.0, 6.0), help="L2 norms in each channel")
    add("--images", type=int, default=1000, help="the first so many of the test set")
    add("--title", dest="data_title", help="as --data.title")
    add_data_flags(f)
    add("--save", type=stem, help="writes SAVE.npz, .csv, .md, .png, .svg, SAVE_difference.*")
    return f


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = form()
    args = parser.parse_args(arguments)
    use_all_cores()

    def action() -> None:
        if args.save:
            files.check_place(args.save)
        findings = measured(args)
        if args.save:
            findings.save(args.save, args.save)
            page.rewrite(args.save)
            say(f"written: {args.save}.*")
        print(findings.text())

    return ended(parser.prog, action)


if __name__ == "__main__":
    sys.exit(main())
