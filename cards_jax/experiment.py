"""A config with its baseline: both runs, then tables and plots of what they found."""

import json
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from cards_jax import (
    config,
    data,
    estimate,
    folder,
    hand,
    heatmap,
    models,
    pack,
    page,
    realizations,
    report,
    robustness,
    run,
    summary,
    tabular,
    validation,
)
from cards_jax.config import ConfigError
from cards_jax.data import Data, store
from cards_jax.log import RunLog
from cards_jax.metrics import read_metrics
from cards_jax.signals import Signals, Stopped
from cards_jax.trainer import distinct, phases_of, recipe_of, spec_of

__all__ = ["Stopped", "baseline_config", "baseline_folder", "complete", "dry_run"]


def baseline_config(c: ConfigDict) -> ConfigDict:
    """The dense run that matches a config: its data, network, augmentation, seeds and training length.

    Fields of `dense` replace what a dense network needs otherwise.
    """
    b, standard = ConfigDict(c.to_dict()), config.defaults()
    b.method, b.scope, b.sparsity, b.baseline = "dense", "layerwise", (0.0,), None
    b.name = f"{c.name}_dense"
    b.popup, b.compute.selection = standard.popup, None
    b.pruning, b.finetune, b.ticket = standard.pruning, standard.finetune, standard.ticket
    b.seeds = tuple(dict.fromkeys(c.seeds))
    for field in ("learning_rate", "weight_decay"):
        values = (c.dense[field],) if c.dense[field] is not None else tuple(dict.fromkeys(c[field]))
        b[field] = values[:1]
    b.combine = "product"
    b.epochs = c.dense.epochs or c.epochs
    b.dense = standard.dense
    try:
        return validation.validate(b)
    except ConfigError as error:  # it speaks of fields that nobody gave this value
        raise ConfigError(f"baseline='auto', trained with the fields of `dense`: {error}") from None


def _dense_results(c: ConfigDict, d: Data) -> list[dict[str, Any]]:
    """Results in the folder `baseline` that a config can be compared with; ConfigError where it has none.

    They are of the same network and width, on as many of the same images, and of one point where heatmaps are wanted.
    """
    path, fingerprint = c.baseline, d.fingerprint
    try:
        results = json.loads((Path(path) / "results.json").read_text())["results"]
        dense = [r for r in results if r["method"] == "dense"]
        here = {"width": c.model.width or models.width(c.model.name)}
        here |= {"train_images": len(d.train_images)}
        words = lambda r: (
            f"{r['model']} of width {r['width']} on {r['train_images']} images of {r['data']}"
        )
        named = [words({**here, **r}) for r in dense]
        wanted = words({"model": c.model.name, "data": c.data.name, **here})
        summary.summarise(dense)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"no readable results.json there ({error!r})"
        raise ConfigError(f"baseline={path!r}: {reason}") from None
    if wanted not in named:
        holds = ", ".join(sorted(set(named))) or "nothing dense"
        allowed = f"None, 'auto', the folder of a dense run of {wanted}"
        raise ConfigError(f"baseline={path!r}: holds {holds}; allowed: {allowed}")
    dense = [result for result, name in zip(dense, named, strict=True) if name == wanted]
    trained = folder.read_state(Path(path))
    if trained is not None and trained.data != fingerprint:
        raise ConfigError(
            f"baseline={path!r}: trained on other images (fingerprint {trained.data}) than those of the config "
            f"({fingerprint}); allowed is a run on these"
        )
    if c.evaluate.heatmap and len(kinds := summary.grouped(dense, summary.POINT)) > 1:
        raise ConfigError(
            f"baseline={path!r}: holds {len(kinds)} kinds of dense cards; allowed with evaluate.heatmap is one"
        )
    if _measures(c):
        wanted = {r.get("id", "") for r in dense}
        there = _cards_of(Path(path), wanted)
        for card in there.values():
            try:
                pack.load(card)
            except ValueError as error:
                raise ConfigError(f"baseline={path!r}: {error}") from None
        if missing := sorted(wanted - set(there)):
            raise ConfigError(
                f"baseline={path!r}: lacks the cards of {', '.join(missing)}; allowed with evaluate.corruptions and "
                "evaluate.heatmap is a run with its cards"
            )
    return dense


def _cards_of(run: Path, wanted: Collection[str]) -> dict[str, Path]:
    """{identity: file} of these cards of a run."""
    return {k: path for k, path in hand.by_identity(run / "cards").items() if k in wanted}


def _measures(c: ConfigDict) -> bool:
    """Whether cards are measured after training, those of the baseline too."""
    return bool(c.evaluate.corruptions or c.evaluate.heatmap)


