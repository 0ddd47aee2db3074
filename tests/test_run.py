"""A run ends the same however often it was stopped, never does a thing twice, and says in a line what is wrong."""

import dataclasses
import importlib.util
import json
import random
import shutil

import numpy as np
import pytest
import runs
from test_tensorboard import tensorboard_events

from cards_jax import (
    checkpoint,
    config,
    data,
    experiment,
    folder,
    pack,
    realizations,
    run,
    show,
    tree,
)
from cards_jax.config import ConfigError
from cards_jax.metrics import METRIC_FILES
from cards_jax.signals import Signals


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    path = tmp_path_factory.mktemp("cache")
    with runs.compiled_once(path):
        yield path


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A workdir with one finished run of two realizations; not to be changed."""
    workdir = tmp_path_factory.mktemp("reference")
    runs.finished(runs.tiny(workdir))
    return workdir


@pytest.fixture
def copy(reference, tmp_path):
    """(config, folder) of a copy of the finished run."""
    c = runs.tiny(runs.copied(reference, tmp_path / "copy"))
    return c, folder.path_of(c)


def path_in(workdir):
    return folder.path_of(runs.tiny(workdir))


def card_files(path):
    return sorted((path / "cards").iterdir())


def times(path):
    """When each card, metric file and checkpoint was written last."""
    files = [*path.glob("cards/*"), *path.glob("metrics.*"), *path.rglob("manifest.json")]
    return {file: file.stat().st_mtime_ns for file in files}


def test_a_finished_folder_holds_what_it_should(reference):
    path = path_in(reference)
    names = {p.name for p in path.iterdir() if not p.name.startswith(".")}
    files = {"config.json", "versions.json", "state.json", "results.json", "log.txt", *METRIC_FILES}
    files |= {"report.html"}
    assert names == files | {"cards", "checkpoints", "plots", "tables"}
    rows = runs.rows(path)
    assert len(rows) == 2 * 2 * 3  # realizations, splits, epochs
    assert {r["step"] for r in rows} == {11, 22, 33} and {r["epoch"] for r in rows} == {1, 2, 3}
    assert len((path / "metrics.csv").read_text().splitlines()) == 1 + len(rows)
    results = json.loads((path / "results.json").read_text())["results"]
    assert len(results) == len(card_files(path)) == 2
    for result in results:
        last = [r for r in rows if r["realization"] == result["id"] and r["step"] == 33]
        for split in ("train", "test"):
            (row,) = (r for r in last if r["split"] == split)
            assert row["accuracy"] == result[f"{split}_accuracy"]
            assert row["loss"] == result[f"{split}_loss"]
    versions = json.loads((path / "versions.json").read_text())
    assert versions["jax"] and versions["python"]
    snapshot = config.from_json((path / "config.json").read_text())
    assert config.to_json(snapshot) == config.to_json(runs.tiny(reference))
    assert "33" in {p.name for p in (path / "checkpoints" / "group_0").iterdir()}
    assert (path / "tables" / "results.md").exists() and (path / "plots" / "curves.svg").exists()


def test_a_card_predicts_what_the_trainer_measured(reference):
    path = path_in(reference)
    d = data.prepare(runs.tiny(reference))
    for file in card_files(path):
        card = pack.load(file)
        right = np.argmax(card.predict(d.test_images), -1) == d.test_labels
        assert float(np.float32(right.mean())) == pytest.approx(
            card.meta["result"]["test_accuracy"]
        )
        assert card.meta["data_fingerprint"] == d.fingerprint


@pytest.mark.slow
def test_holdout_images_are_measured_beside_the_test_set(tmp_path):
    c = runs.tiny(tmp_path, holdout=20)
    results = runs.finished(c)
    path, d = folder.path_of(c), data.prepare(c)
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert {r["split"] for r in rows} == {"train", "test", "holdout"}
    for point, result in zip(config.points(c), results, strict=True):
        card = pack.load(folder.card_path(c, point))
        right = np.argmax(card.predict(d.holdout_images), -1) == d.holdout_labels
        assert result["holdout_accuracy"] == pytest.approx(float(right.mean()), abs=1e-6)
    mean = np.mean([result["holdout_accuracy"] for result in results])
    assert f" {100 * mean:.2f} |" in (path / "tables" / "results.md").read_text()


def test_a_finished_run_trains_nothing_again(copy, reference):
    c, path = copy
    before = times(path)
    runs.finished(c)
    assert times(path) == before
    runs.assert_same(path, path_in(reference))
    assert "2 of 2 realizations are there already" in runs.log_lines(path)


def test_what_was_typed_stands_in_the_folder_once(copy):
    c, path = copy
    for command in ("first <a>", "second", "first <a>"):
        experiment.complete(c, command)
    assert (path / "commands.txt").read_text() == "first <a>\nsecond\n"
    assert "<code>first &lt;a&gt;</code>" in (path / "report.html").read_text()


@pytest.mark.parametrize("chunks", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_stopped_run_goes_on_to_the_same_end(tmp_path, reference, chunks):
    c = runs.tiny(tmp_path)
    runs.stopped(c, chunks)
    path = folder.path_of(c)
    assert not (path / "cards").exists()
    runs.finished(c)
    runs.assert_same(path, path_in(reference))
    assert any(line.startswith("goes on at step ") for line in runs.log_lines(path))


@pytest.mark.parametrize(
    ("fields", "devices"),
    [
        pytest.param({"method": "ft", "finetune__epochs": 1}, (2, 1), marks=pytest.mark.slow),
        pytest.param({"method": "ft", "finetune__epochs": 1}, (1, 2), marks=pytest.mark.slow),
        pytest.param({"method": "ft", "finetune__epochs": 1}, (4, 2), marks=pytest.mark.slow),
        pytest.param(
            {"method": "lrr", "pruning__rate": 0.5, "pruning__rewind_steps": 2},
            (2, 1),
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_what_all_sparsities_share_goes_on_on_other_devices(tmp_path, fields, devices):
    """It holds fewer realizations than the group has, filled up to the rows of the mesh that there is."""
    fields |= dict(scope="global", seeds=(0, 1, 2), sparsity=(0.5, 0.75), epochs=2)
    c = runs.tiny(tmp_path, **fields, compute__group_size=0, compute__devices=devices[0])
    runs.stopped(c, 1)
    c = runs.tiny(tmp_path, **fields, compute__group_size=0, compute__devices=devices[1])
    results = runs.finished(c)
    assert len(results) == 6 and all(r["diverged_at"] is None for r in results)
    path = folder.path_of(c)
    assert any(line.startswith("goes on at step ") for line in runs.log_lines(path))
    if devices == (2, 1) and fields["method"] == "ft":
        return  # the others are compared with a run of one piece
    alone = runs.tiny(tmp_path / "alone", **fields, compute__devices=devices[1])
    for mine, wanted in zip(results, runs.finished(alone), strict=True):
        assert mine["test_accuracy"] == pytest.approx(wanted["test_accuracy"], abs=0.02)


def test_all_processes_train_as_many_at_a_time(tmp_path, monkeypatch):
    """As the one with the least free memory can."""
    c, asked = runs.tiny(tmp_path, seeds=(0, 1, 2, 3, 4, 5), compute__group_size=0), []
    monkeypatch.setattr(realizations, "least", lambda fits: asked.append(fits) or 4)
    assert run.layout_of(c, data.prepare(c), 6).group == 4 and asked == [6]


def test_a_baseline_may_have_lost_its_cards_where_nothing_measures_them(copy, tmp_path):
    c, path = copy
    config.assign(c, "baseline", runs.dense_run(tmp_path / "dense", c))
    runs.finished(c)
    found = json.loads((path / "results.json").read_text())
    assert [row["method"] for row in found["baseline"]] == ["dense"]


@pytest.mark.slow
def test_corruptions_are_compared_with_the_baseline_of_this_call(tmp_path):
    """Its folder may hold dense cards of other learning rates, of an earlier call."""
    more = dict(sparsity=(0.5,), baseline="auto", epochs=1, seeds=(0,))
    runs.finished(experiment.baseline_config(runs.tiny(tmp_path, **more)))
    more |= {"dense__learning_rate": 0.5, "evaluate__corruptions": ("brightness",)}
    more |= {"evaluate__corruption_images": 20, "evaluate__heatmap": (4.0,)}
    c = runs.tiny(tmp_path, **more, evaluate__heatmap_images=4)
    runs.finished(c)
    found = json.loads((folder.path_of(c) / "results.json").read_text())
    (dense,) = found["baseline"]
    assert dense["learning_rate"] == 0.5
    assert len(list((experiment.baseline_folder(c) / "cards").iterdir())) == 2
    kinds = {r["learning_rate"] for r in found["corruptions"]["rows"] if r["method"] == "dense"}
    assert kinds == {0.5}


def test_damaged_checkpoints_give_way_to_the_one_before(tmp_path, reference):
    c = runs.tiny(tmp_path)
    runs.stopped(c, 3)
    path, chance = folder.path_of(c), random.Random(0)
    for left in (1, 0):
        again = runs.tiny(tmp_path / f"{left} left")
        shutil.copytree(path, folder.path_of(again))
        saves = folder.path_of(again) / "checkpoints" / "group_0"
        steps = sorted(map(int, (p.name for p in saves.iterdir())))
        assert len(steps) == 2
        for step in steps[left:]:
            runs.flip(runs.largest(saves / str(step)), chance)
        runs.finished(again)
        runs.assert_same(folder.path_of(again), path_in(reference))
        said = [line for line in runs.log_lines(folder.path_of(again)) if "is damaged" in line]
        then = f"checkpoint {steps[0]} is used" if left else "training starts over"
        assert len(said) == 2 - left and all(then in line for line in said)


def test_added_seeds_and_sparsities_train_alone(copy):
    c, path = copy
    kept = times(path)
    metrics = (path / "metrics.jsonl").read_bytes()
    more = runs.tiny(c.workdir, seeds=(0, 1, 2, 3))
    assert folder.path_of(more) == path
    assert [r["seed"] for r in runs.finished(more)] == [0, 1, 2, 3]
    most = runs.tiny(c.workdir, seeds=(0, 1, 2, 3), sparsity=(0.5, 0.8))
    results = runs.finished(most)
    assert [(r["seed"], r["sparsity"]) for r in results] == [
        (seed, sparsity) for seed in range(4) for sparsity in (0.5, 0.8)
    ]
    now = times(path)
    assert all(now[file] == time for file, time in kept.items() if file.parent != path)
    assert (path / "metrics.jsonl").read_bytes().startswith(metrics)
    assert len(runs.rows(path)) == 8 * 6 and len(card_files(path)) == 8
    assert len((path / "tables" / "realizations.csv").read_text().splitlines()) == 1 + 8
    summary = json.loads((path / "results.json").read_text())["summary"]
    assert [(row["sparsity"], row["n"]) for row in summary] == [(0.5, 4), (0.8, 4)]
    said = runs.log_lines(path)
    assert "2 of 4 realizations are there already" in said
    assert "4 of 8 realizations are there already" in said
    fewer = runs.finished(c)
    assert [r["id"] for r in fewer] == [results[0]["id"], results[2]["id"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "targets, first, both", [("levels", 0.2, (0.2, 0.36)), ("exact", 0.1, (0.1, 0.3))]
)
@pytest.mark.parametrize("method", ["lth", "lrr"])
def test_deeper_levels_of_a_finished_run_are_those_of_one_run(
    tmp_path, method, targets, first, both
):
    """The trajectory is passed again, bit for bit: the first card stays, the second is as if asked for at once."""
    fields = {"method": method, "epochs": 1, "pruning__rewind_steps": 3 * (method == "lth")}
    fields["pruning__targets"] = targets
    once = runs.tiny(tmp_path / "once", **fields, sparsity=both)
    runs.finished(once)
    c = runs.tiny(tmp_path / "twice", **fields, sparsity=(first,))
    runs.finished(c)
    path = folder.path_of(c)
    kept = {file: file.stat().st_mtime_ns for file in card_files(path)}
    deeper = runs.tiny(tmp_path / "twice", **fields, sparsity=both)
    runs.finished(deeper)
    assert folder.path_of(deeper) == path and len(card_files(path)) == 4
    assert all(file.stat().st_mtime_ns == time for file, time in kept.items())
    for point in config.points(once):
        mine, other = (pack.load(folder.card_path(x, point)).card for x in (deeper, once))
        assert runs.same_arrays(mine, other)
    key = lambda r: (r["realization"], r["step"], r["split"])
    assert len({key(r) for r in runs.rows(path)}) == len(runs.rows(path))
    said = [line for line in runs.log_lines(path) if "is trained again" in line]
    assert len(said) == 1
    assert not any("is trained again" in line for line in runs.log_lines(folder.path_of(once)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields, first, both",
    [
        ({"method": "lrr"}, (0.36,), (0.2, 0.36)),
        ({"method": "ft", "finetune__epochs": 1}, (0.0, 0.5), (0.0, 0.5, 0.8)),
    ],
)
def test_rows_of_finished_cards_stay_when_others_join_them(tmp_path, fields, first, both):
    """Phases that the new cards do not pass are not trained again, and their rows would be lost."""
    once = runs.tiny(tmp_path / "once", epochs=1, seeds=(0,), sparsity=both, **fields)
    runs.finished(once)
    for sparsity in (first, both):
        c = runs.tiny(tmp_path / "twice", epochs=1, seeds=(0,), sparsity=sparsity, **fields)
        runs.finished(c)
    key = lambda r: (r["realization"], r["phase"], r["step"], r["split"])
    rows = [sorted(map(key, runs.rows(folder.path_of(x)))) for x in (once, c)]
    assert rows[0] == rows[1]


def test_what_was_begun_is_finished_before_what_is_asked(tmp_path):
    runs.stopped(runs.tiny(tmp_path), 2)
    c = runs.tiny(tmp_path, seeds=(5, 6))
    assert [r["seed"] for r in runs.finished(c)] == [5, 6]
    assert len(card_files(folder.path_of(c))) == 4


def _flip_a_bit(path):
    runs.flip(path, random.Random(5))


def _put_another_there(path):
    shutil.copy(sorted(path.parent.iterdir())[-1], path)


def test_lost_cards_are_made_again_from_their_checkpoint(copy):
    """Those of an earlier group, whose rows lie before others, and whose other card stays as it is."""
    c, path = copy
    c = runs.tiny(c.workdir, seeds=(0, 1, 2, 3))
    runs.finished(c)
    whole = runs.outcome(path)
    first, kept = (folder.card_path(c, point) for point in config.points(c)[:2])
    unchanged = times(path)
    del unchanged[first]
    for damage in (type(first).unlink, _flip_a_bit, _put_another_there):
        damage(first)
        runs.finished(c)
        assert runs.outcome(path) == whole
        assert all(times(path)[file] == time for file, time in unchanged.items())
    said = runs.log_lines(path)
    assert sum("it is made again" in line for line in said) == 2
    assert said.count("1 of them are made again from their last checkpoint") == 3


def _remove_all(saves):
    shutil.rmtree(saves)


def _remove_the_last(saves):
    shutil.rmtree(saves / "33")


def _flip_a_bit_of_the_last(saves):
    runs.flip(runs.largest(saves / "33"), random.Random(0))


@pytest.mark.parametrize("damage", [_remove_all, _remove_the_last, _flip_a_bit_of_the_last])
def test_lost_cards_without_a_checkpoint_are_trained_again(copy, damage):
    c, path = copy
    whole = runs.outcome(path)
    damage(path / "checkpoints" / "group_0")
    for file in card_files(path):
        file.unlink()
    runs.finished(c)
    line = "2 realizations have neither card nor checkpoint left: trained again"
    assert line in runs.log_lines(path)
    assert runs.outcome(path) == whole


def test_a_lost_state_never_mixes_up_groups(copy):
    """Cards stay; what is trained then takes no other group's checkpoints for its own."""
    c, path = copy
    (path / "state.json").unlink()
    c = runs.tiny(c.workdir, seeds=(7, 8))
    runs.stopped(c, 1)
    results = runs.finished(c)
    assert [r["seed"] for r in results] == [7, 8]
    fresh = runs.tiny(c.workdir + "/fresh", seeds=(7, 8))
    wanted = runs.finished(fresh)
    assert results == wanted
    assert len(runs.rows(path)) == 24


