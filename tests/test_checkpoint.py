"""A checkpoint comes back bit by bit, on any devices, or the one before it does."""

import errno
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from cards_jax import checkpoint, files
from cards_jax.checkpoint import Checkpoints, RunLocked, lock


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Box:
    params: dict
    mask: dict
    rest: tuple
    anchor: "Box | None" = None


def _state(step: int) -> Box:
    """A state whose every bit follows from the step."""
    draw = np.random.default_rng(step)
    kernel = draw.normal(size=(8, 16, 5)).astype(np.float32)
    kernel[0, 0, :3] = [np.nan, -0.0, np.inf]
    params = {
        "conv1": {"kernel": kernel, "bias": draw.normal(size=8)},
        "half": draw.normal(size=(8, 3)).astype(jnp.bfloat16),
    }
    mask = {"conv1": {"kernel": draw.random((8, 16, 5)) < 0.5, "bias": None}, "half": None}
    rest = (np.int32(step), draw.integers(-9, 9, 8, np.int8), None, np.zeros((8, 0)), np.bool_(1))
    anchor = Box({"x": draw.normal(size=8)}, {"x": None}, ()) if step % 2 == 0 else None
    return jax.tree.map(jax.device_put, Box(params, mask, rest, anchor))


def _target(state: Box, sharding: jax.sharding.Sharding | None = None) -> Box:
    """What to restore into: no numbers, only shapes, dtypes and where they go."""
    here = sharding or SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), state)


def _over(devices: list) -> NamedSharding:
    mesh = jax.make_mesh((len(devices),), ("r",), devices=devices, axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("r"))


def _spread(state: Box, devices: list, abstract: bool = False) -> Box:
    """Every array with an axis split over devices along its first axis, scalars replicated."""
    split = _over(devices)
    whole = NamedSharding(split.mesh, PartitionSpec())
    if abstract:
        return jax.tree.map(lambda x: _target(x, split if x.ndim else whole), state)
    numbers = jax.tree.map(np.asarray, state)
    return jax.tree.map(lambda x: jax.device_put(x, split if x.ndim else whole), numbers)


def _assert_same(left: Box, right: Box) -> None:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def _leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.isdecimal())


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def checkpoints(tmp_path, said) -> Checkpoints:
    return Checkpoints(tmp_path / "run" / "checkpoints" / "0", notice=said.append)


def test_a_state_comes_back_bit_by_bit(checkpoints, said):
    assert checkpoints.restore(_target(_state(1))) is None and checkpoints.steps() == []
    meta = {"metrics_bytes": 123, "pair": (1, 2.5), "nothing": None}
    checkpoints.save(3, _state(3), meta)
    step, state, found = checkpoints.restore(_target(_state(3)))
    assert (step, found) == (3, {"metrics_bytes": 123, "pair": [1, 2.5], "nothing": None})
    assert isinstance(state, Box) and state.mask["half"] is None and state.anchor is None
    _assert_same(state, _state(3))
    assert said == []


def test_only_the_newest_are_kept(checkpoints):
    for step in [1, 2, 5, 10]:
        checkpoints.save(step, _state(step), {})
        assert step in checkpoints.steps()
    assert checkpoints.steps() == [5, 10]
    assert sorted(os.listdir(checkpoints.folder)) == ["10", "5"]
    assert Checkpoints(checkpoints.folder, keep=3).restore(_target(_state(10)))[0] == 10
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        Checkpoints(checkpoints.folder, keep=0)


def test_a_relative_folder_is_meant_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints("here")
    monkeypatch.chdir("/")
    checkpoints.save(1, _state(1), {})
    assert Checkpoints(tmp_path / "here").steps() == [1]


@pytest.mark.parametrize("saved, wanted", [(4, 1), (1, 4), (4, 2), (2, 4)])
def test_another_number_of_devices_restores_the_same(checkpoints, saved, wanted):
    devices = jax.devices()
    state = _spread(_state(2), devices[:saved])
    checkpoints.save(2, state, {})
    target = _spread(state, devices[-wanted:], abstract=True)
    _, restored, _ = checkpoints.restore(target)
    _assert_same(restored, _state(2))
    for x, asked in zip(jax.tree.leaves(restored), jax.tree.leaves(target), strict=True):
        assert x.sharding == asked.sharding and x.sharding.device_set == set(devices[-wanted:])