def check_devices(c: ConfigDict) -> None:
    """Raise ConfigError, before anything is written, where devices and config do not fit."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError):  # of names that JAX does not know, of absent devices
        platforms = jax.config.jax_platforms
        raise ConfigError(f"JAX_PLATFORMS={platforms!r}: JAX finds no such device") from None
    count, compute = len(config.points(c)), c.compute
    try:
        realizations.layout(count, compute.batch_split, c.batch_size, compute.devices)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def complete(c: ConfigDict, command: str | None = None) -> list[dict[str, Any]]:
    """Train what is missing of a config and of its baseline, write the report, print the table; returns the results.

    command: what was typed for it, for the reports.
    Raises ConfigError before any compute, Stopped after a signal, and OSError, in one line, where a folder cannot be
    used or nothing can be saved.
    """
    check_devices(c)
    robustness.check(c)
    signals, dense = Signals(), []
    with signals.watched():
        if c.baseline == "auto" and c.method != "dense":
            # What is refused is refused before its baseline is trained.
            run.check(c, data.prepare(c))
            # Runs that start together may have one baseline: all wait for the first.
            dense = _completed(baseline_config(c), signals, [], command, patient=True)
        elif c.baseline not in (None, "auto"):
            dense = _dense_results(c, data.prepare(c))
        return _completed(c, signals, dense, command, show=True)


def _completed(
    c: ConfigDict,
    signals: Signals,
    dense: list[dict],
    command: str | None,
    show: bool = False,
    patient: bool = False,
) -> list[dict]:
    """The results of one run, after its report is written; its folder is held all the while."""
    with run.opened(c, signals, patient) as r:
        if command and r.first:
            folder.remember(r.path, command)
        results = r.results()
        shared = r.shared(r.points)
        write_report(c, results, dense, show, shared)
        cards = [folder.card_path(c, point) for point in r.points]
        beside = baseline_cards(c, dense) if _measures(c) else []
        more = robustness.of_run(c, cards, beside, r.log)
        if more:
            write_report(c, results, dense, shared=shared, more=more)
        heatmap.of_run(c, cards, beside, r.log)
        if c.evaluate.heatmap and r.first:
            page.write_run(r.path)
    return results


def baseline_folder(c: ConfigDict) -> Path | None:
    """The folder of the dense run beside a run, None where there is none."""
    if c.baseline is None or c.method == "dense" and c.baseline == "auto":
        return None
    return folder.path_of(baseline_config(c)) if c.baseline == "auto" else Path(c.baseline)


def baseline_cards(c: ConfigDict, dense: Collection[dict[str, Any]]) -> list[Path]:
    """The cards of these dense results in the baseline's folder, which may hold others: of other learning rates."""
    place, wanted = baseline_folder(c), {result.get("id", "") for result in dense}
    if place is None or not dense:
        return []
    return sorted(_cards_of(place, wanted).values())


def write_report(
    c: ConfigDict,
    results: list[dict],
    dense: list[dict],
    show: bool = False,
    shared: Collection[str] = (),
    more: dict[str, Any] | None = None,
) -> None:
    """results.json, tables, plots and report.html of finished realizations beside their dense baseline.

    shared: identities of realizations that several results have in common, whose curves belong to them. more: what
    else results.json holds.
    """
    if jax.process_index():
        return
    path = folder.path_of(c)
    rows = summary.summarise(results, dense)
    dense_rows = summary.summarise(dense)
    kept = {} if more else _measured_before(path)
    payload = {
        "name": c.name,
        "config": config.shared_changes(c),
        "versions": json.loads((path / "versions.json").read_text()),
        "results": results,
        "summary": rows,
        "baseline": dense_rows,
        **({"shared": sorted(shared)} if shared else {}),
        **(more or kept),
    }
    report.write_results(path, payload)
    report.write_tables(path, [*dense_rows, *rows], [*dense, *results])
    wanted = {r["id"] for r in results} | set(shared)
    with folder.whole():
        metrics = [r for r in read_metrics(path / "metrics.jsonl") if r["realization"] in wanted]
    report.plot_curves(path, metrics)
    report.plot_sparsity(path / "plots" / "sparsity", rows, dense_rows)
    page.write_run(path)
    if show:
        shown = [*dense_rows, *rows]
        table = tabular.markdown_table(shown, tabular.table_columns(shown))
        RunLog(path).say(f"\n{tabular.caption(shown)}\n\n{table}\nEverything is in {path}")


def _measured_before(path: Path) -> dict[str, Any]:
    """What an earlier call of the command measured under corruptions: of cards that are still the run's."""
    try:
        found = json.loads((path / "results.json").read_text())
        return {"corruptions": found["corruptions"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def link_cache(cache: Path, into: Path) -> None:
    """A folder in which what the data cache holds can be read, and nothing of it is changed."""
    for entry in cache.glob("*/*"):
        link = into / entry.parent.name / entry.name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(entry.absolute())


def dry_run(c: ConfigDict) -> str:
    """The resolved config, and what the run would need; reads data, writes nothing beside a temporary cache."""
    check_devices(c)
    cache = store.cache_folder(c.data.cache_dir)
    with tempfile.TemporaryDirectory() as temporary:
        link_cache(cache, Path(temporary))
        reading = ConfigDict(c.to_dict())
        reading.data.download, reading.data.cache_dir = False, temporary
        try:
            d = data.prepare(reading)
        except ConfigError as error:  # which speaks of the temporary cache, and of the download
            said = str(error).replace(temporary, str(cache))
            hint = "; a dry run downloads nothing" if c.data.download else ""
            raise ConfigError(said + hint) from None
        robustness.check(reading)
    run.check(c, d)
    points = config.points(c)
    layout = run.layout_of(c, d, len(run.units(c, d, points)))
    phases = phases_of(c, points, run.steps_per_epoch(c, d))
    trained = [len(distinct(points, phase)) for phase in phases]
    lines = [
        config.to_json(c),
        f"folder              {folder.path_of(c)}",
        estimate.describe(c, d, recipe_of(c, spec_of(c, d), layout), phases, trained, len(points)),
        f"group               {layout.group} at a time on a mesh of {layout.rows} x {layout.split} devices",
    ]
    if c.baseline == "auto" and c.method != "dense":
        lines.append(f"baseline            {folder.path_of(baseline_config(c))}")
    elif c.baseline not in (None, "auto"):
        lines.append(f"baseline            {len(_dense_results(c, d))} in {c.baseline}")
    return "\n".join(lines)