@pytest.mark.slow
def test_a_lost_card_is_not_made_from_the_checkpoint_of_another_group(copy):
    """Where checkpoints were deleted, a later group had the folder's name of an earlier one."""
    c, path = copy
    whole = runs.outcome(path)
    shutil.rmtree(path / "checkpoints")
    runs.finished(runs.tiny(c.workdir, seeds=(7, 8)))
    lost = folder.card_path(c, config.points(c)[0])
    before = pack.load(lost)
    lost.unlink()
    runs.finished(c)
    assert runs.same_arrays(pack.load(lost).card, before.card)
    assert runs.outcome(path)[lost.name] == whole[lost.name]
    state = json.loads((path / "state.json").read_text())
    names = [group["name"] for group in state["groups"]]
    assert len(names) == len(set(names))


@pytest.mark.slow
def test_a_realization_that_diverges_in_its_last_step_counts_as_diverged(tmp_path):
    fields = dict(method="dense", sparsity=(0.0,), epochs=1, batch_size=1000)
    for rate, at in ((1e29, 0), (0.1, None)):
        results = runs.finished(runs.tiny(tmp_path, learning_rate=(rate,), **fields))
        assert [r["diverged_at"] for r in results] == [at, at]


@pytest.mark.slow
def test_curves_show_what_was_trained(tmp_path):
    """Global scope nears its sparsity epoch by epoch: the row of an epoch's end has the count of that epoch."""
    fields = dict(scope="global", sparsity=(0.9,), seeds=(0,), popup__progressive_epochs=2)
    c = runs.tiny(tmp_path, **fields)
    runs.finished(c)
    rows = [r for r in runs.rows(folder.path_of(c)) if r["split"] == "test"]
    assert [r["realised_sparsity"] for r in rows] == pytest.approx([0.5, 0.85, 0.9], abs=1e-3)