def test_the_same_step_again(checkpoints):
    checkpoints.save(1, _state(1), {"rows": 1})
    before = {path: path.stat().st_mtime_ns for path in checkpoints.folder.rglob("*")}
    checkpoints.save(1, _state(1), {"rows": 1})
    assert before == {path: path.stat().st_mtime_ns for path in checkpoints.folder.rglob("*")}
    checkpoints.save(1, _state(1), {"rows": 2})
    assert checkpoints.restore(_target(_state(1)))[2] == {"rows": 2}
    for other in [_state(3), _state(2)]:  # other numbers, and other leaves
        with pytest.raises(ValueError, match="checkpoint 1 in .* already stored, with another"):
            checkpoints.save(1, other, {})
    with pytest.raises(ValueError, match="cannot save checkpoint 0 in .*: step 1 is stored there"):
        checkpoints.save(0, _state(0), {})
    _assert_same(checkpoints.restore(_target(_state(1)))[1], _state(1))


def test_a_damaged_step_is_saved_anew(checkpoints, said):
    for step in [1, 2]:
        checkpoints.save(step, _state(step), {})
    for spoil in [_flip, _truncate, Path.unlink]:
        spoil(_largest(checkpoints.folder / "2"))
        checkpoints.save(2, _state(4), {"again": True})
        step, state, meta = checkpoints.restore(_target(_state(4)))
        assert (step, meta) == (2, {"again": True})
        _assert_same(state, _state(4))
    assert said == [] and checkpoints.steps() == [1, 2]


def test_a_damaged_newer_step_never_displaces_a_good_one(checkpoints):
    for step in [1, 3]:
        checkpoints.save(step, _state(step), {})
    _flip(_largest(checkpoints.folder / "3"))
    resumed = Checkpoints(checkpoints.folder, notice=lambda line: None)
    assert resumed.restore(_target(_state(1)))[0] == 1
    resumed.save(2, _state(2), {})
    assert resumed.steps() == [1, 2]


def test_interrupted_saves_are_swept_away(checkpoints):
    checkpoints.save(1, _state(1), {})
    folder = checkpoints.folder
    shutil.copytree(folder / "1", folder / "2.orbax-checkpoint-tmp")
    shutil.copytree(folder / "1", folder / "2")
    (folder / "2" / "manifest.json").unlink()
    (folder / "notes.txt").write_text("not ours")
    assert checkpoints.steps() == [1]
    checkpoints.save(2, _state(2), {})
    assert checkpoints.steps() == [1, 2] and _leftovers(folder) == ["notes.txt"]
    _assert_same(checkpoints.restore(_target(_state(2)))[1], _state(2))


def test_another_structure_is_refused_in_one_line(checkpoints):
    checkpoints.save(1, {"a": jnp.zeros((2, 3)), "b": [jnp.zeros(2), jnp.ones(())]}, {})
    here = SingleDeviceSharding(jax.devices()[0])
    wanted = {
        "a": jax.ShapeDtypeStruct((3, 3), jnp.int32, sharding=here),
        "b": [None, jax.ShapeDtypeStruct((), jnp.float32, sharding=here)],
        "c": jax.ShapeDtypeStruct((), jnp.float32, sharding=here),
    }
    with pytest.raises(ValueError) as error:
        checkpoints.restore(wanted)
    assert str(error.value) == (
        f"checkpoint 1 in {checkpoints.folder} does not fit: it lacks c; it also holds b/0; "
        "a is float32[2, 3], not int32[3, 3]"
    )
    with pytest.raises(ValueError, match="a must be a jax.Array or have a sharding"):
        checkpoints.restore({"a": jax.ShapeDtypeStruct((2, 3), jnp.float32)})


def test_what_cannot_be_stored_is_refused_before_writing(checkpoints):
    x = jnp.zeros(2)
    for state, reason in [
        ({"a": 1.0}, "a must be a jax.Array"),
        ({"a": {"b": x}, "a/b": x}, "two leaves of the state have the name a/b"),
        ({"a": None}, "holds no numbers"),
    ]:
        with pytest.raises(ValueError, match=reason):
            checkpoints.save(1, state, {})
    with pytest.raises(TypeError, match="not JSON serializable"):
        checkpoints.save(1, {"a": x}, {"x": x})
    assert not checkpoints.folder.exists()


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(OSError, match=f"cannot save checkpoint 1 in {tmp_path}/run/0: "):
        Checkpoints(tmp_path / "run" / "0").save(1, _state(1), {})


