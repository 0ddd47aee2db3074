"""The page of a run, and that of several runs beside each other."""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cards_jax import compare, config, summary, tabular
from cards_jax.page import about, curves, heat, matrix, outcome, tables, weights
from cards_jax.page.document import document
from cards_jax.page.html import Html, Section, join, section, tag
from cards_jax.page.outcome import Outcome

NAME = "report.html"


def of_run(folder: Path, base: Path | None = None) -> str:
    """The page of a finished run, whose links start in `base`, its own folder; ConfigError where it left no results."""
    run, base = outcome.read(folder), base or folder
    rows, dense = run.results.get("summary", []), run.results.get("baseline", [])
    sections = [
        section(
            "results",
            "Results",
            [
                tables.render(t, "Test accuracy and sizes", f"results-{i}")
                for i, t in enumerate(_tables(run, "results"))
            ],
            curves.against_sparsity(rows, dense),
        ),
        curves.history([(run.title, run.metrics)]),
        *_measured([run]),
        weights.sizes(weights.kinds(run.sizes)),
        _config(run, base),
        _files(run, base),
    ]
    return document("run", run.title, _lead(run, base), sections)


def of_runs(folders: Sequence[Path], title: str, base: Path) -> str:
    """Several finished runs: one table, their curves, corruptions, heatmaps and sizes side by side, links to each."""
    runs = _distinct([outcome.read(folder) for folder in folders])
    results = compare.results_of(list(folders))
    dense = [r for r in results if r.get("method") == "dense"]
    others = [r for r in results if r.get("method") != "dense"]
    dense_rows, rows = summary.summarise(dense), summary.summarise(others, dense)
    shown = [*dense_rows, *rows]
    table = tables.read(
        f"{tabular.caption(shown)}\n\n"
        + tabular.markdown_table(shown, tabular.table_columns(shown))
    )
    sections = [
        section(
            "results",
            "Results",
            [
                tables.render(t, "Test accuracy and sizes", f"results-{i}")
                for i, t in enumerate(table)
            ],
            curves.against_sparsity(rows, dense_rows),
        ),
        section("runs", "Runs", tables.render(*_runs(runs, base))),
        curves.history([(run.title, run.metrics) for run in runs]),
        *_measured(runs),
        weights.sizes(
            {
                label: group
                for run in runs
                for label, group in weights.kinds(run.sizes, run.title).items()
            }
        ),
        section("config", "Config", _differing(runs)),
    ]
    lead = tag("p", f"{len(runs)} runs, {len(results)} realizations.", class_="lead")
    return document("experiment", title, join(lead, [_notes(run) for run in runs]), sections)


def _distinct(runs: Sequence[Outcome]) -> list[Outcome]:
    """Runs of one name are called by their folders, with the folder above where these have one name too."""
    places = [run.path.resolve() for run in runs]
    for names in ([p.name for p in places], [f"{p.parent.name}/{p.name}" for p in places]):
        twice = collections.Counter(run.title for run in runs)
        pairs = zip(runs, names, strict=True)
        runs = [
            dataclasses.replace(r, title=name) if twice[r.title] > 1 else r for r, name in pairs
        ]
    return list(runs)


def _tables(run: Outcome, name: str) -> list[tables.Table]:
    """Those that the run wrote, or the same of its results where there is none."""
    found = run.tables[name]
    rows = [*run.results.get("baseline", []), *run.results.get("summary", [])]
    if found or name != "results" or not rows:
        return found
    return tables.read(
        f"{tabular.caption(rows)}\n\n" + tabular.markdown_table(rows, tabular.table_columns(rows))
    )


def _measured(runs: Sequence[Outcome]) -> list[Section | None]:
    """Corruptions and heatmaps."""
    parts = [
        matrix.Part(run.title, run.tables["corruptions"], run.points, run.cells) for run in runs
    ]
    heats = [(run.title, run.heats, run.tables["heatmap"]) for run in runs if run.heats]
    return [matrix.robustness(parts), heat.spectra(heats)]


