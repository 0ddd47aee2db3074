"""Every experiment from cards to its figures, tables and verdicts, on cards that nobody trained."""

import csv
import dataclasses
import sys
from pathlib import Path

import cards
import jax
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "experiments"))

from lab import (  # noqa: E402
    collect,
    command,
    decks,
    deckwork,
    draw,
    measure,
    plan,
    process,
    scales,
)

from cards_jax import config, data, deal, folder, main, models, pack  # noqa: E402

NAMES = sorted(p.stem for p in (ROOT / "experiments").glob("*.py"))


def untrained(arguments, log, target=None):
    """In the place of a process: measures what it is told to, and of a run delivers random cards."""
    if target is measure.main:
        return target(arguments), 1.0
    c = main.parse(["cards_jax", *arguments])[1]
    d, path = data.prepare(c), folder.path_of(c)
    spec = models.Spec(
        c.model.name,
        c.model.width,
        len(d.classes),
        d.train_images.shape[1:],
        mean=d.mean,
        std=d.std,
    )
    about = {
        "classes": d.classes,
        "data_fingerprint": d.fingerprint,
        "holdout_hash": d.holdout_hash,
        "config": config.shared_changes(c),
        "versions": {"commit": "c0ffee", "jax": jax.__version__},
    }
    results = []
    for i, (point, file) in enumerate(zip(config.points(c), plan.cards_of(c), strict=True)):
        file.parent.mkdir(parents=True, exist_ok=True)
        results.append(result_of(c, point, i))
        meta = {"result": results[-1], **about}
        pack.save(file, varied(cards.sampled(spec, point.sparsity, False), point.seed), spec, meta)
    folder.write_json(path / "results.json", {"results": results})
    folder.write_json(path / "versions.json", {"commit": "of a later opening"})
    return 0, 1.0


def varied(card, seed: int):
    """Another card for every seed; what is pruned stays so."""
    rng = np.random.default_rng(seed)
    return card.replace(
        params=jax.tree.map(
            lambda x: (x * rng.uniform(0.5, 1.5, x.shape)).astype(np.float32), card.params
        )
    )


def result_of(c, point, number: int) -> dict:
    return {
        "id": config.identity(c, point),
        "seed": point.seed,
        "method": c.method,
        "scope": c.scope,
        "model": c.model.name,
        "width": c.model.width,
        "data": c.data.name,
        "sparsity": point.sparsity,
        "realised_sparsity": point.sparsity,
        "learning_rate": point.learning_rate,
        "weight_decay": point.weight_decay,
        "test_accuracy": 0.1 + 0.01 * point.seed,
        "holdout_accuracy": 0.1 + 0.01 * number,
        "diverged_at": None,
        "steps": 10,
    }


def test_lines_of_one_panel_have_colours_of_their_own():
    controls = [f"control {i}" for i in range(6)]
    for labels in ([*controls, "LRR"], ["EP (layerwise)", "EP, full precision", "BP (layerwise)"]):
        found = [draw.colour(label, i, labels) for i, label in enumerate(labels)]
        assert len(set(found)) == len(labels)
        assert all(draw.COLOURS.get(x, y) == y for x, y in zip(labels, found, strict=True))


def test_cards_of_a_run_that_is_not_finished_count(tmp_path):
    fields = {"data.name": "digits", "data.image_size": 16, "model.name": "conv2", "model.width": 8}
    fields |= {"seeds": (0, 1), "sparsity": (0.5, 0.8), "baseline": None}
    run, place = plan.Run("a", "a", "configs/quickstart.py", fields), plan.Place(tmp_path)
    untrained(plan.arguments(run, place), None)
    made = plan.cards_of(plan.resolved(run, place))
    made[-1].unlink()
    wanted = measure.Wanted(robust=False, heat=False, images=0, heat_images=1, eps=())
    found = collect.gather("x", [run], scales.SMOKE, place, wanted, str)
    assert [card.path for card in found.cards] == made[:-1] and found.missing == ("a",)
    assert {key: len(cards) for key, cards in found.groups.items()} == {
        ("a", 0.5): 2,
        ("a", 0.8): 1,
    }