def test_a_diverged_realization_leaves_its_neighbour_alone(tmp_path):
    calm = runs.tiny(tmp_path / "calm", seeds=(0,), learning_rate=(0.1, 0.2))
    wild = runs.tiny(tmp_path / "wild", seeds=(0,), learning_rate=(0.1, 9e29))
    runs.finished(calm)
    results = runs.finished(wild)
    assert results[0]["diverged_at"] is None and results[1]["diverged_at"] is not None
    point = config.points(calm)[0]
    cards = [pack.load(folder.card_path(c, point)) for c in (calm, wild)]
    assert runs.same_arrays(cards[0].card, cards[1].card)
    assert cards[0].meta["result"] == cards[1].meta["result"]
    assert cards[0].meta["result"].items() <= results[0].items()
    name = config.identity(calm, point)
    mine = [
        [r for r in runs.rows(folder.path_of(c)) if r["realization"] == name] for c in (calm, wild)
    ]
    assert mine[0] == mine[1] and len(mine[0]) == 6 and all(r["alive"] for r in mine[0])
    path = folder.path_of(wild)
    dead = [r for r in runs.rows(path) if r["realization"] != name]
    assert len(dead) == 6 and not any(r["alive"] for r in dead)
    summary = json.loads((path / "results.json").read_text())["summary"]
    assert [(r["learning_rate"], r["n"], r["n_diverged"]) for r in summary] == [
        (0.1, 1, 0),
        (9e29, 0, 1),
    ]
    step = results[1]["diverged_at"]
    assert any(
        f"diverged at step {step}: frozen, the others go on" in x for x in runs.log_lines(path)
    )
    assert "9e+29" in (path / "tables" / "results.md").read_text()


