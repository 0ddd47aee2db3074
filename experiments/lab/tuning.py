"""Learning rate and weight decay of a method, chosen on holdout images among a grid that all methods are given."""

import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cards_jax import files, folder, models
from cards_jax.config import ConfigError
from cards_jax.data import corrupted
from lab import estimate
from lab.plan import TUNE, Place, Run, resolved

SCALARS = ("learning_rate", "weight_decay")
COMMON = ("train_images", "batch_size")  # of all that one grid tunes at a scale


def place_of(run: Run, place: Place) -> Path:
    """Where the choice of a tuning run is kept."""
    path = folder.path_of(resolved(run, place))
    return path.parent / "tuned" / f"{path.name}.json"


def choose(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The point of the grid with the best mean accuracy on holdout images; of equals the first.

    A point of which a seed diverged is passed over. Raises ValueError where there is nothing to choose from.
    """
    points: dict[tuple, list[dict]] = defaultdict(list)
    for result in results:
        points[tuple(result[k] for k in SCALARS)].append(result)
    table = []
    for point, found in points.items():
        accuracies = [r.get("holdout_accuracy") for r in found]
        if None in accuracies and all(r.get("diverged_at") is None for r in found):
            raise ValueError("results without holdout_accuracy; allowed are runs with holdout > 0")
        alive = None not in accuracies and all(r.get("diverged_at") is None for r in found)
        mean = float(np.mean(accuracies)) if alive else None
        table.append({**dict(zip(SCALARS, point, strict=True)), "holdout_accuracy": mean})
    alive = [row for row in table if row["holdout_accuracy"] is not None]
    if not alive:
        raise ValueError("every point of the grid diverged")
    best = max(alive, key=lambda row: row["holdout_accuracy"])
    return {**{k: best[k] for k in SCALARS}, "tried": table}


def save(run: Run, place: Place) -> dict[str, Any]:
    """Choose, and write the choice beside the runs; ConfigError where the run does not allow it."""
    path = folder.path_of(resolved(run, place))
    try:
        results = json.loads((path / "results.json").read_text())["results"]
        found = choose(results)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"run {run.name}: nothing to choose from in {path} ({error})") from None
    where = place_of(run, place)
    files.deliver(where, json.dumps({"run": path.name, **found}, indent=1) + "\n")
    return found


def read(run: Run, place: Place) -> dict[str, Any] | None:
    """{field: value} that was chosen, None before that; ConfigError for a file that is damaged."""
    path = place_of(run, place)
    if not path.is_file() and run.name not in place.chosen:
        return None
    try:
        found = json.loads(path.read_text()) if path.is_file() else place.chosen[run.name]
        return {k: (float(found[k]),) for k in SCALARS}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is damaged ({error}): delete it to choose anew") from None


# --- choices that were made before, elsewhere


def published(path: Path) -> list[dict[str, str]]:
    """The rows of a table that `collect` wrote; ConfigError where it is none."""
    try:
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"tuned={path}: cannot be read ({error})") from None
    needed = {"run", "scale", "network", "epochs", "data", *SCALARS}
    if missing := sorted(needed.difference(rows[0] if rows else ())):
        raise ConfigError(
            f"tuned={path}: has no {', '.join(missing)}; allowed is a cards.csv that collect wrote"
        )
    return rows


def adopted(
    runs: Sequence[Run], scale: str, place: Place, rows: Sequence[dict[str, str]], path: Path
) -> dict[str, dict[str, Any]]:
    """{name of a grid: choice} by what the cards of a published table were trained with, for `keep`.

    A grid counts where cards of runs that it tunes are in the table, at the same scale and on data of the same title.
    What was chosen here already stays. Raises ConfigError for cards of another network or width, of other trainings
    (epochs, images, batches, augmentation), or with several choices.
    """
    found = {}
    for grid in (run for run in runs if run.role == TUNE):
        # Cards of the method itself, which the grid is named after, and of what else it tunes here.
        users = [run.name for run in runs if run.tuned_by == grid.name]
        users.append(grid.name.removeprefix("tune_"))
        c = resolved(grid, place)
        title = corrupted.title_of(c.data.name, c.data.title)
        mine = [
            row
            for row in rows
            if row["run"] in users and (row["scale"], row["data"]) == (scale, title)
        ]
        where = place_of(grid, place)
        if not mine or where.is_file():
            continue
        if strange := {row["network"] for row in mine} - {c.model.name}:
            raise ConfigError(
                f"tuned={path}: {mine[0]['run']} is {', '.join(strange)} there, here {c.model.name}"
            )
        here = {"epochs": c.epochs, "width": c.model.width or models.width(c.model.name)}
        here |= {"augment": c.augment, "train_images": estimate.training_images(c)}
        here |= {"batch_size": c.batch_size}
        # Of other runs than the method's own, a control may be longer, and an ablation narrower.
        own = [row for row in mine if row["run"] == users[-1]]
        for row in own or mine:
            for field, value in here.items():
                if row.get(field, str(value)) != str(value) and (own or field in COMMON):
                    raise ConfigError(
                        f"tuned={path}: {row['run']} has {field} {row[field]} there, here {value}"
                    )
        try:
            points = {tuple(float(row[k]) for k in SCALARS) for row in mine}
        except ValueError as error:
            raise ConfigError(f"tuned={path}: cards of {users[-1]}: {error}") from None
        if len(points) > 1:
            raise ConfigError(
                f"tuned={path}: cards of {', '.join(dict.fromkeys(users))} have {len(points)} choices of "
                f"{' and '.join(SCALARS)}; allowed is one"
            )
        choice = dict(zip(SCALARS, points.pop(), strict=True))
        found[grid.name] = {"adopted": path.name, **choice}
    return found


def keep(runs: Sequence[Run], place: Place, choices: Mapping[str, Mapping[str, Any]]) -> None:
    """Write adopted choices beside the runs, where their own would be."""
    for run in runs:
        if run.name in choices:
            text = json.dumps(choices[run.name], indent=1) + "\n"
            files.deliver(place_of(run, place), text)


def is_adopted(run: Run, place: Place) -> bool:
    """Whether the choice of a grid was taken from a published table, so that its runs need not be there."""
    if run.name in place.chosen:
        return True
    try:
        return "adopted" in json.loads(place_of(run, place).read_text())
    except (OSError, ValueError):
        return False
