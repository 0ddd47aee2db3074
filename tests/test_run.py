"""A run ends the same however often it was stopped, never does a thing twice, and says in a line what is wrong."""

import json
import random
import shutil

import numpy as np
import pytest
import runs
from test_log import tensorboard_events

from cards_jax import checkpoint, config, experiment, folder, pack, run
from cards_jax.config import ConfigError
from cards_jax.log import METRIC_FILES


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
    from cards_jax import data

    d = data.prepare(runs.tiny(reference))
    for file in card_files(path):
        card = pack.load(file)
        right = np.argmax(card.predict(d.test_images), -1) == d.test_labels
        assert float(np.float32(right.mean())) == pytest.approx(
            card.meta["result"]["test_accuracy"]
        )
        assert card.meta["data_fingerprint"] == d.fingerprint


def test_a_finished_run_trains_nothing_again(copy, reference):
    c, path = copy
    before = times(path)
    runs.finished(c)
    assert times(path) == before
    runs.assert_same(path, path_in(reference))
    assert "2 of 2 realizations are there already" in runs.log_lines(path)


@pytest.mark.parametrize("chunks", [1, 2, 3, 4])
def test_a_stopped_run_goes_on_to_the_same_end(tmp_path, reference, chunks):
    c = runs.tiny(tmp_path)
    runs.stopped(c, chunks)
    path = folder.path_of(c)
    assert not (path / "cards").exists()
    runs.finished(c)
    runs.assert_same(path, path_in(reference))
    assert any(line.startswith("goes on at step ") for line in runs.log_lines(path))


def test_groups_of_one_stop_and_go_on(tmp_path):
    """Every chunk is followed by a stop, over two groups."""
    whole = runs.tiny(tmp_path / "whole", compute__group_size=1)
    runs.finished(whole)
    c = runs.tiny(tmp_path / "cut", compute__group_size=1)
    path = folder.path_of(c)
    stops = 0
    while True:
        try:
            with run.opened(c, runs.StopAfter(2)) as r:
                r.results()
            break
        except run.Stopped:
            stops += 1
    assert stops >= 4
    runs.finished(c)
    runs.assert_same(path, folder.path_of(whole))
    assert [r["seed"] for r in runs.rows(path)] == [0] * 6 + [1] * 6
    assert sorted(p.name for p in (path / "checkpoints").iterdir()) == ["group_0", "group_1"]


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


def test_added_seeds_and_sparsities_train_alone(copy, reference):
    c, path = copy
    before = times(path)
    metrics = (path / "metrics.jsonl").read_bytes()
    more = runs.tiny(c.workdir, seeds=(0, 1, 2))
    assert folder.path_of(more) == path
    assert [r["seed"] for r in runs.finished(more)] == [0, 1, 2]
    most = runs.tiny(c.workdir, seeds=(0, 1, 2), sparsity=(0.5, 0.8))
    results = runs.finished(most)
    assert [(r["seed"], r["sparsity"]) for r in results] == [
        (seed, sparsity) for seed in (0, 1, 2) for sparsity in (0.5, 0.8)
    ]
    after = times(path)
    assert {k: after[k] for k in before if "metrics" not in k.name} == {
        k: before[k] for k in before if "metrics" not in k.name
    }
    assert (path / "metrics.jsonl").read_bytes().startswith(metrics)
    assert len(runs.rows(path)) == 6 * 6 and len(card_files(path)) == 6
    table = (path / "tables" / "realizations.csv").read_text().splitlines()
    assert len(table) == 1 + 6
    summary = json.loads((path / "results.json").read_text())["summary"]
    assert [(row["sparsity"], row["n"]) for row in summary] == [(0.5, 3), (0.8, 3)]
    said = runs.log_lines(path)
    assert "2 of 3 realizations are there already" in said
    assert "3 of 6 realizations are there already" in said
    fewer = runs.finished(c)
    assert [r["id"] for r in fewer] == [results[0]["id"], results[2]["id"]]


def test_what_was_begun_is_finished_before_what_is_asked(tmp_path):
    runs.stopped(runs.tiny(tmp_path), 2)
    c = runs.tiny(tmp_path, seeds=(5,))
    assert [r["seed"] for r in runs.finished(c)] == [5]
    assert len(card_files(folder.path_of(c))) == 3


def test_lost_cards_are_made_again_from_their_checkpoint(copy, reference):
    """Of an earlier group too, whose rows lie before those of others."""
    c, path = copy
    runs.finished(runs.tiny(c.workdir, seeds=(0, 1, 2, 3)))
    metrics = [(path / name).read_bytes() for name in METRIC_FILES]
    whole = runs.outcome(path)
    for damage in (
        lambda p: p.unlink(),
        lambda p: runs.flip(p, random.Random(5)),
        lambda p: p.write_bytes(b""),
    ):
        first = folder.card_path(c, config.points(c)[0])
        damage(first)
        other = first.with_name(card_files(path)[-1].name)
        shutil.copy(other, first) if not first.exists() else None
        runs.finished(runs.tiny(c.workdir, seeds=(0, 1, 2, 3)))
        assert runs.outcome(path) == whole
        assert [(path / name).read_bytes() for name in METRIC_FILES] == metrics
    said = runs.log_lines(path)
    assert sum("it is made again" in line for line in said) == 3
    assert sum(line == "1 of them are made again from their last checkpoint" for line in said) == 3