@pytest.mark.slow
def test_a_card_that_lost_a_layer_says_so(tmp_path):
    """Under global scope the layer with the smallest scores goes first."""
    fields = dict(seeds=(0,), sparsity=(0.5, 0.99), epochs=1, popup__progressive_epochs=0)
    c = runs.tiny(tmp_path, scope="global", **fields)
    results, path = runs.finished(c), folder.path_of(c)
    names = [config.identity(c, point) for point in config.points(c)]
    assert [bool(r["emptied_layers"]) for r in results] == [False, True]
    for point, result in zip(config.points(c), results, strict=True):
        mask = tree.flatten(pack.load(folder.card_path(c, point)).card.mask)
        assert [k for k, m in mask.items() if not m.any()] == [
            f"{name}/kernel" for name in (result["emptied_layers"] or "").split()
        ]
    lost = ", ".join(results[1]["emptied_layers"].split())
    said = [x for x in runs.log_lines(path) if "(layer collapse)" in x]
    assert len(said) == 1 and names[1] in said[0]
    assert f"no weight is left in {lost} " in said[0]
    assert "2, 1 with emptied layers" in (path / "report.html").read_text()
    described = [show.describe(folder.card_path(c, point)) for point in config.points(c)]
    assert "emptied layers" not in described[0]
    assert f"emptied layers  {lost}" in described[1]


