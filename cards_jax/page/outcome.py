"""What a finished run left in its folder, as far as it is there; nothing is computed here."""

import csv
import dataclasses
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from cards_jax import config, hand, heat_report, metrics, size
from cards_jax.config import ConfigError
from cards_jax.heat import Heat
from cards_jax.page import tables
from cards_jax.page.tables import Table

Row = dict[str, Any]
TABLES = ("results", "corruptions", "heatmap")  # stems in tables/


@dataclasses.dataclass(frozen=True, eq=False)
class Heats:
    """Heatmaps of a run's cards, those of its dense baseline last: `dense` of them."""

    cards: list[Heat]
    dense: int
    settings: dict[str, Any]

    @property
    def groups(self) -> list[tuple[str, bool, list[Heat]]]:
        """(label, whether dense, cards) of those that differ in nothing but their seed, dense ones first."""
        split = len(self.cards) - self.dense
        parts = (True, self.cards[split:]), (False, self.cards[:split])
        return [
            (label, dense, members)
            for dense, part in parts
            for label, members in heat_report.grouped(part, dense).items()
        ]


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """A finished run. Whatever it did not leave is None or empty; `notes` say what was there and could not be read."""

    path: Path
    title: str
    results: Row
    config: ConfigDict | None
    versions: Row
    commands: list[str]
    metrics: list[Row]
    tables: dict[str, list[Table]]
    points: list[Row]
    cells: list[Row]
    heats: Heats | None
    sizes: list[tuple[Row, size.Table]]
    baseline: Path | None
    notes: list[str]


def is_run(path: Path) -> bool:
    """Whether a folder is that of a finished run."""
    return (path / "results.json").is_file()


def read(path: Path) -> Outcome:
    """What lies in a run's folder; ConfigError where there are no results of a run."""
    try:
        results = json.loads((path / "results.json").read_text())
        if not all(isinstance(r, dict) for r in [results, *results["results"]]):
            raise ValueError("it is not what a run writes")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: no readable results.json there ({error}); allowed are finished runs"
        ) from None
    notes: list[str] = []

    def tried(name: str, action, otherwise):
        """What an action gives, otherwise a note; nothing where its file is not there."""
        try:
            return action(path / name)
        except FileNotFoundError:
            return otherwise
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            zipfile.BadZipFile,
        ) as error:
            notes.append(f"{name} cannot be read: {' '.join(str(error).split())}")
            return otherwise

    text = lambda file: file.read_text()
    cells = tried("tables/corruptions_cells.csv", _csv, [])
    heats = tried("tables/heatmap.npz", _heats, None)
    mapped = [h.meta["result"] or {} for h in heats.cards] if heats else []
    for name, field, measured in (
        ("corruptions", "corruptions", cells),
        ("heatmaps", "heatmap", mapped),
    ):
        notes += _of_others(name, field, results["results"], measured)
    return Outcome(
        path=path,
        title=str(results.get("name") or path.resolve().name),
        results=results,
        config=tried("config.json", lambda file: config.from_json(file.read_text()), None),
        versions=tried("versions.json", lambda file: dict(json.loads(file.read_text())), {}),
        commands=tried("commands.txt", text, "").splitlines(),
        metrics=tried("metrics.jsonl", lambda file: _metrics(file, results), []),
        tables={
            name: tried(f"tables/{name}.md", lambda file: tables.read(file.read_text()), [])
            for name in TABLES
        },
        points=tried("tables/corruptions.csv", _csv, []),
        cells=cells,
        heats=heats,
        sizes=tried("cards", lambda folder: _sizes(folder, results["results"], notes), []),
        baseline=_baseline(path, results),
        notes=notes,
    )


def _of_others(name: str, field: str, results: list[Row], measured: Sequence[Row]) -> list[str]:
    """A note where measured cards are not those of the results, as after a call with more seeds that measured none."""
    if not all(row.get("id") for row in measured):  # nobody can tell
        return []
    methods = {row.get("method") for row in results}
    alive = {row.get("id") for row in results if row.get("diverged_at") is None}
    of_run = {row.get("id") for row in measured if row.get("method") in methods}
    missing, beside = len(alive - of_run), len(of_run - {row.get("id") for row in results})
    what = [f"{missing} of {len(alive)} realizations missing"] * bool(missing)
    what += [f"{beside} of other calls among them"] * bool(beside)
    if not (measured and what):
        return []
    again = f"the command with --config.evaluate.{field} measures anew"
    return [f"{name} were measured of other cards than the results: {', '.join(what)} ({again})"]


def _metrics(path: Path, results: Row) -> list[Row]:
    """The rows of the realizations that the results are about, and of phases that these have in common."""
    wanted = {row.get("id") for row in results["results"]} | set(results.get("shared", ()))
    return [row for row in metrics.read_metrics(path) if row["realization"] in wanted]


def _csv(path: Path) -> list[Row]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def _heats(path: Path) -> Heats:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
        errors, names = held["errors"], held["cards"].tolist()
        metas = [{"result": json.loads(text)} for text in held["results"].tolist()]
        if "configs" in held:  # earlier versions did not write them
            configs = map(json.loads, held["configs"].tolist())
            metas = [{**m, "config": c} for m, c in zip(metas, configs, strict=True)]
        about = json.loads(str(held["settings"]))
    if errors.ndim != 4 or len(errors) != len(names) or errors.shape[1] != len(about["eps"]):
        raise ValueError(f"heatmaps of shape {errors.shape}")
    cards = [
        Heat(Path(name), meta, mine) for name, meta, mine in zip(names, metas, errors, strict=True)
    ]
    return Heats(cards, int(about["dense"]), about)


def _sizes(folder: Path, results: list[Row], notes: list[str]) -> list[tuple[Row, size.Table]]:
    """(result, sizes) of the cards that the results are about."""
    by_id = hand.by_identity(folder)
    found = []
    for result in results:
        file = by_id.get(result.get("id"))
        if file is None:
            continue
        try:
            found.append((result, size.table(file, file.name)))
        except (OSError, ValueError) as error:
            notes.append(" ".join(str(error).split()))
    return found


def _baseline(path: Path, results: Row) -> Path | None:
    """The folder beside a run whose summary is that of the run's baseline."""
    wanted, first = results.get("baseline"), f"{results.get('name')}_dense-"
    for other in sorted(path.parent.glob("*_dense-*/results.json")) if wanted else ():
        if not other.parent.name.startswith(first):
            continue
        try:
            if json.loads(other.read_text()).get("summary") == wanted:
                return other.parent
        except (OSError, ValueError, AttributeError):
            continue
    return None
