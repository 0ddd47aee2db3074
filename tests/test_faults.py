"""Whole runs as processes that are killed, signalled, crowded, or out of space: they end as if nothing had happened."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import runs
from runs import Runner, changed

from cards_jax import config, experiment, folder, pack
from cards_jax.checkpoint import Checkpoints

pytestmark = pytest.mark.slow
KINDS = {
    "one group": {},
    "groups of one": {"compute__group_size": 1},
    "with its baseline": {"baseline": "auto"},
    "levels": {
        "method": "lth",
        "scope": "global",
        "sparsity": (0.2, 0.36),
        "epochs": 1,
        "pruning__rewind_steps": 3,
    },
}


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """make(name, **changes): a Runner in a new workdir; all share their compiled programs."""
    cache = tmp_path_factory.mktemp("cache")
    return lambda name, **changes: Runner(tmp_path_factory.mktemp(name), cache, **changes)


@pytest.fixture(scope="module")
def reference(make):
    """reference(kind): the folder of an uninterrupted run of that kind."""
    done = {}

    def get(kind: str) -> Path:
        if kind not in done:
            runner = make("reference", **KINDS[kind])
            runner.finish()
            done[kind] = runner.path
        return done[kind]

    return get


# --- killed


MOMENTS = {
    "some time": None,
    "the folder is made": "*/.lock",
    "a group begins": "*/state.json",
    "rows are written": "*/metrics.jsonl",
    "a save begins": "*/checkpoints/group_*/*",
    "a save is sealed": "*/checkpoints/group_*/*/manifest.json",
    "a draft is written": "*/.*.tmp",
    "a card is delivered": "*/cards/*",
    "the report begins": "*/results.json",
    "a picture is drawn": "*/plots/*",
}


def _kill_somewhere(runner: Runner, chance: random.Random, moment: str) -> int:
    """SIGKILL a run at or shortly after a moment."""
    if MOMENTS[moment] is None:
        return runner.kill_when(lambda: True, chance.uniform(0, 6))
    return runner.kill_when(changed(runner.workdir, MOMENTS[moment]), chance.uniform(0, 0.1))


def _assert_survives(make, kind: str, reference: Path, kills: int, seed: int) -> None:
    """Runs that are killed up to six times each end like the reference."""
    chance, killed = random.Random(seed), 0
    moments = itertools.cycle(chance.sample(list(MOMENTS), len(MOMENTS)))
    while killed < kills:
        runner = make("killed", **KINDS[kind])
        for _ in range(6):
            code = _kill_somewhere(runner, chance, next(moments))
            assert code in (0, -signal.SIGKILL), runner.said()
            killed += code != 0
        runner.finish()
        runs.assert_same(runner.path, reference)
        if kind == "with its baseline":
            dense = folder.path_of(experiment.baseline_config(runner.c)).name
            runs.assert_same(runner.path.with_name(dense), reference.with_name(dense))


@pytest.mark.parametrize("kind", KINDS)
def test_killed_runs_end_like_one_that_was_not(make, reference, kind):
    _assert_survives(make, kind, reference(kind), kills=10, seed=list(KINDS).index(kind))


def test_killed_at_the_ends_of_levels(make, reference):
    """As the cards of a level are being written, and right after: the next level begins where it would have."""
    runner = make("killed", **KINDS["levels"])
    for cards in (1, 2, 3, 4):
        runner.kill_when(lambda n=cards: len(list(runner.path.glob("cards/*.card"))) >= n)
    runner.finish()
    runs.assert_same(runner.path, reference("levels"))


def test_killed_while_compiling_for_the_first_time(make, reference, tmp_path):
    runner = Runner(tmp_path / "runs", tmp_path / "cold")
    for delay in (0.5, 4.0, 9.0):
        code = runner.kill_when(changed(runner.workdir, "*/state.json"), delay)
        assert code == -signal.SIGKILL
    runner.finish()
    runs.assert_same(runner.path, reference("one group"))


# --- signalled


def _saved(runner: Runner):
    return changed(runner.workdir, "*/checkpoints/group_*/*/manifest.json")


def _signal(runner: Runner, number: int, when, *more: str) -> int:
    process = runner.spawn(*more)
    runs.wait_until(lambda: when() or process.poll() is not None)
    process.send_signal(number)
    return process.wait(300)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_continues(make, reference, number):
    runner = make("signalled")
    assert _signal(runner, number, _saved(runner)) == 75
    assert "stopping: saves at the end of this chunk" in runner.said()
    assert runner.said().splitlines()[-1] == (
        f"stopped by a signal, saved in {runner.path}; the same command continues"
    )
    assert not (runner.path / "cards").exists()
    assert _signal(runner, number, _saved(runner)) == 75
    process = runner.spawn()
    assert process.wait(300) == 0
    assert "goes on at step " in runner.said()
    runs.assert_same(runner.path, reference("one group"))


def test_a_run_goes_on_from_its_folder_alone(make, reference):
    runner = make("resumed")
    assert _signal(runner, signal.SIGTERM, _saved(runner)) == 75
    runner.config.unlink()
    runner.arguments = [f"--resume={os.path.relpath(runner.path, Path(__file__).parents[1])}"]
    assert _signal(runner, signal.SIGTERM, _saved(runner)) == 75
    assert runner.spawn().wait(300) == 0
    runs.assert_same(runner.path, reference("one group"))


@pytest.mark.parametrize("moment", [m for m in MOMENTS if MOMENTS[m]])
def test_a_signal_at_any_moment_ends_with_75_or_the_result(make, reference, moment):
    runner = make("signalled")
    code = _signal(runner, signal.SIGTERM, changed(runner.workdir, MOMENTS[moment]))
    assert code == 75 or (code == 0 and (runner.path / "results.json").exists()), runner.said()
    assert "Traceback" not in runner.said()
    runner.finish()
    runs.assert_same(runner.path, reference("one group"))


def test_two_interrupts_end_at_once(make, reference):
    runner = make("interrupted")
    process, saved = runner.spawn(), _saved(runner)
    runs.wait_until(saved)  # before its first steps there is nothing to save: one interrupt ends it
    process.send_signal(signal.SIGINT)
    runs.wait_until(lambda: "stopping: saves" in runner.said() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 75 and "Traceback" not in runner.said()
    runner.finish()
    runs.assert_same(runner.path, reference("one group"))


# --- other devices, other processes


def test_a_run_goes_on_with_other_devices(make, reference):
    runner = make("devices")
    for devices in (1, 2, 4):
        assert (
            _signal(runner, signal.SIGTERM, _saved(runner), f"--config.compute.devices={devices}")
            == 75
        )
    runner.finish("--config.compute.devices=4")
    said = [line for line in runs.log_lines(runner.path) if "equal up to rounding" in line]
    assert said == [
        "goes on with another device 1 x cpu cpu -> 2 x cpu cpu, mesh [1, 1] -> [2, 1]: equal up to rounding, "
        "not bit for bit",
        *2 * [
            "goes on with another device 1 x cpu cpu -> 4 x cpu cpu, mesh [1, 1] -> [2, 2]: equal up to rounding, "
            "not bit for bit"
        ],
    ]  # fmt: skip
    wanted = json.loads((reference("one group") / "results.json").read_text())["results"]
    found = json.loads((runner.path / "results.json").read_text())["results"]
    for mine, other in zip(found, wanted, strict=True):
        assert mine["test_loss"] == pytest.approx(other["test_loss"], rel=0.02)
        assert mine["id"] == other["id"]
    assert len(runs.rows(runner.path)) == 12


def test_a_second_process_is_refused(make, reference):
    runner = make("twice")
    first = runner.spawn()
    runs.wait_until(lambda: (runner.path / "state.json").exists())
    out = runner.out.rename(runner.out.with_name("first.txt"))
    second = runner.spawn()
    assert second.wait(300) == 1
    (line,) = runner.said().splitlines()
    assert line.startswith(f"cards_jax: {runner.path} is in use by process {first.pid} on ")
    assert first.wait(300) == 0, out.read_text()
    runs.assert_same(runner.path, reference("one group"))


def test_of_two_processes_at_the_same_moment_one_is_refused(make, reference):
    runner = make("together")
    outs, processes = [], []
    for number in range(2):
        processes.append(runner.spawn())
        outs.append(runner.out.rename(runner.out.with_name(f"{number}.txt")))
    codes = [process.wait(300) for process in processes]
    assert sorted(codes) == [0, 1]
    (line,) = outs[codes.index(1)].read_text().splitlines()
    assert "is in use by" in line
    runs.assert_same(runner.path, reference("one group"))


# --- damaged, diverged, extended


def _flip_a_bit(step: Path) -> None:
    runs.flip(runs.largest(step), random.Random(1))


def _truncate(step: Path) -> None:
    file = runs.largest(step)
    os.truncate(file, file.stat().st_size // 2)


def _lose_the_manifest(step: Path) -> None:
    (step / "manifest.json").unlink()


@pytest.mark.parametrize("damage", [_flip_a_bit, _truncate, _lose_the_manifest])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(make, reference, damage):
    runner = make("damaged")
    saves = Checkpoints(runner.path / "checkpoints" / "group_0")
    runner.kill_when(lambda: len(saves.steps()) == 2)
    before, newest = saves.steps()[-2:]
    damage(saves.folder / str(newest))
    runner.finish()
    (said,) = (line for line in runner.said().splitlines() if "is damaged" in line)
    assert said.startswith(f"checkpoint {newest} in ")
    assert said.endswith(f"; checkpoint {before} is used instead")
    assert f"goes on at step {before} of {runs.STEPS}" in runner.said()
    runs.assert_same(runner.path, reference("one group"))


def test_a_diverged_realization_is_frozen_through_kills(make):
    """Its neighbour has the bits that it has beside a sound one; killed or not, all files end the same."""
    rates = {"calm": (0.1, 0.2), "wild": (0.1, 9e29), "killed": (0.1, 9e29)}
    calm, wild, killed = (
        make(name, seeds=(0,), learning_rate=rate) for name, rate in rates.items()
    )
    for _ in range(3):
        killed.kill_when(_saved(killed))
    for runner in (calm, wild, killed):
        runner.finish()
    runs.assert_same(killed.path, wild.path)
    point = config.points(calm.c)[0]
    mine, other = (pack.load(folder.card_path(r.c, point)) for r in (calm, wild))
    assert runs.same_arrays(mine.card, other.card)
    assert mine.meta["result"] == other.meta["result"]
    sound = config.identity(calm.c, point)
    of_sound = [[x for x in runs.rows(r.path) if x["realization"] == sound] for r in (calm, wild)]
    assert of_sound[0] == of_sound[1] and len(of_sound[0]) == 6
    dead = json.loads((wild.path / "results.json").read_text())["results"][1]
    assert f"diverged at step {dead['diverged_at']}: frozen, the others go on" in wild.said()


def test_added_seeds_and_sparsities_survive_kills(make, reference):
    more = ("--config.seeds=0,1,2", "--config.sparsity=0.5,0.8")
    calm, killed = make("calm"), make("extended")
    for runner in (calm, killed):
        runner.finish()
    first = {p: p.stat().st_mtime_ns for p in (killed.path / "cards").iterdir()}
    calm.finish(*more)
    for moment in ("a group begins", "a save begins", "a card is delivered", "a save is sealed"):
        killed.kill_when(changed(killed.workdir, MOMENTS[moment]), 0, *more)
    killed.finish(*more)
    runs.assert_same(killed.path, calm.path)
    assert all(p.stat().st_mtime_ns == time for p, time in first.items())
    assert len(list((killed.path / "cards").iterdir())) == 6
    assert len(runs.rows(killed.path)) == 6 * 2 * 3
    killed.finish()
    wanted = runs.results_of(reference("one group"))
    assert runs.results_of(killed.path)["results"] == wanted["results"]


# --- full and read-only disks: this file as a program, on a small disk of its own


def _within_a_small_disk(folder: Path, megabytes: int, *arguments) -> dict:
    """What this file reports, run as a program that alone sees a disk of that size."""
    private = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "-r", "--mount")
    mount = f"mount -t tmpfs -o size={megabytes}m tmpfs"
    if not shutil.which("unshare"):
        pytest.skip("needs the program unshare")
    if subprocess.run([*private, *mount.split(), folder], capture_output=True).returncode:
        pytest.skip("this system does not permit to mount a small disk")
    shell = ("sh", "-c", f'{mount} "$0" && exec "$@"', folder)
    command = [*private, *shell, sys.executable, __file__, folder, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _fill(disk: Path, free: int) -> Path:
    filler = disk / "filler"
    filler.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - free)))
    return filler


def _outcome_of(runner: Runner, *more: str) -> dict:
    code = runner.spawn(*more).wait(300)
    steps = Checkpoints(runner.path / "checkpoints" / "group_0").steps()
    return {"code": code, "said": runner.said(), "steps": steps}


def _full_while_training(disk: Path, cache: Path) -> dict:
    """A run that was stopped goes on with ever more room, and then with enough."""
    runner = Runner(disk / "runs", cache)
    runner.out = cache.with_name("full.txt")
    _signal(runner, signal.SIGTERM, _saved(runner))
    report = {"begun": Checkpoints(runner.path / "checkpoints" / "group_0").steps()}
    for free in (0, 4096, 16384, 65536, 98304):
        filler = _fill(disk, free)
        report[str(free)] = _outcome_of(runner)
        filler.unlink()
    report["enough"] = _outcome_of(runner)
    shutil.copytree(runner.path, cache.with_name("finished"), dirs_exist_ok=True)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    report["read-only"] = _outcome_of(runner)
    return report


def _full_from_the_start(disk: Path, cache: Path) -> dict:
    """Compiled programs go to the same disk, which has room for a part of them only."""
    (disk / "cache").mkdir()
    runner = Runner(disk / "runs", disk / "cache")
    runner.out = cache.with_name("full.txt")
    report = {}
    for free in (0, 30_000, 150_000):
        filler = _fill(disk, free)
        report[str(free)] = _outcome_of(runner)
        filler.unlink()
    report["enough"] = _outcome_of(runner)
    shutil.copytree(runner.path, cache.with_name("finished"), dirs_exist_ok=True)
    return report


def _assert_failed_in_a_line(case: dict) -> None:
    assert case["code"] == 1, case["said"]
    assert "Traceback" not in case["said"]
    last = case["said"].splitlines()[-1]
    assert last.startswith("cards_jax: ") and len(last) < 500
    assert "No space left on device" in last or " MB are free" in last


def test_a_disk_that_fills_up_loses_nothing(make, reference, tmp_path):
    cache = tmp_path / "cache"
    cache.symlink_to(make("any").workdir.joinpath("cache").resolve())
    (tmp_path / "disk").mkdir()
    report = _within_a_small_disk(tmp_path / "disk", 4, "training", cache)
    last = report["begun"][-1]
    for free in ("0", "4096", "16384", "65536", "98304"):
        case = report[free]
        if case["code"] == 0:  # there was room to the end
            break
        _assert_failed_in_a_line(case)
        assert last in case["steps"] or case["steps"][0] > last
        last = case["steps"][-1]
    _assert_failed_in_a_line(report["0"])
    _assert_failed_in_a_line(report["4096"])
    assert report["enough"]["code"] == 0, report["enough"]["said"]
    runs.assert_same(tmp_path / "finished", reference("one group"))
    case = report["read-only"]
    assert case["code"] == 1 and "Traceback" not in case["said"]
    assert case["said"].splitlines()[-1].endswith("Read-only file system")


def test_a_disk_that_is_full_from_the_start(reference, tmp_path):
    (tmp_path / "disk").mkdir()
    report = _within_a_small_disk(tmp_path / "disk", 8, "start", tmp_path / "cache")
    _assert_failed_in_a_line(report["0"])
    for free in ("30000", "150000"):
        if report[free]["code"]:
            _assert_failed_in_a_line(report[free])
    assert report["enough"]["code"] == 0, report["enough"]["said"]
    assert "Warning" not in report["enough"]["said"]
    runs.assert_same(tmp_path / "finished", reference("one group"))


if __name__ == "__main__":
    tasks = {"training": _full_while_training, "start": _full_from_the_start}
    _, place, name, shared = sys.argv
    print(json.dumps(tasks[name](Path(place), Path(shared))))