def test_other_images_are_refused_and_nothing_is_touched(copy):
    c, path = copy
    state = folder.read_state(path)
    folder.write_state(path, dataclasses.replace(state, data=f"0{state.data}"))
    before = runs.snapshot(path)
    with pytest.raises(ConfigError, match="was begun on other images") as error:
        runs.finished(c)
    assert "\n" not in str(error.value)
    assert runs.snapshot(path) == before


@pytest.mark.parametrize(
    "content", ["", "{", '{"data": "x"}', "[]", '{"data": "x", "groups": [{"points": 3}]}']
)
def test_a_damaged_state_is_said_in_one_line(copy, content):
    c, path = copy
    (path / "state.json").write_text(content)
    with pytest.raises(folder.Damaged, match="state.json is damaged") as error:
        runs.finished(c)
    assert isinstance(error.value, OSError) and "\n" not in str(error.value)
    assert len(card_files(path)) == 2


@pytest.mark.parametrize(("old", "new"), [('"seed": 1', '"seed": 3'), ("0.0001", "0.0101")])
def test_a_changed_number_in_the_state_is_told(copy, old, new):
    c, path = copy
    state = path / "state.json"
    text = state.read_text()
    assert old in text
    state.write_text(text.replace(old, new, 1))
    with pytest.raises(folder.Damaged, match="state.json is damaged .it is not as it was written"):
        runs.finished(c)


