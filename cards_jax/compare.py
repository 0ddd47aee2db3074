"""Several runs in one table: methods side by side, relative to one dense run.

python -m cards_jax.compare RUN_FOLDER ... --baseline=DENSE_RUN_FOLDER [--save=PATH]
"""

import json
import sys
from pathlib import Path
from typing import Any

from cards_jax import files, report, summary, tabular
from cards_jax.commands import Form, dense_only, ended, stem

SCALARS = ("seed", "sparsity", "learning_rate", "weight_decay")


def payload_of(folder: Path) -> dict[str, Any]:
    """A run's results.json; ValueError, naming the folder, where it has none that can be read."""
    try:
        payload = json.loads((folder / "results.json").read_text())
        summary.summarise(payload["results"])
        return payload
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}: no readable results.json there ({error})") from None


def results_of(folders: list[Path]) -> list[dict[str, Any]]:
    """The results of runs, each realization once.

    Runs with one config are one run, such as two that trained different seeds. Runs with another config are never
    averaged: where a table could not tell their realizations apart, as it does not show the length of a training,
    `run` in each result says in which fields they differ.
    """
    found = {}
    for folder in folders:
        payload = payload_of(folder)
        own = payload.get("config") or {}
        for result in payload["results"]:
            key = (json.dumps(own, sort_keys=True), result.get("id"), *map(result.get, SCALARS))
            found.setdefault(key, (result, own))
    results, configs = zip(*found.values(), strict=True) if found else ((), ())
    return summary.told_apart(results, configs)


def shared_data(folders: list[Path]) -> None:
    """Raise ValueError unless all runs were trained on one data set."""
    prints = {}
    for folder in folders:
        try:
            prints[folder] = json.loads((folder / "state.json").read_text())["data"]
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{folder}: no readable state.json there ({error})") from None
    for folder, found in prints.items():
        if found != prints[folders[0]]:
            raise ValueError(
                f"{folder}: trained on other images (fingerprint {found}) than {folders[0]} "
                f"({prints[folders[0]]}); allowed is one data set"
            )


def compared(folders: list[Path], baseline: Path | None) -> tuple[str, str, list, list]:
    """(caption, markdown table, summary rows, results) of runs beside their dense baseline.

    Raises ValueError for folders without results and for runs on different images.
    """
    shared_data([*folders, *([baseline] if baseline else [])])
    dense = results_of([baseline]) if baseline else []
    dense_only("baseline", baseline, [r.get("method") for r in dense])
    results = results_of(folders)
    dense_rows, rows = summary.summarise(dense), summary.summarise(results, dense)
    shown = [*dense_rows, *rows]
    table = tabular.markdown_table(shown, tabular.table_columns(shown))
    return tabular.caption(shown), table, shown, [*dense, *results]


def save(path: Path, text: str, rows: list[dict], results: list[dict]) -> None:
    """PATH.md, the table; PATH.csv, every realization; PATH.png and PATH.svg, accuracy against sparsity."""
    files.deliver(path.with_name(f"{path.name}.md"), text)
    files.deliver(path.with_name(f"{path.name}.csv"), tabular.csv_table(results))
    dense = [row for row in rows if row["method"] == "dense"]
    report.plot_sparsity(path, [row for row in rows if row["method"] != "dense"], dense)


def main() -> int:
    """Print the table, and save it where asked: PATH.md, PATH.csv (every realization), PATH.png and PATH.svg."""
    form = Form("python -m cards_jax.compare", description=__doc__.split("\n")[0])
    form.add_argument("folders", nargs="+", type=Path, help="of finished runs")
    form.add_argument("--baseline", type=Path, help="folder of a dense run on the same data")
    form.add_argument("--save", type=stem, help="writes SAVE.md, SAVE.csv, SAVE.png, SAVE.svg")
    args = form.parse_args()

    def action() -> None:
        if args.save:
            files.check_place(args.save)
        caption, table, rows, results = compared(args.folders, args.baseline)
        text = f"{caption}\n\n{table}"
        print(text, end="")
        if args.save:
            save(args.save, text, rows, results)

    return ended(form.prog, action)


if __name__ == "__main__":
    sys.exit(main())