# Damage


def _flip(path: Path, chance: random.Random | None = None) -> None:
    chance = chance or random.Random(0)
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def _truncate(path: Path, chance: random.Random | None = None) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: (chance or random.Random(0)).randrange(len(content))])


def _remove(path: Path, chance: random.Random) -> None:
    path.unlink()


def _largest(folder: Path) -> Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def _two_good_steps(checkpoints: Checkpoints) -> list[Path]:
    """Saves steps 1 and 2; gives the files of the newer one."""
    for step in [1, 2]:
        checkpoints.save(step, _spread(_state(step), jax.devices()), {"step": step})
    return sorted(path for path in (checkpoints.folder / "2").rglob("*") if path.is_file())


def _assert_falls_back(checkpoints: Checkpoints, said: list[str], path: Path, spoil, chance):
    whole = path.read_bytes()
    spoil(path, chance)
    step, state, meta = checkpoints.restore(_target(_state(1)))
    assert (step, meta) == (1, {"step": 1})
    _assert_same(state, _state(1))
    name = path.relative_to(checkpoints.folder / "2").as_posix()
    assert len(said) == 1 and "\n" not in said[0]
    assert said[0].startswith(f"checkpoint 2 in {checkpoints.folder} is damaged: {name} ")
    assert said[0].endswith("; checkpoint 1 is used instead")
    said.clear()
    path.write_bytes(whole)


@pytest.mark.parametrize("spoil", [_flip, _truncate, _remove])
def test_damage_to_any_file_falls_back_to_the_step_before(checkpoints, said, spoil):
    chance = random.Random(spoil.__name__)
    paths = _two_good_steps(checkpoints)
    assert len(paths) > 8
    for path in paths:
        _assert_falls_back(checkpoints, said, path, spoil, chance)
    assert checkpoints.restore(_target(_state(2)))[0] == 2 and said == []


@pytest.mark.slow
def test_a_thousand_flipped_bits_are_all_detected(checkpoints, said):
    chance = random.Random(0)
    paths = _two_good_steps(checkpoints)
    for _ in range(1000):
        _assert_falls_back(checkpoints, said, chance.choice(paths), _flip, chance)


def test_a_step_under_the_name_of_another_is_damaged(checkpoints, said):
    checkpoints.save(1, _state(1), {})
    shutil.copytree(checkpoints.folder / "1", checkpoints.folder / "2")
    assert checkpoints.steps() == [1]
    assert checkpoints.restore(_target(_state(1)))[0] == 1
    assert "manifest.json belongs to step 1" in said[0]


def test_with_no_good_step_training_starts_over(checkpoints, said):
    for path in _two_good_steps(checkpoints):
        if path.name == "manifest.json":
            path.unlink()
    _flip(_largest(checkpoints.folder / "1"))
    assert checkpoints.restore(_target(_state(1))) is None
    assert [line.split(" in ")[0] for line in said] == ["checkpoint 2", "checkpoint 1"]
    assert all(line.endswith("; training starts over from the beginning") for line in said)
    checkpoints.save(1, _state(1), {})
    assert checkpoints.steps() == [1] and os.listdir(checkpoints.folder) == ["1"]


def test_notices_go_to_stderr_by_default(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, _state(1), {})
    _flip(_largest(tmp_path / "1"))
    assert checkpoints.restore(_target(_state(1))) is None
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("checkpoint 1 in ")


# Killed processes


