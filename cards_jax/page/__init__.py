"""report.html: what a run, several runs or a deck found, as one file that needs nothing beside it.

    python -m cards_jax.page RUN            writes RUN/report.html
    python -m cards_jax.page EXPERIMENT     a folder of runs: writes EXPERIMENT/report.html
    python -m cards_jax.page MY.deck        writes MY.html, with what `deck evaluate --save=MY` left

Whatever a run left is shown (outcome.py reads it), whatever it did not leave is absent. Numbers come from the tables
that the run wrote, so that page and tables cannot disagree.
"""

from collections.abc import Sequence
from pathlib import Path

from cards_jax import files
from cards_jax.commands import Form, ended
from cards_jax.config import ConfigError
from cards_jax.deck_file import SUFFIX
from cards_jax.page import deck_page, outcome, run_page
from cards_jax.page.run_page import NAME

__all__ = ["NAME", "main", "make", "rewrite", "write_run"]


def write_run(folder: Path) -> Path:
    """Write a finished run's report.html, whole or not at all; its path.

    Raises ConfigError where the folder holds no results, OSError where it cannot be written.
    """
    files.write_atomically(folder / NAME, run_page.of_run(folder))
    return folder / NAME


def rewrite(stem: Path) -> None:
    """Write a run's page anew where STEM.md is one of the tables that it shows."""
    folder = stem.absolute().parent
    if folder.name == "tables" and outcome.is_run(folder.parent) and stem.name in outcome.TABLES:
        write_run(folder.parent)


def make(
    places: Sequence[Path],
    save: Path | None = None,
    evaluation: Path | None = None,
    title: str | None = None,
) -> Path:
    """Write the page of a run's folder, of several or a folder of them, or of a deck's file; its path.

    evaluation: stem of what `deck evaluate --save` left, in place of that beside the deck. Raises ConfigError for what
    is none of these, ValueError for a damaged deck.
    """
    decks = [p for p in places if p.is_file() or p.suffix == SUFFIX and not p.is_dir()]
    if decks:
        if len(places) > 1:
            raise ConfigError(f"{decks[0]}: allowed is one deck alone")
        if not decks[0].is_file():
            raise ConfigError(f"{decks[0]}: no such file")
        stem = deck_page.stem_of(decks[0])
        target = save or stem.with_name(f"{stem.name}.html")
        text = deck_page.of_deck(decks[0], evaluation, target.parent)
    else:
        if evaluation:
            raise ConfigError(f"evaluation={str(evaluation)!r}: allowed beside a deck")
        runs = [run for place in places for run in _runs(place)]
        target = save or _beside(places)
        if len(runs) == 1:
            text = run_page.of_run(runs[0], target.parent)
        else:
            name = title or (places[0].resolve().name if len(places) == 1 else "Runs")
            text = run_page.of_runs(list(dict.fromkeys(runs)), name, target.parent)
    return files.deliver(target, text)


def _runs(place: Path) -> list[Path]:
    """A run, or the runs in a folder, dense ones last."""
    if outcome.is_run(place):
        return [place]
    found = sorted(p.parent for p in place.glob("*/results.json"))
    if not found:
        raise ConfigError(
            f"{place}: no finished run there; allowed are runs, folders of runs, one deck"
        )
    return found


def _beside(places: Sequence[Path]) -> Path:
    if len(places) > 1:
        raise ConfigError("save: is not given; of several places it must say where the page goes")
    return places[0] / NAME


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    form = Form("python -m cards_jax.page", description=__doc__.split("\n")[0])
    add = form.add_argument
    add("paths", nargs="+", type=Path, metavar="PATH", help="runs, a folder of runs, or one deck")
    add("--save", type=Path, metavar="FILE", help="in place of report.html there, or DECK.html")
    add("--evaluation", type=Path, metavar="STEM", help="that `deck evaluate --save=STEM` wrote")
    add("--title", help="heading of a page of several runs")
    args = form.parse_args(arguments)
    action = lambda: print(make(args.paths, args.save, args.evaluation, args.title))
    return ended(form.prog, action)