@pytest.mark.parametrize("loss", ["gone", "final gone", "damaged"])
def test_lost_cards_without_a_checkpoint_are_trained_again(copy, loss):
    c, path = copy
    c = runs.tiny(c.workdir, seeds=(0, 1, 2))
    runs.finished(c)
    whole = runs.outcome(path)
    lost = config.points(c)[1]
    folder.card_path(c, lost).unlink()
    saves = path / "checkpoints" / "group_0"
    if loss == "gone":
        shutil.rmtree(saves)
    elif loss == "final gone":
        shutil.rmtree(saves / "33")
    else:
        runs.flip(runs.largest(saves / "33"), random.Random(0))
    runs.finished(c)
    assert any("neither card nor checkpoint left" in line for line in runs.log_lines(path))
    assert any(
        line == "1 realizations have neither card nor checkpoint left: trained again"
        for line in runs.log_lines(path)
    )
    rows = runs.rows(path)
    assert [r["seed"] for r in rows] == [0, 0] * 3 + [2, 2] * 3 + [1, 1] * 3 or len(rows) == 18
    counts = {(r["realization"], r["step"], r["split"]) for r in rows}
    assert len(counts) == len(rows) == 18
    assert len((path / "metrics.csv").read_text().splitlines()) == 19
    assert runs.outcome(path).keys() == whole.keys()


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


def test_a_diverged_realization_leaves_its_neighbour_alone(tmp_path):
    calm = runs.tiny(tmp_path / "calm", seeds=(0,), learning_rate=(0.1, 0.2))
    wild = runs.tiny(tmp_path / "wild", seeds=(0,), learning_rate=(0.1, 1e30))
    runs.finished(calm)
    results = runs.finished(wild)
    assert results[0]["diverged_at"] is None and results[1]["diverged_at"] is not None
    point = config.points(calm)[0]
    cards = [pack.load(folder.card_path(c, point)) for c in (calm, wild)]
    assert runs.same_arrays(cards[0].card, cards[1].card)
    assert cards[0].meta["result"] == cards[1].meta["result"] == results[0]
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
        (1e30, 0, 1),
    ]
    step = results[1]["diverged_at"]
    assert any(
        f"diverged at step {step}: frozen, the others go on" in x for x in runs.log_lines(path)
    )
    assert "| 1e+30" in (path / "tables" / "results.md").read_text()


def test_the_baseline_is_trained_once_and_compared_with(tmp_path):
    c = runs.tiny(tmp_path, baseline="auto", epochs=1)
    runs.finished(c)
    dense = folder.path_of(experiment.baseline_config(c))
    before = times(dense)
    results = json.loads((folder.path_of(c) / "results.json").read_text())
    (summary,), (baseline,) = results["summary"], results["baseline"]
    assert summary["dense_accuracy"] == baseline["accuracy_mean"] and baseline["n"] == 2
    other = runs.tiny(tmp_path, baseline="auto", epochs=1, popup__weight_init="signed_constant")
    runs.finished(other)
    assert times(dense) == before
    path = runs.tiny(tmp_path, baseline=str(dense), epochs=1, scope="global")
    runs.finished(path)
    assert json.loads((folder.path_of(path) / "results.json").read_text())["baseline"] == [baseline]


def test_other_images_are_refused_and_nothing_is_touched(copy):
    c, path = copy
    state = path / "state.json"
    state.write_text(state.read_text().replace('"data": "', '"data": "0'))
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
    other = runs.tiny(c.workdir, epochs=2, scope="global")
    runs.stopped(other, 1)
    assert folder.path_of(other) != path
    (line,) = (x for x in runs.log_lines(folder.path_of(other)) if "nearest" in x)
    assert line == (
        f"a new run; the nearest existing one is {path} "
        "(epochs 3 -> 2, scope 'layerwise' -> 'global')"
    )
    near = runs.tiny(c.workdir, epochs=2, scope="global", label_smoothing=0.1)
    assert f"{folder.path_of(other)} (label_smoothing 0.0 -> 0.1)" in folder.nearest(near)
    same = runs.tiny(c.workdir, compute__group_size=1, seeds=(9,), log__tensorboard=False)
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


def test_another_number_of_devices_goes_on_and_says_so(tmp_path, reference):
    c = runs.tiny(tmp_path)
    path = folder.path_of(c)
    runs.stopped(c, 2)
    for devices in (2, 4):
        runs.stopped(runs.tiny(tmp_path, compute__devices=devices), 2)
    results = runs.finished(runs.tiny(tmp_path, compute__devices=4))
    said = [x for x in runs.log_lines(path) if x.startswith("goes on with another mesh")]
    assert (
        said
        == ["goes on with another mesh [1, 1] -> [2, 1]: equal up to rounding, not bit for bit"] * 3
    )
    wanted = json.loads((path_in(reference) / "results.json").read_text())["results"]
    for mine, other in zip(results, wanted, strict=True):
        assert mine["test_loss"] == pytest.approx(other["test_loss"], rel=0.05)
        assert mine["realised_sparsity"] == other["realised_sparsity"]
    assert len(runs.rows(path)) == 12


def test_tensorboard_curves_do_not_overlap(tmp_path):
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    c = runs.tiny(tmp_path, log__tensorboard=True, seeds=(0,))
    runs.stopped(c, 2)
    runs.finished(c)
    (board,) = (folder.path_of(c) / "tensorboard").iterdir()
    assert board.name == config.identity(c, config.points(c)[0])
    starts, steps = [], []
    for file in sorted(board.iterdir()):
        for event in tensorboard_events(file):
            if event.session_log.status == event_pb2.SessionLog.START:
                starts.append(event.step)
            steps += [event.step] if event.summary.value else []
    assert starts[0] == 1 and starts[1] > 1 and sorted(set(steps)) == [11, 22, 33]


def test_tensorboard_that_is_not_installed_is_refused_before_compute(tmp_path, monkeypatch):
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r'log.tensorboard=True: .*pip install "cards_jax\[tensorboard\]"'
    ):
        runs.finished(runs.tiny(tmp_path / "new", log__tensorboard=True))
    assert not (tmp_path / "new").exists()
