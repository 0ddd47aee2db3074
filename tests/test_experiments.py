"""Experiments: every run is valid at every scale, sweeps survive failures, claims are answered by their rule."""

import csv
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cards
import numpy as np
import PIL.Image
import pytest
from ml_collections import ConfigDict

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "experiments"))

from lab import (  # noqa: E402
    against_paper,
    command,
    decks,
    deckwork,
    draw,
    measure,
    plan,
    process,
    recipes,
    summary,
    sweep,
    tuning,
    verdict,
)
from lab import estimate as estimates  # noqa: E402
from lab.collect import Card, Findings  # noqa: E402
from lab.images import Images  # noqa: E402
from lab.plan import CONTROL, TUNE, Place, Run  # noqa: E402
from lab.scales import SCALES, SMOKE  # noqa: E402
from lab.verdict import AGREES, DISAGREES, MISSING, UNDECIDED, answer  # noqa: E402

from cards_jax import config, data, equal_bytes, folder, fourier, models, pack, tabular, trainer  # noqa: E402
from cards_jax.evaluate import fourier as evaluate  # noqa: E402
from cards_jax.evaluate.bootstrap import Estimate  # noqa: E402
from cards_jax.heat import Heat  # noqa: E402

NAMES = sorted(p.stem for p in (ROOT / "experiments").glob("*.py"))
GRID = dict(seeds=(7,), learning_rate=(0.1, 0.2), holdout=100, data__name="digits")


def loaded(name: str) -> plan.Experiment:
    return __import__(name).EXPERIMENT


SLOW = dict.fromkeys(("smoke", "narrow", "paper"), pytest.mark.slow)  # smoke is drawn elsewhere


@pytest.mark.parametrize(
    "scale", [pytest.param(s, marks=SLOW.get(k, ()), id=k) for k, s in SCALES.items()]
)
@pytest.mark.parametrize("name", NAMES)
def test_every_run_is_a_valid_config(name, scale, tmp_path):
    place = Place(tmp_path, {"data.name": "digits"})
    runs = plan.ordered(loaded(name).runs(scale))
    # Runs that differ in values alone are checked once; names of networks count as kinds.
    kind = lambda r: str((r.config, sorted(r.fields), r.role, r.fields["model.name"]))
    for run in {kind(r): r for r in runs}.values():
        c = plan.resolved(command._alone(run), place)
        assert c.name == run.name and len(plan.cards_of(c)) >= 1
    assert sum(map(len, plan.chains(runs))) == len(runs)
    named = {run.name for run in runs}
    for rule in loaded(name).rules(scale):
        sides = [rule.card, rule.than, *(rule.control or ())]
        assert {run for run, _ in sides} <= named, rule.claim


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_says_its_command_and_its_question(name):
    text = __import__(name).__doc__
    assert f"python experiments/{name}.py" in text and "Time:" in text and "Question:" in text
    assert loaded(name).name == name


# --- sweeps


def run_of(name: str, **fields) -> Run:
    known = ("role", "tuned_by", "source")
    extra = {k: fields.pop(k) for k in known if k in fields}
    fields = {"data.name": "digits", **{k.replace("__", "."): v for k, v in fields.items()}}
    return Run(name, name, "configs/quickstart.py", {"baseline": None, **fields}, **extra)


def trained(arguments, log, target=None):
    """In the place of a training: its cards and results, as they would be; those named `bad` fail, `crash` die."""
    from cards_jax import main

    c = main.parse(["cards_jax", *arguments])[1]
    if c.name.startswith("bad"):
        return 1, 1.0
    if c.name.startswith("crash"):
        return -11, 1.0
    results = []
    for point, path in zip(config.points(c), plan.cards_of(c), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"card")
        rates = {"learning_rate": point.learning_rate, "weight_decay": point.weight_decay}
        results.append({**rates, "holdout_accuracy": point.learning_rate, "diverged_at": None})
    (folder.path_of(c) / "results.json").write_text(json.dumps({"results": results}))
    return 0, 1.0


def test_a_failure_is_reported_the_rest_goes_on_and_a_second_sweep_does_what_is_left(tmp_path):
    runs = [
        run_of("tune_a", role=TUNE, **GRID),
        run_of("a", tuned_by="tune_a"),
        run_of("bad_tune", role=TUNE, **GRID),
        run_of("b", tuned_by="bad_tune"),
        run_of("crash"),
        run_of("c", sparsity=(0.0,), method="dense"),
        run_of("wrong", batch_size=0),
    ]
    runs = plan.ordered(runs)
    named, place, said = {r.name: r for r in runs}, Place(tmp_path), []
    failed = sweep.sweep(runs, named, place, said.append, trained)
    assert [line.partition(":")[0] for line in failed] == ["bad_tune", "b", "crash", "wrong"]
    assert "exit code 1" in failed[0] and "signal 11" in failed[2] and "batch_size=0" in failed[3]
    states = {r.name: sweep.look(r, named, place).state for r in runs if r.name != "wrong"}
    assert states == {
        **dict.fromkeys(("tune_a", "a", "c"), sweep.DONE),
        **dict.fromkeys(("bad_tune", "crash"), sweep.READY),
        "b": sweep.WAITING,
    }
    chosen = sweep.look(named["a"], named, place).config
    assert chosen.learning_rate == (0.2,)  # the better of the grid on holdout images
    again = []
    sweep.sweep(runs, named, place, said.append, lambda *a: again.append(a[0]) or trained(*a))
    assert [part[1] for part in (a[2].split("=") for a in again)] == ["bad_tune", "crash"]