def _processes() -> multiprocessing.context.BaseContext:
    """Children that start fast, from a server that has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cards_jax.checkpoint"])
    return context


def _save_forever(folder: Path, saved) -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    checkpoints = Checkpoints(folder, notice=lambda line: None)
    found = checkpoints.restore(_target(_state(1)))  # all steps are odd, and so of one structure
    step = found[0] if found else -1
    while True:
        step += 2
        checkpoints.save(step, _spread(_state(step), jax.devices()), {"step": step})
        saved.send(step)


def _kill_while_saving(folder: Path, delay: float) -> int:
    """SIGKILL a process that saves in a loop; gives the last step it knew to be saved."""
    context = _processes()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_save_forever, args=(folder, sender))
    process.start()
    sender.close()
    assert receiver.poll(60)
    last = receiver.recv()
    time.sleep(delay)
    process.kill()
    process.join()
    try:
        while True:
            last = receiver.recv()
    except EOFError:
        return last


def _assert_survives_kills(folder: Path, kills: int) -> None:
    chance, last = random.Random(0), 0
    for _ in range(kills):
        last = _kill_while_saving(folder, chance.uniform(0, 0.15))
        said = []
        step, state, meta = Checkpoints(folder, notice=said.append).restore(_target(_state(1)))
        assert step in (last, last + 2) and meta == {"step": step}
        _assert_same(state, _state(step))
        assert all("manifest.json is missing" in line for line in said)


def test_a_process_killed_while_saving_leaves_a_good_step(tmp_path):
    _assert_survives_kills(tmp_path, 8)


@pytest.mark.slow
def test_thirty_kills_leave_a_good_step_each(tmp_path):
    _assert_survives_kills(tmp_path, 30)


def _save_but_die(folder: Path, count: int) -> None:
    """Saves step 3, but SIGKILLs itself right before its count-th operation on files."""
    state = _state(3)
    left = count

    def countdown(event: str, arguments: tuple) -> None:
        nonlocal left
        if event == "open" or event.startswith(("os.", "shutil.")):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(countdown)
    Checkpoints(folder).save(3, state, {"step": 3})


@pytest.mark.slow
def test_a_death_before_any_operation_on_files_leaves_a_good_step(tmp_path):
    ready = tmp_path / "ready"
    for step in [1, 2]:
        Checkpoints(ready).save(step, _state(step), {"step": step})
    found = set()
    for count in itertools.count(1):
        folder = Path(shutil.copytree(ready, tmp_path / str(count)))
        process = _processes().Process(target=_save_but_die, args=(folder, count))
        process.start()
        process.join()
        wanted = _target(_state(3 if (folder / "3" / "manifest.json").exists() else 2))
        step, state, meta = Checkpoints(folder, notice=lambda line: None).restore(wanted)
        assert meta == {"step": step}
        _assert_same(state, _state(step))
        found.add(step)
        Checkpoints(folder).save(3, _state(3), {"step": 3})
        assert sorted(os.listdir(folder)) in (["2", "3"], ["1", "2", "3"])
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert count > 50 and found == {2, 3}


def _hold(folder: Path, held) -> None:
    with lock(folder):
        held.send(os.getpid())
        time.sleep(600)


def test_a_lock_outlives_no_process(tmp_path):
    receiver, sender = _processes().Pipe(duplex=False)
    holder = _processes().Process(target=_hold, args=(tmp_path, sender))
    holder.start()
    assert receiver.poll(60)
    with pytest.raises(RunLocked) as error, lock(tmp_path):
        pass
    assert isinstance(error.value, OSError) and "\n" not in str(error.value)
    assert str(error.value).startswith(f"{tmp_path} is in use by process {holder.pid} on ")
    assert receiver.recv() == holder.pid
    holder.kill()
    holder.join()
    with lock(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_lock_ends_with_its_block(tmp_path):
    with lock(tmp_path), pytest.raises(RunLocked, match="is in use by process"), lock(tmp_path):
        pass
    with pytest.raises(ZeroDivisionError), lock(str(tmp_path)):
        raise ZeroDivisionError
    with lock(tmp_path):
        pass
    with pytest.raises(OSError, match="cannot lock .*/gone: No such file or directory"):
        with lock(tmp_path / "gone"):
            pass


# Full and read-only disks: this file as a program, on a small disk of its own


def _run(*arguments: str | Path, before: tuple = ()) -> subprocess.Popen:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*before, sys.executable, "-W", "error::DeprecationWarning", __file__, *arguments]
    return subprocess.Popen(
        list(map(str, command)),
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory) -> dict:
    """What happened to saves on a 4 MB disk that was filled in several ways."""
    private = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "-r", "--mount")
    folder = tmp_path_factory.mktemp("disk")
    mount = "mount -t tmpfs -o size=4m,nr_inodes=200 tmpfs"
    if not shutil.which("unshare"):
        pytest.skip("needs the program unshare")
    if subprocess.run([*private, *mount.split(), folder], capture_output=True).returncode:
        pytest.skip("this system does not permit to mount a small disk")
    shell = ("sh", "-c", f'{mount} "$0" && exec "$@"', folder)
    out, err = _run("small_disk", folder, before=private + shell).communicate(timeout=120)
    assert err == ""
    return json.loads(out)


def _refused(checkpoints: Checkpoints, step: int) -> dict:
    """Tries to save; gives the reason why not, and what the disk holds then."""
    reason = ""
    try:
        checkpoints.save(step, _large(step), {})
    except OSError as error:
        reason = str(error)
    found = checkpoints.restore(_target(_large(1)))
    _assert_same(found[1], _large(found[0]))
    names = sorted(path.name for path in checkpoints.folder.iterdir())
    return {"reason": reason, "restored": found[0], "names": names}


def _large(step: int) -> dict:
    return {f"x{i}": jax.random.bits(jax.random.key(step + i), (50_000,)) for i in range(3)}


def _fill(disk: Path, free: int) -> Path:
    filler = disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free - free))
    return filler


def _use_up_names(disk: Path, left: int) -> None:
    (disk / "many").mkdir()
    for i in range(os.statvfs(disk).f_ffree - left):
        (disk / "many" / str(i)).touch()


def _fill_a_small_disk(disk: Path) -> dict:
    checkpoints = Checkpoints(disk / "run")
    checkpoints.save(1, _large(1), {})
    report = {"run": str(checkpoints.folder)}
    filler = _fill(disk, free=300_000)
    report["too full to begin"] = _refused(checkpoints, 2)
    filler.unlink()
    filler = _fill(disk, free=620_000)
    report["full halfway"] = _refused(checkpoints, 2)
    filler.unlink()
    for left in [2, 9, 14, 17]:
        _use_up_names(disk, left)
        report[f"room for {left} names"] = _refused(checkpoints, 2)
        shutil.rmtree(disk / "many")
    report["room again"] = _refused(checkpoints, 3)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    report["read-only"] = _refused(checkpoints, 4)
    try:
        with lock(disk):
            pass
    except OSError as error:
        report["lock"] = str(error)
    return report


def test_a_full_disk_is_said_in_one_line_and_keeps_the_good_step(small_disk):
    cases = [name for name in small_disk if name.startswith(("too", "full", "room for"))]
    assert len(cases) == 6
    for name in cases:
        case = small_disk[name]
        assert (case["restored"], case["names"]) == (1, ["1"]), name
        assert case["reason"].startswith(f"cannot save checkpoint 2 in {small_disk['run']}: ")
        assert "\n" not in case["reason"] and len(case["reason"]) < 500
    assert small_disk["too full to begin"]["reason"].endswith(
        ": it takes 0.60 MB where 0.30 MB are free"
    )
    assert "No space left on device" in small_disk["full halfway"]["reason"]


def test_after_room_is_made_saving_goes_on(small_disk):
    assert small_disk["room again"] == {"reason": "", "restored": 3, "names": ["1", "3"]}


def test_a_read_only_disk_is_said_in_one_line(small_disk):
    case = small_disk["read-only"]
    assert case["reason"] == (
        f"cannot save checkpoint 4 in {small_disk['run']}: the folder is not writable"
    )
    assert (case["restored"], case["names"]) == (3, ["1", "3"])
    disk = Path(small_disk["run"]).parent
    assert small_disk["lock"] == f"cannot lock {disk}: Read-only file system"


def test_what_orbax_leaves_unbegun_is_not_reported_beside_the_reason(tmp_path, monkeypatch):
    async def write_fragment():
        raise AssertionError("never begun")

    def save(*_, **__):
        unbegun = write_fragment()
        raise OSError(28, f"No room for {unbegun.__name__}")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", save)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(OSError, match="cannot save checkpoint 1 in .*: No room for write"):
            Checkpoints(tmp_path / "run").save(1, _state(1), {})
    assert seen == []


# Two processes


def _one_of_two(folder: Path, port: str, index: str) -> dict:
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(index))
    checkpoints = Checkpoints(folder)
    report = {}
    for step in [1, 3, 5]:
        checkpoints.save(step, _global(_state(step)), {"step": step})
    checkpoints.save(5, _global(_state(5)), {"step": 5})
    try:
        checkpoints.save(5, _global(_state(7)), {})
    except ValueError as error:
        report["refused"] = str(error)
    report["steps"] = checkpoints.steps()
    target = jax.tree.map(_target_like, _global(_state(5)))
    step, state, meta = checkpoints.restore(target)
    report["same"] = _same_parts(state, _global(_state(5)))
    blocked = Checkpoints(folder / "5" / "manifest.json")
    try:
        blocked.save(1, _global(_state(1)), {})
    except OSError as error:
        report["blocked"] = str(error)
    return {**report, "restored": step, "meta": meta}


def _global(state: Box) -> Box:
    split = _over(jax.devices())
    whole = NamedSharding(split.mesh, PartitionSpec())
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(
            x.shape, split if x.ndim else whole, lambda index: np.asarray(x)[index]
        ),
        state,
    )


def _target_like(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


def _same_parts(left: Box, right: Box) -> bool:
    return all(
        np.asarray(a.data).tobytes() == np.asarray(b.data).tobytes()
        for x, y in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
        for a, b in zip(x.addressable_shards, y.addressable_shards, strict=True)
    )


@pytest.mark.slow
def test_two_processes_save_together_and_one_restores(tmp_path, said):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    pair = [_run("one_of_two", tmp_path, port, index) for index in range(2)]
    outputs = [process.communicate(timeout=120) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    for out, _ in outputs:
        report = json.loads(out.splitlines()[-1])  # after lines of the collectives' library
        assert (report["restored"], report["meta"], report["same"]) == (5, {"step": 5}, True)
        assert report["steps"] == [3, 5]
        assert "already stored, with another state" in report["refused"]
        assert "cannot save checkpoint 1 in " in report["blocked"]
    checkpoints = Checkpoints(tmp_path, notice=said.append)
    for devices in [1, 4]:
        target = _spread(_state(5), jax.devices()[:devices], abstract=True)
        step, state, meta = checkpoints.restore(target)
        assert (step, meta) == (5, {"step": 5})
        _assert_same(state, _state(5))
    parts = sorted(
        path for path in (tmp_path / "5").rglob("ocdbt.process_1/**/*") if path.is_file()
    )
    _flip(parts[0])
    step, state, _ = checkpoints.restore(_target(_state(3)))
    assert step == 3 and len(said) == 1
    _assert_same(state, _state(3))


def _program(arguments: list[str]) -> None:
    _, name, folder, *rest = arguments
    tasks = {"small_disk": _fill_a_small_disk, "one_of_two": _one_of_two}
    print(json.dumps(tasks[name](Path(folder), *rest)))


if __name__ == "__main__":
    from absl import app  # whose logging, as in a real run, must stay silent

    app.run(_program)


def test_a_disk_that_fails_for_a_moment_costs_no_checkpoint(tmp_path, monkeypatch):
    """Where no other is good: what could not be read is not called damaged, and training does not begin anew."""
    said = []
    checkpoints = Checkpoints(tmp_path, keep=1, notice=said.append)
    checkpoints.save(3, _state(3), {})

    def fails(path):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as m:
        m.setattr(files, "sha256", fails)
        with pytest.raises(
            OSError, match="checkpoint 3: .*Input/output error.*nothing was changed"
        ):
            Checkpoints(tmp_path, notice=said.append).restore(_target(_state(3)))
    assert Checkpoints(tmp_path).restore(_target(_state(3)))[0] == 3 and not said


def test_a_newer_one_that_cannot_be_read_is_not_gone_back_from(tmp_path, monkeypatch):
    """Else the older state would be trained on, and could not be saved beside the newer one that reads well again."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (3, 4):
        checkpoints.save(step, _state(step), {})
    whole = files.sha256

    def fails(path):
        if Path(path).relative_to(tmp_path).parts[0] == "4":
            raise OSError(errno.EIO, "Input/output error")
        return whole(path)

    with monkeypatch.context() as m:
        m.setattr(files, "sha256", fails)
        with pytest.raises(OSError, match="checkpoint 4: .*try again, or delete .*4 to go on"):
            Checkpoints(tmp_path).restore(_target(_state(3)))
    assert Checkpoints(tmp_path).restore(_target(_state(4)))[0] == 4


def test_who_is_patient_waits_for_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "WAIT_SECONDS", 0.01)
    held, said = threading.Event(), []

    def hold():
        with lock(tmp_path):
            held.set()
            while not said:
                time.sleep(0.01)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(10)
    with lock(tmp_path, said.append):
        assert not other.is_alive() or other.join(10) is None
    assert len(said) == 1 and "is in use by process" in said[0] and "waiting" in said[0]