@pytest.fixture(scope="session")
def workdir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("untrained")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_collects_judges_and_draws(name, workdir, monkeypatch):
    monkeypatch.setattr(process.Calls, "run", lambda calls, *of: untrained(*of))
    monkeypatch.setattr(measure, "_use_cache", lambda c: None)
    experiment = __import__(name).EXPERIMENT
    assert command.main(experiment, [f"--workdir={workdir}"]) == 0
    out = workdir / "figures" / name
    assert [p for p in out.glob("*.png") if p.stat().st_size > 10_000] or name == "table_cifar100"
    with (out / "cards.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = {r.name for r in experiment.runs(command.SCALES["smoke"]) if r.role != plan.TUNE}
    assert {row["run"] for row in rows} == wanted
    for row in rows:
        assert row["commit"] == "c0ffee" and row["jax"] and len(row["config_hash"]) == 8
        assert not experiment.robust or 0 <= float(row["corrupted_accuracy"]) <= 1
    groups = {(row["run"], row["sparsity"]) for row in rows if not row["diverged_at"]}
    means, *relative = (out / "summary.md").read_text().split("To dense cards of the same network")
    assert means.count("\n| ") == len(groups) + 2  # head and rule
    for text in relative:
        assert 2 < text.count("\n| ") < len(groups) + 2  # dense itself is left out
    for path in out.glob("*verdicts.md"):
        text = path.read_text()
        assert "never evidence" in text and "undecided" in text
        assert "| agrees" not in text and "| disagrees" not in text  # two seeds decide nothing
    html = (out / "report.html").read_text()
    for word in ("What every group reached", "This page was made with", "data:image/png;base64"):
        assert word in html or (name, word[:4]) == ("table_cifar100", "data")
    assert ("Accuracy by severity" in html) == experiment.robust
    assert ('id="heatmaps"' in html) == experiment.heat
    assert "http:" not in html.replace("http://www.w3.org", "") and 'src="/' not in html


def test_nothing_to_draw_is_said(tmp_path, capsys):
    """A deck needs cards of both augmentations."""
    experiment = __import__("gate").EXPERIMENT
    runs = experiment.runs(command.SCALES["smoke"])
    (run,) = (dataclasses.replace(r, tuned_by=None) for r in runs if r.name.endswith("augmix"))
    untrained(plan.arguments(run, plan.Place(tmp_path, {"data.name": "digits"})), None)
    experiment = dataclasses.replace(experiment, runs=lambda scale: [run])
    assert command.main(experiment, ["draw", f"--workdir={tmp_path}"]) == command.commands.MISUSED
    assert "gate: nothing can be drawn of what is there" in capsys.readouterr().err


@pytest.mark.slow
def test_decks_go_on_where_they_stopped_and_are_measured_once(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(process.Calls, "run", lambda calls, *of: untrained(*of))
    experiment = __import__("gate").EXPERIMENT
    args, fields = command.parse(experiment, ["run", f"--workdir={workdir}"])
    todo = command.Command(experiment, args, fields)
    assert not todo.sweep()
    findings = todo.findings()
    cards = deckwork.cards_of(findings, "conv2", 0.5, ("lrr",))
    cards = {deckwork.NAMES["lrr"]: cards[deckwork.NAMES["lrr"]]}
    asked, said, read = [], [], decks._sets

    def measured(sizes, keep, most=99):
        asked.clear()

        def sets(name, *rest):
            if len(asked) == most:
                raise KeyboardInterrupt
            asked.append(name)
            return read(name, *rest)

        monkeypatch.setattr(decks, "_sets", sets)
        kinds = decks.kinds_of(cards, sizes)
        return decks.measured(kinds, findings.wanted, 50, tmp_path / keep, said.append)

    whole = measured((2,), "whole")
    assert len(asked) == 16
    with pytest.raises(KeyboardInterrupt):
        measured((2,), "stopped", most=4)
    found = measured((2,), "stopped")
    assert len(asked) == 12, "the clean images and three corruptions were kept"
    for a, b in zip(found, whole, strict=True):
        np.testing.assert_array_equal(a.clean, b.clean)
        np.testing.assert_array_equal(a.corrupted, b.corrupted)
    assert [d.size for d in measured((2, 4), "stopped")] == [1, 1, 2, 2, 4, 4] and len(asked) == 16
    assert said[-1].startswith("2 decks and cards"), said  # all seeds are one deck, in two ways
    measured((4, 2), "stopped")
    assert not asked
    assert not list((tmp_path / "stopped").rglob("*.part.npz"))


@pytest.mark.slow
def test_decks_within_a_budget_fit_and_are_dealt_once(workdir, monkeypatch):
    monkeypatch.setattr(process.Calls, "run", lambda calls, *of: untrained(*of))
    experiment = __import__("budget").EXPERIMENT
    assert command.main(experiment, [f"--workdir={workdir}"]) == 0
    monkeypatch.setattr(deal, "extras", None)  # nothing answers again
    assert command.main(experiment, ["draw", f"--workdir={workdir}"]) == 0
    with (workdir / "figures" / "budget" / "budget.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    whole = max(int(r["true_bytes"]) for r in rows if r["what"] == "dense, AugMix")
    by_kind = {(r["seed"], r["share"], r["what"]): r for r in rows}
    decks_ = [r for r in rows if r["what"] == "best deck"]
    assert {r["seed"] for r in decks_} == {"0", "1"}
    for row in decks_:
        card = by_kind[row["seed"], row["share"], "best card"]
        assert card["size"] == "1" and 1 <= int(row["size"]) <= 6
        assert float(row["holdout_score"]) >= float(card["holdout_score"])
        assert max(int(row["true_bytes"]), int(card["true_bytes"])) <= float(row["share"]) * whole
