"""A config with its baseline: both runs, then tables and plots of what they found."""

import json
import tempfile
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from cards_jax import config, data, estimate, folder, report, run
from cards_jax.config import ConfigError
from cards_jax.log import RunLog, read_metrics
from cards_jax.run import Signals, Stopped
from cards_jax.trainer import recipe_of, spec_of

__all__ = ["Stopped", "baseline_config", "complete", "dry_run"]


def baseline_config(c: ConfigDict) -> ConfigDict:
    """The dense run that matches a config: its data, network, augmentation, seeds and training length.

    Fields of `dense` replace what a dense network needs otherwise.
    """
    b, standard = ConfigDict(c.to_dict()), config.defaults()
    b.method, b.scope, b.sparsity, b.baseline = "dense", "layerwise", (0.0,), None
    b.name = f"{c.name}_dense"
    b.popup, b.compute.selection = standard.popup, None
    b.seeds = tuple(dict.fromkeys(c.seeds))
    for field in ("learning_rate", "weight_decay"):
        values = (c.dense[field],) if c.dense[field] is not None else tuple(dict.fromkeys(c[field]))
        b[field] = values[:1]
    b.combine = "product"
    b.epochs = c.dense.epochs or c.epochs
    b.dense = standard.dense
    return config.validate(b)


def _baseline_folder(path: str) -> list[dict[str, Any]]:
    """Results of a finished dense run; ConfigError where the folder has none."""
    try:
        results = json.loads((Path(path) / "results.json").read_text())["results"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"baseline={path!r}: no readable results.json there ({error})") from None
    dense = [r for r in results if r.get("method") == "dense"]
    if not dense:
        raise ConfigError(f"baseline={path!r}: holds no dense results; allowed: None, 'auto', a dense run's folder")
    return dense


def complete(c: ConfigDict) -> list[dict[str, Any]]:
    """Train what is missing of a config and of its baseline, write the report, print the table; returns the results."""
    signals, dense = Signals(), []
    with signals.watched():
        if c.baseline == "auto" and c.method != "dense":
            b = baseline_config(c)
            dense = run.run(b, signals)
            write_report(b, dense, [])
        elif c.baseline not in (None, "auto"):
            dense = _baseline_folder(c.baseline)
        results = run.run(c, signals)
        write_report(c, results, dense, show=True)
    return results


def write_report(c: ConfigDict, results: list[dict], dense: list[dict], show: bool = False) -> None:
    """results.json, tables and plots of finished realizations beside their dense baseline."""
    if jax.process_index():
        return
    path = folder.path_of(c)
    rows = report.summarise(results, dense)
    dense_rows = report.summarise(dense)
    payload = {
        "name": c.name,
        "config": config.shared_changes(c),
        "versions": json.loads((path / "versions.json").read_text()),
        "results": results,
        "summary": rows,
        "baseline": dense_rows,
    }
    report.write_results(path, payload)
    report.write_tables(path, [*dense_rows, *rows], [*dense, *results])
    wanted = {r["id"] for r in results}
    metrics = [r for r in read_metrics(path / "metrics.jsonl") if r["realization"] in wanted]
    report.plot_curves(path, metrics)
    report.plot_sparsity(path, rows, dense_rows)
    if show:
        shown = [*dense_rows, *rows]
        table = report.markdown_table(shown, report.table_columns(shown))
        RunLog(path).say(f"\n{report.caption(shown)}\n\n{table}\nEverything is in {path}")


def dry_run(c: ConfigDict) -> str:
    """The resolved config, and what the run would need; reads data, writes nothing beside a temporary cache."""
    with tempfile.TemporaryDirectory() as temporary:
        reading = ConfigDict(c.to_dict())
        reading.data.download = False
        if reading.data.cache_dir is None:
            reading.data.cache_dir = temporary
        d = data.prepare(reading)
    run.check_against_data(c, d)
    points = config.points(c)
    layout = run.layout_of(c, d, len(points))
    phases, init = run.method_of(c, d)
    lines = [
        config.to_json(c),
        f"folder              {folder.path_of(c)}",
        estimate.describe(c, d, recipe_of(c, spec_of(c, d), layout), phases, init, len(points)),
        f"group               {layout.group} at a time on a mesh of {layout.rows} x {layout.split} devices",
    ]
    if c.baseline == "auto":
        lines.append(f"baseline            {folder.path_of(baseline_config(c))}")
    return "\n".join(lines)