def test_runs_side_by_side_wait_for_what_they_need_and_failures_come_in_order(tmp_path):
    runs = [
        run_of("tune_a", role=TUNE, **GRID),
        run_of("a", tuned_by="tune_a"),
        run_of("bad"),
        run_of("b"),
        run_of("wrong", batch_size=0),
    ]
    named, place = {r.name: r for r in plan.ordered(runs)}, Place(tmp_path)
    both, live, most, order = threading.Barrier(2), set(), [], []

    def call(arguments, log):
        name = next(a.partition("=")[2] for a in arguments if a.startswith("--config.name="))
        live.add(name)
        most.append(len(live))
        if name in ("tune_a", "bad"):  # the first two: neither ends before the other has begun
            both.wait(20)
        found = trained(arguments, log)
        live.discard(name)
        order.append(name)
        return found

    failed = sweep.sweep(runs, named, place, str, call, jobs=2)
    assert [line.partition(":")[0] for line in failed] == ["bad", "wrong"]
    assert max(most) == 2 and order.index("tune_a") < order.index("a") and len(order) == 4
    assert all(sweep.look(named[n], named, place).state == sweep.DONE for n in ("a", "b"))


def waits(arguments) -> int:
    """A run that saves after a signal."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(process.REQUEUE))
    Path(arguments[0]).write_text(os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"])
    time.sleep(60)
    return 0


def test_a_signal_reaches_all_runs_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "PRELOAD", [])
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    begun = [tmp_path / "a", tmp_path / "b"]

    def stop():
        while not all(path.is_file() and path.read_text() for path in begun):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    with process.Calls(jobs=2) as calls, ThreadPoolExecutor(3) as pool:
        pool.submit(stop)
        ended = [pool.submit(calls.run, [str(p)], tmp_path / f"{p.name}.txt", waits) for p in begun]
        for one in ended:
            with pytest.raises(process.Interrupted):
                one.result(30)
        with pytest.raises(process.Interrupted):  # and nothing begins after it
            calls.run([], tmp_path / "c.txt", waits)
    assert [p.read_text() for p in begun] == ["0.450", "0.450"]


def test_a_lost_card_makes_a_run_unfinished_and_more_seeds_do_too(tmp_path):
    run, place = run_of("a"), Place(tmp_path)
    sweep.sweep([run], {"a": run}, place, str, trained)
    step = sweep.look(run, {"a": run}, place)
    assert step.state == sweep.DONE
    more = run_of("a", seeds=(0, 1, 2))
    assert sweep.look(more, {"a": more}, place).state == sweep.READY
    plan.cards_of(step.config)[0].unlink()
    assert sweep.look(run, {"a": run}, place).state == sweep.READY


def test_machines_share_all_runs_and_need_nothing_of_each_other():
    runs = plan.ordered(loaded("figure1").runs(SMOKE))
    parts = [sweep.part(runs, i, 3) for i in range(3)]
    assert sorted(r.name for p in parts for r in p) == sorted(r.name for r in runs)
    for part in parts:
        names = [r.name for r in part]
        for run in part:
            assert all(names.index(n) < names.index(run.name) for n in run.needs)


def test_a_run_that_saved_after_a_signal_ends_the_sweep(tmp_path):
    run = run_of("a")
    with pytest.raises(process.Interrupted):
        sweep.sweep([run], {"a": run}, Place(tmp_path), str, lambda *a: (process.REQUEUE, 1.0))


def test_plans_that_cannot_be_are_refused():
    with pytest.raises(config.ConfigError, match="needs x, which is not declared"):
        plan.ordered([run_of("a", tuned_by="x")])
    with pytest.raises(config.ConfigError, match="declared twice"):
        plan.ordered([run_of("a"), run_of("a", epochs=3)])


# --- tuning


def test_the_grid_is_chosen_on_holdout_images_without_what_diverged():
    row = lambda lr, accuracy, died=None: {
        "learning_rate": lr,
        "weight_decay": 0.0,
        "holdout_accuracy": accuracy,
        "test_accuracy": 1 - (accuracy or 0),
        "diverged_at": died,
    }
    found = tuning.choose([row(0.1, 0.5), row(0.1, 0.7), row(0.2, 0.9), row(0.2, None, 3)])
    assert found["learning_rate"] == 0.1 and len(found["tried"]) == 2
    with pytest.raises(ValueError, match="every point"):
        tuning.choose([row(0.2, None, 3)])
    with pytest.raises(ValueError, match="holdout"):
        tuning.choose([row(0.2, None)])


CHOSEN = {
    **{"run": "a", "scale": "smoke", "network": "conv2", "data": "digits", "epochs": "5"},
    **{"learning_rate": "0.05", "weight_decay": "0.001"},
}


def chosen_for(c: ConfigDict) -> dict:
    return {"network": c.model.name, "epochs": str(c.epochs)}


def written(path: Path, *rows: dict) -> Path:
    path.write_text(tabular.csv_table(list(rows)))
    return path


def test_choices_of_a_published_table_take_the_place_of_tuning(tmp_path):
    runs = plan.ordered([run_of("tune_a", role=TUNE, **GRID), run_of("a", tuned_by="tune_a")])
    named, place = {r.name: r for r in runs}, Place(tmp_path)
    row = CHOSEN | chosen_for(plan.resolved(runs[0], place))
    table = written(tmp_path / "cards.csv", row, row, row | {"run": "b", "learning_rate": "9"})
    rows = tuning.published(table)
    adopt = lambda rows, scale="smoke": tuning.adopted(runs, scale, place, rows, table)
    # Of another scale, of other data: nothing to adopt, and tuning stays to be done.
    assert adopt(rows, "small") == {} == adopt([r | {"data": "CIFAR-10"} for r in rows])
    assert sweep.look(named["tune_a"], named, place).state == sweep.READY
    with pytest.raises(config.ConfigError, match="a is resnet18 there"):
        adopt([row | {"network": "resnet18"}])
    with pytest.raises(config.ConfigError, match="a has epochs 99 there, here"):
        adopt([row | {"epochs": "99"}])
    with pytest.raises(config.ConfigError, match="a has width 7 there, here"):
        adopt([row | {"width": "7"}])
    with pytest.raises(config.ConfigError, match="a has augment augmix there, here"):
        adopt([row | {"augment": "augmix"}])
    with pytest.raises(config.ConfigError, match="a has train_images 7 there, here"):
        adopt([row | {"train_images": "7"}])
    with pytest.raises(config.ConfigError, match="cards of a: could not convert"):
        adopt([row | {"learning_rate": ""}])
    with pytest.raises(config.ConfigError, match="2 choices of learning_rate and weight_decay"):
        adopt([row, row | {"weight_decay": "0.002"}])
    choices = adopt(rows)
    assert list(choices) == ["tune_a"]
    # Known without being written, for those who only look.
    lent = dataclasses.replace(place, chosen=choices)
    assert sweep.look(named["tune_a"], named, lent).state == sweep.DONE
    assert sweep.look(named["a"], named, lent).config.learning_rate == (0.05,)
    assert sweep.look(named["a"], named, place).state == sweep.WAITING
    tuning.keep(runs, place, choices)
    calls = []
    sweep.sweep(runs, named, place, str, lambda *a: calls.append(a[0]) or trained(*a))
    assert len(calls) == 1 and "--config.name=a" in calls[0]
    step = sweep.look(named["a"], named, place)
    assert step.state == sweep.DONE
    assert (step.config.learning_rate, step.config.weight_decay) == ((0.05,), (0.001,))
    # What stands there is not overwritten.
    assert adopt([row | {"learning_rate": "0.5"}]) == {}
    assert sweep.look(named["a"], named, place).config.learning_rate == (0.05,)


def test_a_choice_that_was_made_here_is_kept_and_its_runs_are_still_asked_for(tmp_path):
    runs = plan.ordered([run_of("tune_a", role=TUNE, **GRID), run_of("a", tuned_by="tune_a")])
    named, place = {r.name: r for r in runs}, Place(tmp_path)
    sweep.sweep(runs, named, place, str, trained)
    row = CHOSEN | chosen_for(plan.resolved(runs[0], place))
    assert tuning.adopted(runs, "smoke", place, [row], tmp_path / "cards.csv") == {}
    assert sweep.look(named["a"], named, place).config.learning_rate == (0.2,)
    plan.cards_of(plan.resolved(runs[0], place))[0].unlink()
    assert sweep.look(named["tune_a"], named, place).state == sweep.READY


@pytest.mark.parametrize("name", ("figure4", "iterations", "pruned_or_small", "scope", "width"))
def test_choices_of_figure_1_serve_every_experiment_with_its_methods(name, tmp_path):
    """Though these may train none of its cards: a method has one grid on networks of its width."""
    table = ROOT / "results" / "cifar10_jpeg_figure1.csv"
    rows, scale = tuning.published(table), SCALES["small"]
    place = Place(tmp_path, {"data.name": "cifar10", "data.title": "CIFAR-10 (JPEG)"})
    runs = plan.ordered(loaded(name).runs(scale))
    found = tuning.adopted(runs, "small", place, rows, table)
    grids = [run.name for run in runs if run.role == TUNE and "model.width" not in run.fixed]
    assert list(found) == grids and found


@pytest.mark.parametrize(
    "text, why", [("", "has no data"), ("run,scale\na,smoke\n", "weight_decay")]
)
def test_a_table_without_choices_is_refused(text, why, tmp_path):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(config.ConfigError, match=why):
        tuning.published(tmp_path / "x.csv")
    with pytest.raises(config.ConfigError, match="cannot be read"):
        tuning.published(tmp_path / "none.csv")


# --- verdicts


def estimate(low: float, high: float, n: int = 5) -> Estimate:
    return Estimate((low + high) / 2, low, high, low, high, n)


@pytest.mark.parametrize(
    "low, high, sign, within, verdict",
    [
        (0.1, 2, 1, None, AGREES),
        (-2, -0.1, 1, None, DISAGREES),
        (-0.1, 2, 1, None, UNDECIDED),
        (-2, -0.1, -1, None, AGREES),
        (0.1, 2, -1, None, DISAGREES),
        (-2, -0.1, 0, None, AGREES),
        (-1, 1, 0, None, UNDECIDED),
        (-0.4, 0.3, 1, 0.5, AGREES),
        (-0.4, 0.6, 1, 0.5, UNDECIDED),
        (-3, -0.6, 1, 0.5, DISAGREES),
    ],
)
def test_a_claim_is_answered_only_where_the_interval_says_so(low, high, sign, within, verdict):
    assert answer(estimate(low, high), sign, within) == verdict
    assert answer(estimate(low, high, n=4), sign, within) == UNDECIDED
    assert answer(None, sign, within) == MISSING


class Planted:
    """Five seeds, in which `a` is right about more of the same images than `b`; seeds differ more than a and b do."""

    corrupted, source, title, scale, missing = ("x",), None, "planted", SMOKE, ()

    def __init__(self, better: float, images: int = 400):
        rng = np.random.default_rng(0)
        level = rng.uniform(0.2, 0.8, 5)
        luck = rng.random((5, images))
        self.decay = {}
        self.right = {
            "a": luck < (level + better)[:, None],
            "b": luck < level[:, None],
        }

    def group(self, run, sparsity):
        decay = self.decay.get(run, 1e-4)
        return [PlantedCard(seed, right, decay) for seed, right in enumerate(self.right[run])]


class PlantedCard:
    emptied = ()

    def __init__(self, seed, right, decay):
        self.result, self._right = {"seed": seed}, right
        self.result |= {"learning_rate": 0.1, "weight_decay": decay}

    def right(self, names):
        return self._right.astype(float)


@pytest.mark.parametrize("better, verdict", [(0.05, AGREES), (-0.05, DISAGREES), (0, UNDECIDED)])
def test_pairs_of_seeds_decide_where_means_of_seeds_could_not(better, verdict):
    found = verdict_rows(Planted(better))[0]
    assert found["verdict"] == verdict and found["n"] == 5
    decided = verdict in (AGREES, DISAGREES)  # a loss is one to the control too
    assert found["because_of_pruning"] == ("yes" if decided else "not shown")


def test_a_constant_answer_flattens_nothing(monkeypatch):
    """Where half of the cards lost a layer the evenness of their maps is no finding."""
    planted = Planted(0.05)
    monkeypatch.setattr(verdict, "_each", lambda findings, measure, card: card.right(()))
    rule = verdict.Rule("flat", "uneven", ("a", 0.5), ("b", 0.0), 1)
    assert verdict.judge(planted, [rule])[0]["verdict"] == AGREES
    monkeypatch.setattr(PlantedCard, "emptied", property(lambda card: card.lost))
    for lost, wanted in ((2, AGREES), (3, UNDECIDED)):
        monkeypatch.setattr(
            PlantedCard,
            "lost",
            property(lambda c, n=lost: ["x"] * (c.result["seed"] < n)),
            raising=False,
        )
        assert verdict.judge(planted, [rule])[0]["verdict"] == wanted


def test_more_of_what_lengthens_training_is_held_against_longer_training_too():
    """`a` gains 10 points over `b` with more iterations; so does `c` over `d`, dense networks trained as long."""
    planted = Planted(0.1)
    planted.right |= {"c": planted.right["a"], "d": planted.right["b"], "e": planted.right["b"]}
    at = {name: (name, 0.0) for name in "abcde"}
    for other, because in (("c", "not shown"), ("e", "yes")):
        control = (at["a"], at["b"], at[other], at["d"])
        rule = verdict.Rule("more", "corrupted", at["a"], at["b"], 1, control=control)
        found = verdict.judge(planted, [rule])[0]
        assert (found["verdict"], found["because_of_pruning"]) == (AGREES, because)
        assert found["control"] == f"a minus b, less {other} minus d"
        expected = found["difference"] if other == "e" else 0
        assert found["control_difference"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("other, because", [("c", "not shown"), ("d", "yes")])
def test_a_control_of_a_claim_that_two_differ_has_to_differ_the_same_way(other, because):
    """`a` gains over `b`; against longer training `a` loses to `c`, and gains over `d` as much."""
    planted = Planted(0.1)
    planted.right |= {"c": np.ones_like(planted.right["a"]), "d": planted.right["b"]}
    at = {name: (name, 0.0) for name in "abcd"}
    control = (at["a"], at[other])
    rule = verdict.Rule("matters", "corrupted", at["a"], at["b"], 0, control=control)
    found = verdict.judge(planted, [rule])[0]
    assert (found["verdict"], found["because_of_pruning"]) == (AGREES, because)
    assert abs(found["control_difference"]) > 5


@pytest.mark.parametrize(
    "low, high, expected", [(-6, -4, AGREES), (-1, 1.5, UNDECIDED), (1.2, 3, DISAGREES)]
)
def test_no_more_than_is_one_sided(low, high, expected):
    assert answer(estimate(low, high), 1, most=1.0) == expected


def verdict_rows(planted):
    control = (("a", 0.9), ("b", 0.0))
    rule = verdict.Rule("a is better", "corrupted", ("a", 0.9), ("b", 0.0), 1, control=control)
    rows = verdict.judge(planted, [rule])
    assert "a is better" in verdict.markdown(rows, planted)
    return rows


class Known(Card):
    """A card of which is known which images it gets right, and what it lost."""

    emptied = ()

    @property
    def right_of_clean(self):
        return self.result["right"] > 0

    def right(self, names):
        return self.result["right"]


def known(method: str, sparsity: float, seed: int, right: np.ndarray) -> Known:
    c = ConfigDict({"method": method, "augment": "plain", "model": {"name": "conv2", "width": 8}})
    result = {"seed": seed, "sparsity": sparsity, "learning_rate": 0.1, "weight_decay": 0.0}
    result |= {"right": right.astype(float), "test_accuracy": right.mean(), "true_bytes": 7}
    return Known(Run(method, method.upper(), "", {}), c, Path(), result)


def test_the_summary_says_how_far_from_dense_every_group_is():
    rng = np.random.default_rng(0)
    luck = {seed: rng.random(400) for seed in range(5)}
    made = [
        known(method, sparsity, seed, luck[seed] < 0.5 - lost - seed / 100)
        for method, sparsity, lost in (("dense", 0.0, 0.0), ("ft", 0.5, 0.0), ("ft", 0.9, 0.2))
        for seed in luck
    ]
    wanted = measure.Wanted(True, False, 400, 0, ())
    findings = Findings("planted", SMOKE, "planted", tuple(made), None, wanted, ())
    means, relative = summary.means(findings), summary.relative(findings)
    assert means.count("\n| ") == 3 + 2
    same, worse = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in relative.splitlines()
        if line.startswith("| FT")
    ]
    assert same[:4] == ["FT", "50", "5", "+0.00"]
    found = verdict.difference(findings, "corrupted", ("ft", 0.9), ("dense", 0.0))
    assert worse[1] == "90" and worse[7:] == [
        f"{found.mean:+.2f}",
        f"[{found.low:+.2f}, {found.high:+.2f}]",
        f"{found.smallest:+.2f}",
        f"{found.largest:+.2f}",
    ]
    assert -25 < found.mean < -15
    assert "nothing left" not in means and "training images" not in means
    made[0].result["train_images"] = 4000
    assert "planted, 4,000 training images, scale smoke" in summary.means(findings)
    made[-1].__dict__["emptied"] = ["linear1"]
    assert "FT, 90%: 1 of 5 cards have nothing left of linear1." in summary.means(findings)
    (row,) = verdict.judge(
        findings, [verdict.Rule("gains", "clean", ("ft", 0.9), ("dense", 0.0), 1)]
    )
    assert row["collapsed"] == "ft 90%: 1 of 5 cards have nothing left of linear1."
    assert verdict.markdown([row, row], findings).count("nothing left") == 1
    for augment, said in (("augmix", True), ("plain", False)):
        for card in made[5:]:
            card.config.augment = augment
        text = summary.means(findings)
        assert ("FT, augmix" in text) == ("DENSE, plain" in text) == said
    assert summary.bases(findings) == {("dense", 0.0)}
    alone = dataclasses.replace(findings, cards=tuple(made[:5]))
    assert summary.relative(alone) == "" and summary.markdown(alone).count("\n| ") == 3
    # A dense control, which may be trained otherwise, takes no place of dense cards that are missing.
    for card in made[5:]:
        card.config.augment = "plain"
    assert "| FT" in summary.relative(findings)
    for i, card in enumerate(made[:5]):
        made[i] = dataclasses.replace(
            card, run=dataclasses.replace(card.run, role=CONTROL), result=card.result
        )
    controlled = dataclasses.replace(findings, cards=tuple(made))
    assert summary.relative(controlled) == "" and summary.bases(controlled) == set()


def test_cards_of_several_widths_have_no_dense_group_in_common():
    """A page then shows no difference to dense: that of another width would be none of method."""
    right = np.ones(40)
    made = [known(m, s, 0, right) for m, s in (("dense", 0.0), ("lrr", 0.5))]
    wide = [known(m, s, 0, right) for m, s in (("dense", 0.0), ("lrr", 0.5))]
    for card in wide:
        card.config.model.width = 16
    wide = [
        dataclasses.replace(c, run=dataclasses.replace(c.run, name=f"{c.run.name}_w16"))
        for c in wide
    ]
    findings = lambda cards: Findings("planted", SMOKE, "planted", tuple(cards), None, None, ())
    assert summary.bases(findings(made)) == {("dense", 0.0)}
    assert summary.bases(findings([*made, *wide])) == set()
    control = [
        dataclasses.replace(c, run=dataclasses.replace(c.run, role=CONTROL)) for c in wide[:1]
    ]
    assert summary.bases(findings([*made, *control])) == {("dense", 0.0)}
    assert summary.bases(findings(made[1:])) == set()


@pytest.mark.parametrize("images, decided", [(10, False), (400, True)])
def test_heatmaps_draw_images_too(images, decided):
    """Seeds agree that all waves of a third of the images fool a card, where none fools dense: which third is luck."""
    rng, cells = np.random.default_rng(0), len(fourier.frequencies(8, 8))
    fooled = np.arange(images) % 10 < 3
    made = []
    for seed in range(5):
        for method, share in (("dense", 0.0), ("ft", 0.9)):
            moved = rng.random(images) < 0.02  # a little of its own in every seed
            wrong = np.stack([np.zeros((cells, images), bool)] * 2)
            wrong[1] = (fooled ^ moved) if share else moved
            errors = evaluate.errors(wrong, 8, 8)
            card = known(method, share, seed, np.ones(images))
            heat = Heat(Path(), {}, errors, wrong)
            made.append(dataclasses.replace(card, heat=heat))
    wanted = measure.Wanted(False, True, 0, images, (3.0, 6.0))
    findings = Findings("planted", SMOKE, "planted", tuple(made), None, wanted, ())
    found = verdict.difference(findings, "heat", ("ft", 0.9), ("dense", 0.0))
    of = lambda method: [c.heat.errors[1].mean() for c in made if c.run.name == method]
    assert found.mean == pytest.approx(100 * (np.mean(of("ft")) - np.mean(of("dense"))), abs=1e-6)
    assert (found.low > 10) == decided
    uneven = verdict.difference(findings, "uneven", ("ft", 0.9), ("dense", 0.0))
    assert uneven.mean == pytest.approx(0) and answer(uneven, 1) == UNDECIDED


def test_cards_of_other_images_are_not_measured_on_these(tmp_path):
    """Two folders of images have the same runs, whose cards must not be mixed."""
    place = Place(tmp_path, {"data.name": "digits"})
    c = plan.resolved(Run("x", "X", "configs/dense_conv.py:conv2", {}), place)
    now = data.prepare(c).fingerprint
    for name, fingerprint in (("mine", now), ("other", "0123456789abcdef")):
        meta = {"data_fingerprint": fingerprint}
        pack.save(
            tmp_path / f"{name}.card", cards.sampled(cards.SMALL, 0.5, False), cards.SMALL, meta
        )
    mine, other, broken = (tmp_path / f"{name}.card" for name in ("mine", "other", "broken"))
    measure.same_data([mine, tmp_path / "not there.card"], c)
    with pytest.raises(config.ConfigError, match=f"other.card: trained on other images .*{now}"):
        measure.same_data([mine, other], c)
    broken.write_bytes(mine.read_bytes()[:-9])
    with pytest.raises(config.ConfigError, match="broken.card: damaged.*deleted, the same command"):
        measure.same_data([broken], c)


def test_a_folder_of_images_says_how_many_there_are(tmp_path):
    """What steps and widths are worked out from, loaded only where nothing else tells."""
    for split, count in (("train", 12), ("test", 6)):
        for kind in "abc":
            for i in range(count // 3):
                path = tmp_path / split / kind / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                PIL.Image.new("RGB", (24, 24), (i, 0, 0)).save(path)
    fields = {"data.name": "folder", "data.dir": str(tmp_path), "data.subset": "9"}
    found = dataclasses.replace(SCALES["paper"], given=fields).pictures
    assert (found.train, found.test, found.classes, found.side) == (12, 6, 3, 24)
    other = dataclasses.replace(SCALES["paper"], given=fields | {"data.image_size": "16"}).pictures
    assert other.side == 16 and Images().train == 50000 and Images("cifar100").classes == 100
    c = plan.resolved(run_of("x"), Place(tmp_path, fields | {"data.dir": "/nowhere"}))
    assert estimates.training_images(c) == 9


def test_small_dense_networks_weigh_what_the_cards_of_the_results_weigh():
    """EP's no more; LRR's a few percent more at most, as its global masks have less entropy than is counted."""
    with (ROOT / "results" / "cifar10_jpeg_figure1.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["sparsity"] == "0.9375"]
    runs = {run.name: run for run in loaded("pruned_or_small").runs(SCALES["small"])}
    for kind, most in (("ep_layerwise", 1.0), ("lrr", 1.05)):
        width = runs[f"dense_conv4_augmix_as_{kind}"].fields["model.width"]
        card = min(int(r["true_bytes"]) for r in rows if r["run"] == f"{kind}_conv4")
        weighs = lambda w: equal_bytes.dense_bytes(models.Spec("conv4", w, 10))
        assert weighs(width) <= most * card < weighs(width + 1)


def test_decks_are_windows_of_a_ring_of_seeds_and_all_seeds_are_one():
    seeds = {augment: [OfSeed(augment, i) for i in range(5)] for augment in decks.AUGMENTS}
    for size, count in ((2, 5), (4, 5), (8, 5), (10, 1), (12, 0)):
        found = decks.members(seeds, size)
        assert len({frozenset(hand) for hand in found}) == len(found) == count
        assert all(len(set(hand)) == size for hand in found)
        held = [sum(card in hand for hand in found) for own in seeds.values() for card in own]
        assert set(held) == {size // 2 if count > 1 else count}
        right = np.ones((count, 3), bool)
        if count:
            firsts = tuple(range(count))
            assert {decks.Decks("", size, "", right, right, 0, 0, firsts).shared} == set(held)


@dataclasses.dataclass(frozen=True)
class OfSeed:
    augment: str
    seed: int

    @property
    def result(self):
        return {"seed": self.seed}


def test_decks_hold_cards_of_one_seed_of_both_augmentations_though_some_diverged():
    augmix, gaussian = decks.AUGMENTS
    alive = {augmix: (0, 2, 3, 4), gaussian: (0, 1, 2, 4)}
    made = {a: [OfSeed(a, seed) for seed in seeds] for a, seeds in alive.items()}
    hands = decks.members(made, 2)
    assert [{card.seed for card in hand} for hand in hands] == [{0}, {2}, {4}]
    assert decks.members({augmix: made[augmix]}, 2) == []


def of_decks(firsts, size, rights) -> decks.Decks:
    rights = np.asarray(rights, float)
    return decks.Decks("x", size, "", rights > 0.5, rights, 0.0, 0.0, tuple(firsts))


@pytest.mark.parametrize("images, where", [(10_000, "outside"), (1_000, "inside")])
def test_a_published_number_of_the_same_images_is_compared_without_their_luck(images, where):
    """Seeds agree about every image; the published number is 0.8 points away."""
    (fact,) = (f for f in against_paper.facts("cifar10") if f["cards"] == "dense")
    right = np.arange(images) < images * (fact["clean"] + 0.8) / 100
    deck = decks.Decks(
        "dense", 1, "", np.stack([right] * 5), np.ones((5, 4)), 0, 0, tuple(range(5))
    )
    source = types.SimpleNamespace(benchmark="cifar10", name="CIFAR-10-C")
    findings = Findings("planted", SMOKE, "CIFAR-10", (), source, None, ())
    rows = against_paper.table(findings, [deck], "cifar10", fact["network"], 0.945)
    (row,) = (row for row in rows if row["cards"] == "dense")
    assert row["clean, published is"] == where
    assert row["clean, this benchmark's files, low"] < fact["clean"] + 0.4  # images count there


def test_too_few_decks_are_neither_inside_nor_outside():
    """One deck of all seeds has no interval, even where it equals the published number."""
    (fact,) = (
        f
        for f in against_paper.facts("cifar10")
        if f["cards"] == "LRR" and f["source"].startswith("Robust")
    )
    right = np.arange(10_000) < 10_000 * fact["clean"] / 100
    deck = decks.Decks("LRR", 6, "agnostic", right[None], np.ones((1, 4)), 0, 0, (0,))
    source = types.SimpleNamespace(benchmark="cifar10", name="CIFAR-10-C")
    findings = Findings("planted", SMOKE, "CIFAR-10", (), source, None, ())
    rows = against_paper.table(findings, [deck], "cifar10", fact["network"], fact["sparsity"])
    row = next(r for r in rows if r["source"] == fact["source"] and r["n"])
    assert row["clean, published is"] == "n below 5: not said"
    assert row["published sparsity (%)"] == row["our sparsity (%)"] == pytest.approx(94.5)
    text = against_paper.markdown(rows, findings)
    assert "published sparsity (%)" in text and "clean, this benchmark's files, min" in text


def test_kinds_of_decks_are_told_apart_by_colour_and_marker():
    names = ["dense", "LRR", "EP, binary"]
    cards = [f"{name}{end}" for name in names for end in ("", ", augmix", ", gaussian")]
    found = [decks.Decks(label, 1, "", *2 * [np.ones((1, 4))], 1e6, 1.0, (0,)) for label in cards]
    found.append(decks.Decks("LRR", 6, "agnostic", *2 * [np.ones((1, 4))], 1e9, 1.0, (0,)))
    looks = {}
    with draw.figure(4, 4) as fig:
        axes = fig.subplots()
        said = deckwork.bubbles(axes, found)
        for path in axes.collections:
            shape = path.get_paths()[0].vertices.tobytes()
            looks.setdefault((path.get_edgecolor()[:, :3].tobytes(), shape), set()).add(
                path.get_label()
            )
        areas = sorted(float(path.get_sizes()[0]) for path in axes.collections)
    assert len(looks) == len(cards)
    assert areas[-1] == deckwork.LARGEST and areas[0] == deckwork.SMALLEST and "smallest" in said
    assert {d.method for d in found} == set(names)


def test_the_legend_holds_what_any_panel_has():
    """The first network may not be finished."""
    with draw.figure(4, 3) as fig:
        _, second = fig.subplots(1, 2)
        second.plot([0, 1], [0, 1], label="LRR")
        draw.legend(fig)
        assert [text.get_text() for text in fig.legends[0].get_texts()] == ["LRR"]


def test_decks_are_paired_by_the_seed_that_they_begin_with():
    rng = np.random.default_rng(0)
    level = rng.random(5)[:, None] + 0.05 * rng.random((5, 50))
    dense = of_decks(range(5), 1, level)
    some = of_decks((0, 2, 3, 4), 2, level[[0, 2, 3, 4]] + 0.01)
    found = deckwork.difference(some, dense, "corrupted")
    assert found.n == 4 and found[:3] == pytest.approx((1, 1, 1))
    assert deckwork.difference(of_decks((7, 8), 2, level[:2]), dense, "corrupted") is None
    # One deck of all seeds stands beside the mean of the others.
    whole = of_decks((0,), 10, level.mean(0, keepdims=True) + 0.02)
    found = deckwork.difference(whole, dense, "corrupted")
    assert found.n == 1 and found.mean == pytest.approx(2)
    # Decks of six share cards; of three that are left the interval is as wide as it can be said to be.
    few = of_decks((0, 1, 2), 6, level[:3] + 0.01)
    assert deckwork.difference(few, dense, "corrupted").n == 3


# --- the command


def code_of(*arguments: str) -> int:
    try:
        return command.main(loaded("figure1"), arguments)
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--scale=huge"], "--scale"),
        (["fly"], "action"),
        (["--index=0"], "--index, --of"),
        (["--index=3", "--of=3"], "allowed is 0 to 2"),
        (["--gflops=0"], "--gflops"),
        (["--images=-1"], "--images=-1: allowed is 0 (all)"),
        (["--heat_images=0"], "--heat_images=0: allowed is 1 or more"),
        (["--epochs=3"], "--epochs=3"),
        (["list", "--config.epoch=3"], "the nearest is 'epochs'"),
        (["list", "--config.batch_size=0"], "batch_size=0"),
        (["list", "--config.epochs=24"], "epochs=24: runs of figure1 differ in it"),
        (["list", "--config.sparsity=0.5"], "sparsity=0.5: runs and claims of figure1 are named"),
        (["list", "--config.model.name=conv6"], "config.model.name=conv6: runs and claims"),
        (["list", "--config.epochs=x"], "config.epochs=x: allowed is a whole number"),
        (["--workdir="], "workdir"),
        (["collect", "--workdir=nowhere"], "no run is finished there yet"),
        (["run", "--scale=small", "--data.dir=nowhere"], "nowhere"),
    ],
)
def test_mistakes_end_with_one_line_and_code_two(arguments, text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert code_of(*arguments) == 2
    said = capsys.readouterr().err
    assert text in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_runs_are_compared_for_is_not_overridden():
    """Else twice the epochs would be as many, and a claim about them empty."""
    for name, field in (("width", "model.width"), ("figure4", "augment"), ("figure1", "epochs")):
        experiment = loaded(name)
        runs = plan.ordered(experiment.runs(SMOKE))
        with pytest.raises(config.ConfigError, match=f"config.{field}=7: runs of {name} differ"):
            plan.overridable(experiment, runs, {field: "7"})
        plan.overridable(experiment, runs, {"seeds": "1,2", "checkpoint.keep": "1"})


def test_a_width_that_follows_from_others_follows_a_width_that_is_given(tmp_path):
    place = Place(tmp_path, {"data.name": "digits", "model.width": "16"})
    experiment = loaded("pruned_or_small")
    runs = experiment.runs(dataclasses.replace(SMOKE, given=place.fields))
    plan.overridable(experiment, runs, {"model.width": "16"})
    widths = {
        r.name: plan.resolved(command._alone(r), place).model.width for r in runs if r.role != TUNE
    }
    small = {name for name in widths if "_as_" in name}
    assert len(small) == 3 and {widths[name] for name in set(widths) - small} == {16}
    declared = {r.name: r.fields["model.width"] for r in runs if r.name in small}
    assert {name: widths[name] for name in small} == declared
    wider = experiment.runs(dataclasses.replace(SMOKE, given={"model.width": "32"}))
    assert all(r.fields["model.width"] > declared[r.name] for r in wider if r.name in small)


@pytest.mark.parametrize("given", [{}, {"epochs": "6"}, {"data.subset": "256"}], ids=str)
def test_rewind_points_are_shares_of_the_training_that_there_is(given, tmp_path):
    place = Place(tmp_path, {"data.name": "digits", **given})
    scale = dataclasses.replace(SMOKE, given=place.fields)
    for run in loaded("rewind_point").runs(scale):
        if share := re.search(r"_k(\d+)$", run.name):
            c = plan.resolved(command._alone(run), place)
            whole = c.epochs * (estimates.training_images(c) // c.batch_size)
            assert c.pruning.rewind_steps == round(int(share[1]) / 1000 * whole)


def test_images_of_every_class_are_counted(tmp_path):
    for fields, images in (
        ({"data.subset_per_class": "20"}, 200),
        ({"data.subset": "70"}, 70),
        ({"data.subset_per_class": "5000"}, 1437 - 200),
    ):
        place = Place(tmp_path, {"data.name": "digits", "holdout": "200", **fields})
        c = plan.resolved(run_of("a"), place)
        assert estimates.training_images(c) == images


def test_more_seeds_are_no_more_tuning(tmp_path):
    place = Place(tmp_path, {"data.name": "digits", "seeds": "0,1,2,3,4,5"})
    grid, cards = recipes.family("ft", "conv2", SMOKE)
    assert plan.resolved(grid, place).seeds == SMOKE.tune_seeds
    assert plan.resolved(command._alone(cards), place).seeds == (0, 1, 2, 3, 4, 5)


GIVEN = (
    (SMOKE, {}),
    (SCALES["small"], {}),
    (SCALES["small"], {"data.subset": "1000"}),
    (SCALES["narrow"], {"batch_size": "128"}),
)


@pytest.mark.parametrize("scale, given", GIVEN, ids=lambda x: getattr(x, "name", str(x)))
def test_controls_are_trained_for_as_long_as_what_they_control(scale, given, tmp_path):
    """Whatever the command line says about the length of a training."""
    place = Place(tmp_path, {"data.name": scale.data or "cifar10", **given})
    scale = dataclasses.replace(scale, given=place.fields)
    runs = {run.name: run for run in loaded("figure1").runs(scale)}
    net = scale.networks[0]

    def steps(name: str) -> int:
        """Of all trainings of the highest sparsity."""
        c = plan.resolved(command._alone(runs[name]), place)
        most = [p for p in config.points(c) if p.seed == c.seeds[0]][-1:]
        return sum(p.steps for p in trainer.phases_of(c, most, epoch))

    _, epoch = recipes.steps_of(runs[f"lrr_{net}"], scale)
    whole = steps(f"lrr_{net}")
    assert steps(f"dense_{net}_cyclic") == whole
    for method in ("gmp", "ft"):
        assert abs(steps(f"{method}_{net}_long") - whole) <= epoch / 2


def test_lists_and_estimates_without_writing(capsys, tmp_path):
    assert code_of("list", f"--workdir={tmp_path}") == 0
    assert "lrr_conv2" in capsys.readouterr().out
    assert code_of("estimate", f"--workdir={tmp_path}", "--gflops=1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("| lrr_conv2 ") for line in lines)
    (measuring,) = (line for line in lines if line.startswith("| measuring"))
    assert float(measuring.split("|")[3]) > 0
    assert code_of("list", "--commands", f"--workdir={tmp_path}") == 0
    assert "python -m cards_jax.main --config=configs/lrr_conv.py:conv2" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_measuring_is_estimated_too(tmp_path):
    c = plan.resolved(
        Run("x", "X", "configs/dense_conv.py:conv2", {"data.name": "digits"}), Place(tmp_path)
    )
    wanted = measure.Wanted(True, True, 60, 500, (3.0, 6.0))
    clean, corrupted, noisy = 360, 75 * 60, 360 * 2 * 514  # there are 360 test images only
    assert estimates.images_measured(c, wanted) == clean + corrupted + noisy
    assert estimates.images_measured(c, dataclasses.replace(wanted, robust=False)) == noisy
    assert estimates.need(c).answer > 1e6


def test_finished_runs_tell_the_speed():
    """Long ones, by their median: one that was interrupted knows only its last part."""
    start = estimates.START
    assert estimates.speed([]) is None and estimates.speed([(1e12, 2 * start)]) is None
    took = [(n * 1e11, start + n) for n in (100, 200, 300)]
    assert estimates.speed([*took, (9e15, start + 100), (1.0, start)]) == pytest.approx(100)


PYTHON = """#!/bin/bash
echo "$@" >> said.txt
trap 'exit 75' TERM
touch started
for i in $(seq 600); do sleep 0.1; done
"""


def test_a_batch_job_hands_its_signal_on_and_is_queued_again(tmp_path):
    for name, content in (
        ("python", PYTHON),
        ("scontrol", '#!/bin/bash\necho "$@" > queued.txt\n'),
    ):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    given = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "N": "4",
    }
    given |= {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_JOB_ID": "71", "SLURM_JOB_ID": "73"}
    line = ["bash", str(ROOT / "experiments" / "sweep.sbatch"), "figure1", "--scale=paper"]
    job = subprocess.Popen(line, env=given)
    while not (tmp_path / "started").exists():
        assert job.poll() is None
        time.sleep(0.02)
    job.terminate()
    assert job.wait(60) == process.REQUEUE
    wanted = "experiments/figure1.py run --index=2 --of=4 --scale=paper"
    assert (tmp_path / "said.txt").read_text().strip() == wanted
    assert (tmp_path / "queued.txt").read_text().strip() == "requeue 71_2"


# --- everything, small


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Path:
    """Experiments share their runs here, as they do elsewhere."""
    return tmp_path_factory.mktemp("experiments")


def start(name: str, *arguments: str) -> subprocess.CompletedProcess:
    line = [sys.executable, str(ROOT / "experiments" / f"{name}.py"), *arguments]
    places = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    given = {**os.environ, "PYTHONPATH": places}
    return subprocess.run(line, env=given, capture_output=True, text=True, timeout=1800)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_smoke_scale_ends_in_figures_and_is_not_repeated(name, smoke):
    first = start(name, "--scale=smoke", f"--workdir={smoke}")
    assert first.returncode == 0, first.stderr
    out = smoke / "figures" / name
    drawn = [p for p in out.iterdir() if p.suffix in (".png", ".md") and p.stat().st_size]
    assert drawn and "FAILED" not in first.stderr
    again = start(name, "run", "--scale=smoke", f"--workdir={smoke}")
    assert again.returncode == 0 and not re.search(r"\] \S+: \d+ cards", again.stderr)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", ["smoke", "small"])
def test_what_is_given_changes_no_run(name, scale):
    """A scale with the fields of a command line is the same scale: as many runs, of the same names."""
    scale = SCALES[scale]
    given = dataclasses.replace(scale, given={"data.name": scale.data or "cifar10"})
    assert loaded(name).runs(given) == loaded(name).runs(scale)


def test_a_control_of_other_rates_is_none():
    """What a control with another weight decay shows is not due to pruning alone."""
    planted = Planted(0.1)
    planted.right["c"] = planted.right["b"]
    rule = verdict.Rule(
        "gains", "corrupted", ("a", 0.0), ("b", 0.0), 1, control=(("a", 0.0), ("c", 0.0))
    )
    assert verdict.judge(planted, [rule])[0]["because_of_pruning"] == "yes"
    planted.decay = {"c": 5e-4}
    found = verdict.judge(planted, [rule])[0]
    assert found["because_of_pruning"] == "not shown: rates differ"
    planted.right["c"] = planted.right["a"]  # where it shows nothing, rates are no matter
    assert verdict.judge(planted, [rule])[0]["because_of_pruning"] == "not shown"