def test_a_changed_number_in_the_snapshot_is_told(copy):
    _, path = copy
    snapshot = path / "config.json"
    text = snapshot.read_text()
    snapshot.write_text(text.replace('"epochs": 3', '"epochs": 7', 1))
    with pytest.raises(ConfigError, match="no readable config.json there .it is not as it was"):
        folder.read_config(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"sparsity": "much"}', '{"what": 1}'])
def test_a_damaged_snapshot_is_said_in_one_line_and_mended_by_its_config(copy, content):
    c, path = copy
    (path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"resume=.*no readable config.json there") as error:
        folder.read_config(path)
    assert "\n" not in str(error.value)
    assert folder.nearest(runs.tiny(c.workdir, epochs=7)) is None
    runs.finished(c)
    assert config.to_json(folder.read_config(path)) == config.to_json(c)


def test_a_snapshot_under_another_name_is_refused(copy):
    _, path = copy
    moved = path.rename(path.with_name("other"))
    with pytest.raises(
        ConfigError, match=f"resume={moved}: its config.json belongs to {path.name}"
    ):
        folder.read_config(moved)


@pytest.mark.parametrize("name", METRIC_FILES)
def test_metrics_that_lost_rows_are_said_in_one_line(tmp_path, name):
    c = runs.tiny(tmp_path)
    runs.stopped(c, 3)
    (folder.path_of(c) / name).write_text("")
    with pytest.raises(folder.Damaged, match=f"{name} .*rows are missing") as error:
        runs.finished(c)
    assert "\n" not in str(error.value)