def _lead(run: Outcome, base: Path) -> Html:
    results = run.results["results"]
    first = results[0] if results else {}
    varying = {
        axis: sorted({r.get(axis) for r in results if r.get(axis) is not None}) for axis in AXES
    }
    dead = sum(r.get("diverged_at") is not None for r in results)
    collapsed = sum(bool(r.get("emptied_layers")) for r in results)
    but = [
        f"{n} {what}" for n, what in ((dead, "diverged"), (collapsed, "with emptied layers")) if n
    ]
    text = " ".join(str(first[k]) for k in ("method", "scope", "model") if first.get(k))
    title = run.config.data.title if run.config else None
    pairs: list[tuple[str, Any]] = [
        ("realizations", ", ".join([str(len(results)), *but])),
        *(
            (f"{name}", ", ".join(form(v) for v in varying[axis]))
            for axis, (name, form) in AXES.items()
        ),
        (
            "training steps",
            ", ".join(f"{n:,}" for n in sorted({r["steps"] for r in results if r.get("steps")})),
        ),
        (
            "weights",
            ", ".join(
                f"{n:,}" for n in sorted({r["parameters"] for r in results if r.get("parameters")})
            ),
        ),
    ]
    dense = run.baseline
    page = dense and next((p for p in (dense / NAME, dense / "results.json") if p.is_file()), None)
    return join(
        tag("p", f"{text} on {title or first.get('data', 'its data')}", class_="lead"),
        about.facts(
            [*pairs, ("dense baseline", about.link(page, base, dense.name) if page else None)]
        ),
        _notes(run),
    )


AXES = {
    "seed": ("seeds", str),
    "sparsity": ("sparsity (%)", lambda v: f"{100 * v:.6g}"),
    "learning_rate": ("learning rate", "{:g}".format),
    "weight_decay": ("weight decay", "{:g}".format),
}


def _notes(run: Outcome) -> Html:
    """What was there and could not be read."""
    return join([tag("p", f"{run.title}: {note}", class_="warning") for note in run.notes])


def _config(run: Outcome, base: Path) -> Section:
    return section(
        "config",
        "Config and command",
        about.fields(run.config, "config") if run.config else None,
        tag("h3", "Command"),
        about.commands(run.commands, run.path.resolve().name),
        join(tag("h3", "Versions"), about.versions(run.versions)) if run.versions else None,
    )


def _files(run: Outcome, base: Path) -> Section:
    return section("files", "Files", about.files(run.path, base))


def _runs(runs: Sequence[Outcome], base: Path):
    """(table, title, identity, ...) as tables.render takes them: what runs there are, each with a link."""
    body = []
    for run in runs:
        results = run.results["results"]
        kinds = [
            ", ".join(sorted({str(r.get(k)) for r in results})) for k in ("method", "model", "data")
        ]
        body.append([run.title, *kinds, len(results), run.path.resolve().name])
    table = tables.of_rows(
        "", ["run", "method", "model", "data", "realizations", "folder"], body, 4
    )
    pages = [next(p for p in (r.path / NAME, r.path / "results.json") if p.is_file()) for r in runs]
    link = lambda r, c: about.link(pages[r], base, runs[r].title) if c == 0 else None
    return table, "What was trained", "runs-table", None, link


def _differing(runs: Sequence[Outcome]) -> Html:
    """The fields in which the runs differ, then those that they share and that are no defaults."""
    known = [run for run in runs if run.config]
    each = [config.flat(run.config) for run in known]
    if not each:
        return tag("p", "No run has a config.json that can be read.")
    standard = config.flat(config.defaults())
    differ = [k for k in each[0] if len({str(e[k]) for e in each}) > 1]
    same = [k for k in each[0] if k not in differ and each[0][k] != standard[k]]
    return join(
        tables.render(
            tables.of_rows(
                "Fields in which the runs differ.",
                ["field", *(run.title for run in known)],
                [[k, *(str(e[k]) for e in each)] for k in differ],
                1 + len(known),
            ),
            "Differences",
            "config-differ",
        ),
        tables.render(
            tables.of_rows(
                "Fields that differ from their defaults in the same way everywhere.",
                ["field", "value", "default"],
                [[k, str(each[0][k]), str(standard[k])] for k in same],
                3,
            ),
            "In common",
            "config-same",
        ),
    )