def test_a_metric_file_of_other_columns_is_said_in_one_line(copy):
    c, path = copy
    (path / "metrics.csv").write_text("a,b\n")
    with pytest.raises(folder.Damaged, match="has the columns a, b"):
        runs.finished(c)


def test_a_held_folder_is_refused(copy):
    c, path = copy
    before = runs.snapshot(path)
    with checkpoint.lock(path), pytest.raises(checkpoint.RunLocked, match="is in use by process"):
        runs.finished(c)
    assert runs.snapshot(path) == before


def test_an_edited_config_is_a_new_run_that_names_the_nearest(copy):
    c, path = copy
    other = runs.tiny(c.workdir, epochs=30, scope="global")
    with run.opened(other, Signals()):
        pass
    assert folder.path_of(other) != path
    assert runs.log_lines(folder.path_of(other)) == [
        f"a new run; the nearest existing one is {path} "
        "(epochs 3 -> 30, scope 'layerwise' -> 'global')"
    ]
    near = runs.tiny(c.workdir, epochs=30, scope="global", label_smoothing=0.1)
    assert f"{folder.path_of(other)} (label_smoothing 0.0 -> 0.1)" in folder.nearest(near)
    same = runs.tiny(c.workdir, seeds=(9,), data__dir="/elsewhere", compute__devices=2)
    assert folder.path_of(same) == path
    assert folder.nearest(runs.tiny(c.workdir, epochs=2, name="unheard")) is None


def test_drafts_of_killed_processes_are_swept(copy):
    c, path = copy
    drafts = [
        path / ".state.json.123.tmp",
        path / "cards" / ".x.npz.4.tmp",
        path / "tables" / "y.tmp",
    ]
    for draft in drafts:
        draft.write_text("half")
    runs.finished(c)
    assert not any(draft.exists() for draft in drafts)


@pytest.mark.slow
def test_tensorboard_curves_do_not_overlap(tmp_path):
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    c = runs.tiny(tmp_path, log__tensorboard=True)
    runs.stopped(c, 2)
    runs.finished(c)
    boards = folder.path_of(c) / "tensorboard"
    names = [config.identity(c, point) for point in config.points(c)]
    assert sorted(p.name for p in boards.iterdir()) == sorted(names)
    board = boards / names[0]
    starts, steps = [], []
    for file in sorted(board.iterdir()):
        for event in tensorboard_events(file):
            if event.session_log.status == event_pb2.SessionLog.START:
                starts.append(event.step)
            steps += [event.step] if event.summary.value else []
    assert starts[0] == 1 and starts[1] > 1 and sorted(set(steps)) == [11, 22, 33]


def test_tensorboard_that_is_not_installed_is_refused_before_compute(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r'log.tensorboard=True: .*pip install "cards_jax\[tensorboard\]"'
    ):
        runs.finished(runs.tiny(tmp_path / "new", log__tensorboard=True))
    assert not (tmp_path / "new").exists()
