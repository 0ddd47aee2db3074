"""Processes that hold the roll: one that is lost or fails ends the others, with its word; runs go on with others."""

import functools
import json
import signal
import socket
import threading
import time

import numpy as np
import pytest
import runs
from hypothesis import given
from hypothesis import strategies as st
from runs import Runner
from team import Team

from cards_jax import data, hand, heat, peers, realizations
from cards_jax.peers import Roll

# --- the roll, over sockets of this process


class Ended(Exception):
    """In the place of os._exit."""


class Members:
    """Rolls of so many processes, in threads; `ends` holds what each said and its exit code."""

    def __init__(self, count: int, patience: float = 5.0):
        self.ends, self.far, near = {}, {}, {}
        for i in range(1, count):
            near[i], self.far[i] = socket.socketpair()
        self.sockets = [*near.values(), *self.far.values()]
        make = lambda connections, i: Roll(
            connections,
            i,
            count,
            patience,
            end=functools.partial(self._end, i),
            say=lambda text: self.ends.setdefault(i, [text]),
        )
        self.rolls = [make(near, 0), *(make({0: self.far[i]}, i) for i in range(1, count))]
        self.threads = []

    def _end(self, number: int, code: int) -> None:
        self.ends.setdefault(number, [None]).append(code)
        for connection in list(self.rolls[number].connections.values()):
            connection.shutdown(socket.SHUT_RDWR)
        raise Ended

    def listen(self, *numbers: int) -> None:
        def hear(i):
            try:
                self.rolls[i].listen()
            except Ended:
                return

        for i in numbers:
            self.threads.append(threading.Thread(target=hear, args=(i,), daemon=True))
            self.threads[-1].start()

    def wait(self) -> dict:
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()
        return self.ends


@pytest.fixture
def members():
    """members(count): see Members; all sockets are closed in the end."""
    made = []

    def make(*args, **more):
        made.append(Members(*args, **more))
        return made[-1]

    yield make
    for socket_ in (s for m in made for s in m.sockets):
        socket_.close()


GONE = "process {} of 3 is gone (killed, or its machine is)"
GONE += ", so all end; what is saved stays, the same command continues"


def test_of_a_killed_process_all_others_hear(members):
    team = members(3)
    team.listen(0, 2)
    team.far[1].shutdown(socket.SHUT_RDWR)
    assert team.wait() == {0: [GONE.format(1), 75], 2: [GONE.format(1), 75]}


def test_of_a_killed_first_process_all_others_hear(members):
    team = members(3)
    team.listen(1, 2)
    for connection in team.rolls[0].connections.values():
        connection.shutdown(socket.SHUT_RDWR)
    assert team.wait() == {1: [GONE.format(0), 75], 2: [GONE.format(0), 75]}


@pytest.mark.parametrize("number", [0, 2])
def test_a_failing_process_tells_all_why(members, number):
    """And is not taken in by their ends, which follow at once."""
    team = members(3)
    team.listen(0, 1, 2)
    with pytest.raises(Ended):
        team.rolls[number].fail(2, "epochs=0: must be\n1 or more")
    said = f"process {number} of 3 ended, code 2: epochs=0: must be 1 or more"
    others = {i: [said, 2] for i in {0, 1, 2} - {number}}
    assert team.wait() == others | {number: [None, 2]}


def test_a_silent_process_is_given_up_and_one_that_lives_is_not(members):
    team = members(3, patience=1.0)
    team.listen(0, 2)
    assert team.wait()[0] == [
        "process 1 of 3 said nothing for 1 seconds, so all end; what is saved stays, the same command continues",
        75,
    ]
    team = members(3, patience=0.5)
    team.listen(0, 1, 2)
    time.sleep(1.5)
    assert team.ends == {}
    for roll in team.rolls:
        roll.leave(0)
    assert team.wait() == {}


def test_who_is_done_may_go(members):
    team = members(3)
    team.listen(0, 1, 2)
    for roll in team.rolls:
        roll.leave(0)
    assert team.wait() == {}
    with pytest.raises(Ended):  # JAX aborts who waits for others at the end
        team.rolls[1].aborted()
    assert team.ends == {1: [None, 0]}


def test_strangers_are_turned_away():
    server = socket.create_server(("localhost", 0))
    port = server.getsockname()[1]
    strangers = [
        peers.connect("localhost", port, text) for text in ("hello 1", "GET / HTTP/1.0", "\0")
    ]
    friend = peers.connect("localhost", port, "hello word 1")
    found = peers.answer(server, "hello word", 1)
    assert list(found) == [1]
    for connection in [*strangers, friend, *found.values()]:
        connection.close()


def test_who_is_there_takes_nobody_for_lost_where_others_do_not_come(monkeypatch):
    """Without the connections of some there are none: JAX alone notices lost processes then."""
    monkeypatch.setattr(peers, "PATIENCE", 0.5)
    server = socket.create_server(("localhost", 0))
    friend = peers.connect("localhost", server.getsockname()[1], "hello word 1")
    with pytest.raises(OSError):
        peers.answer(server, "hello word", 2)
    ended, said = [], []
    roll = peers.Roll({0: friend}, 1, 3, 60.0, ended.append, said.append)
    roll.listen()
    assert ended == said == [] and not roll.connections
    friend.close()


def test_what_clusters_announce():
    assert peers.announced({}) == 1
    assert (
        peers.announced({"SLURM_NTASKS": "4"}) == 1
    )  # an allocation, in which nothing was started
    assert peers.announced({"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "node[1-2]"}) == 4
    assert peers.announced({"OMPI_COMM_WORLD_SIZE": "2"}) == 2


def test_cores_are_shared_by_the_processes_of_a_machine():
    assert peers.beside({}) == 1
    mpi = {"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    assert peers.beside(mpi) == 2
    slurm = {"SLURM_NTASKS": "7", "SLURM_STEP_NODELIST": "node[1-4]"}
    assert peers.beside(slurm) == 7  # as nothing says how many are here
    slurm["SLURM_STEP_TASKS_PER_NODE"] = "2(x3),1"
    assert [peers.beside(slurm | {"SLURM_NODEID": str(n)}) for n in range(4)] == [2, 2, 2, 1]


@pytest.mark.parametrize("bound, devices", [(8, 8), (64, 16)])
def test_cores_that_a_process_is_bound_to_are_its_share_already(monkeypatch, bound, devices):
    said = {}
    monkeypatch.setattr(realizations.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(realizations.os, "sched_getaffinity", lambda pid: range(bound))
    monkeypatch.setattr(realizations.jax.config, "update", lambda name, n: said.update({name: n}))
    realizations.use_cores(processes=4)
    assert said == {"jax_num_cpu_devices": devices}


# --- meshes for groups that were begun elsewhere


class Device:
    def __init__(self, process: int, platform: str = "cpu"):
        self.process_index, self.platform = process, platform


@pytest.mark.parametrize(
    ("count", "processes", "each", "mesh"),
    [
        (2, 1, 4, (2, 2)),
        (3, 1, 4, (3, 1)),
        (3, 1, 2, (1, 2)),
        (4, 2, 1, (2, 1)),
        (3, 2, 1, (1, 2)),
        (3, 4, 1, (1, 4)),  # three rows would leave a process without a device
        (6, 4, 1, (2, 2)),
        (6, 2, 2, (2, 2)),
        (5, 2, 4, (5, 1)),
    ],
)
def test_a_mesh_has_a_device_of_every_process(monkeypatch, count, processes, each, mesh):
    monkeypatch.setattr(realizations.jax, "process_count", lambda: processes)
    found = [Device(i // each) for i in range(processes * each)]
    assert realizations._dividing(count, 128, found, 0) == mesh


@pytest.mark.parametrize(
    ("count", "devices", "mesh"),
    [
        (1, 1, (1, 1)), (1, 2, (1, 2)), (2, 2, (2, 1)), (3, 2, (1, 2)), (5, 2, (1, 2)), (6, 2, (2, 1)),
        (7, 2, (2, 1)), (3, 4, (4, 1)), (5, 4, (2, 2)), (1, 8, (1, 8)), (3, 8, (4, 2)),
    ],
)  # fmt: skip
def test_devices_of_a_cpu_share_batches_where_padding_costs_more(monkeypatch, count, devices, mesh):
    found = [Device(0)] * devices
    splits = realizations._splits(count, 128, found)
    meshes = [(devices // n, n) for n in splits]
    assert min(meshes, key=functools.partial(realizations._seconds, count)) == mesh


@given(
    count=st.integers(1, 40),
    each=st.sampled_from([1, 2, 3, 4, 6, 8, 16]),
    processes=st.sampled_from([1, 1, 2, 4]),
    batch=st.sampled_from([32, 60, 64, 100, 128]),
    platform=st.sampled_from(["cpu", "gpu"]),
)
def test_a_padded_group_goes_on_with_the_mesh_that_it_began_with(
    count, each, processes, batch, platform
):
    found = [Device(i // each, platform) for i in range(processes * each)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(realizations.jax, "process_count", lambda: processes)
        patch.setattr(realizations.jax, "devices", lambda: found)
        patch.setattr(realizations, "Mesh", lambda grid, *_, **__: FakeMesh(grid))
        began = realizations.layout(count, batch_size=batch)
        again = realizations.layout(began.group, batch_size=batch, exact=True)
    assert (again.rows, again.split, again.group) == (began.rows, began.split, began.group)
    assert began.rows * began.split == len(found)
    assert platform == "cpu" or began.split <= max(1, len(found) // count)


class FakeMesh:
    def __init__(self, grid):
        self.shape = dict(
            zip((realizations.REALIZATION, realizations.BATCH), grid.shape, strict=True)
        )


def test_a_group_that_cannot_be_spread_over_all_processes_is_refused(monkeypatch):
    monkeypatch.setattr(realizations.jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="a group of 3 realizations, in batches of 33, was begun"):
        realizations._dividing(3, 33, [Device(0), Device(1)], 0)


# --- the command as several processes


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """make(name, **changes): a Runner in a new workdir; all share their compiled programs."""
    cache = tmp_path_factory.mktemp("cache")
    return lambda name, **changes: Runner(tmp_path_factory.mktemp(name), cache, **changes)


CHANGES = {"seeds": (0, 1, 2, 3), "compute__group_size": 4}


@pytest.fixture(scope="module")
def reference(make):
    """reference(count): the folder of a run of so many processes that nothing disturbed."""

    @functools.cache
    def get(count: int):
        runner = make("reference", **CHANGES)
        team = Team(runner, count)
        assert team.codes() == [0] * count, team.said(0)
        assert all("Traceback" not in team.said(i) for i in range(count))
        return runner.path

    return get


def _saved(runner: Runner) -> bool:
    return any(runner.path.glob("checkpoints/group_*/*/manifest.json"))


def _rows(runner: Runner, count: int) -> bool:
    path = runner.path / "metrics.jsonl"
    return path.exists() and len(path.read_bytes().splitlines()) >= count


MOMENTS = {
    "it joins": lambda runner: True,
    "it compiles": lambda runner: (runner.path / "state.json").exists(),
    "it saved": _saved,
    "it trains": lambda runner: _rows(runner, 16),
    "it delivers": lambda runner: (runner.path / "cards").exists(),
}


def _kill(team: Team, number: int, moment) -> list[int]:
    runs.wait_until(lambda: moment() or team.ended())
    team.processes[number].kill()
    began = time.monotonic()
    codes = team.codes()
    assert time.monotonic() - began < 60  # at once, but machines may be busy
    return codes


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_process_ends_the_other_and_the_same_command_continues(
    make, reference, moment, number
):
    runner = make("killed", **CHANGES)
    team = Team(runner, 2)
    if moment == "it joins":  # and both are there: before that, the other one waits for it
        runs.wait_until(lambda: "Rank 0 is connected" in team.said(0))
    codes = _kill(team, number, lambda: MOMENTS[moment](runner))
    assert codes[number] == -signal.SIGKILL
    assert codes[1 - number] == 75, team.said(1 - number)
    assert "Traceback" not in team.said(1 - number)
    words = {GONE.format(number).replace("of 3", "of 2")}
    if moment == "it joins":
        words.add(peers.EARLY)
    assert team.last_line(1 - number).removeprefix("cards_jax: ") in words
    again = Team(runner, 2)
    assert again.codes() == [0, 0], again.said(0)
    if moment == "it saved":
        assert "goes on at step " in again.said(0)
    runs.assert_same(runner.path, reference(2))


@pytest.mark.slow
def test_under_slurm_no_flag_is_needed(make, reference):
    runner = make("slurm", **CHANGES)
    team = Team(runner, 2, slurm=True)
    assert team.codes() == [0, 0], team.said(0)
    assert json.loads((runner.path / "versions.json").read_text())["processes"] == 2
    runs.assert_same(runner.path, reference(2))


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 2])
def test_of_four_processes_one_is_killed(make, reference, number):
    runner = make("four", **CHANGES)
    team = Team(runner, 4)
    codes = _kill(team, number, lambda: _saved(runner))
    assert codes == [-signal.SIGKILL if i == number else 75 for i in range(4)]
    assert Team(runner, 4).codes() == [0] * 4
    runs.assert_same(runner.path, reference(4))


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_suspended_process_is_given_up(make, number):
    runner = make("suspended", **CHANGES, epochs=3000)
    team = Team(runner, 2, "--peer_timeout=5")
    runs.wait_until(lambda: _saved(runner) or team.ended())
    team.processes[number].send_signal(signal.SIGSTOP)
    other = team.processes[1 - number]
    assert other.wait(60) == 75
    assert f"process {number} of 2 said nothing for 5 seconds" in team.last_line(1 - number)
    team.processes[number].kill()
    team.codes()


@pytest.mark.slow
def test_a_failure_of_one_is_told_by_all(make):
    runner = make("fails", **CHANGES)
    (runner.path / "metrics.jsonl").mkdir(parents=True)  # which only process 0 writes
    team = Team(runner, 2)
    assert team.codes() == [1, 1]
    assert team.last_line(0).startswith("cards_jax: ") and "Traceback" not in team.said(0)
    assert team.last_line(1).startswith("cards_jax: process 0 of 2 ended, code 1: ")


@pytest.mark.slow
def test_a_run_in_use_is_refused_on_every_process(make):
    runner = make("twice", **CHANGES, epochs=3000)
    first = Team(runner, 2)
    runs.wait_until(lambda: (runner.path / "state.json").exists() or first.ended())
    outs = [out.rename(out.with_suffix(".first")) for out in first.outs]
    second = Team(runner, 2)
    assert second.codes() == [1, 1]
    assert "is in use by process" in second.last_line(0)
    assert "is in use by process" in second.last_line(1)
    for process in first.processes:
        process.send_signal(signal.SIGTERM)
    assert first.codes() == [75, 75], outs[0].read_text()


@pytest.mark.slow
def test_a_signal_to_one_stops_all(make, reference):
    runner = make("signalled", **CHANGES)
    team = Team(runner, 2)
    runs.wait_until(lambda: _saved(runner) or team.ended())
    team.processes[1].send_signal(signal.SIGTERM)
    assert team.codes() == [75, 75]
    for i in range(2):
        assert team.last_line(i) == (
            f"stopped by a signal, saved in {runner.path}; the same command continues"
        )
    assert Team(runner, 2).codes() == [0, 0]
    runs.assert_same(runner.path, reference(2))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [(0, 1, 2, 3), (0, 1, 2), (0,)])
def test_checkpoints_of_two_processes_are_continued_by_one_and_by_four(make, seeds):
    """With fewer realizations than devices batches are split; the group keeps its size, whatever goes on with it."""
    changes = {"seeds": seeds, "compute__group_size": 4}
    calm, runner = make("calm", **changes), make("two", **changes)
    calm.finish()
    wanted = json.loads((calm.path / "results.json").read_text())["results"]
    team = Team(runner, 2)
    runs.wait_until(lambda: _saved(runner) or team.ended())
    for process in team.processes:
        process.send_signal(signal.SIGTERM)
    assert team.codes() == [75, 75]
    for count in (1, 4):
        copy = make(f"by_{count}", **changes)
        runs.copied(runner.path, copy.path)
        if count == 1:
            process = copy.spawn()
            assert process.wait(300) == 0, copy.said()
            said = copy.said()
        else:
            team = Team(copy, count)
            assert team.codes() == [0] * count, team.said(0)
            said = team.said(0)
        assert "goes on at step " in said and "equal up to rounding" in said
        found = json.loads((copy.path / "results.json").read_text())["results"]
        for mine, other in zip(found, wanted, strict=True):
            assert mine["id"] == other["id"]
            assert mine["test_loss"] == pytest.approx(other["test_loss"], rel=0.02)
            assert mine["realised_sparsity"] == other["realised_sparsity"]


@pytest.mark.slow
def test_two_processes_measure_heatmaps_together(make):
    runner = make("heatmaps", **CHANGES, evaluate__heatmap=(2.0, 4.0), evaluate__heatmap_images=10)
    assert Team(runner, 2).codes() == [0, 0]
    table = runner.path / "tables" / "heatmap.npz"
    with np.load(table) as held:
        together = held["errors"]
    kept = sorted((runner.path / "heatmaps").rglob("*.npz"))
    assert len(kept) == 8
    kept[1].unlink()
    table.unlink()
    team = Team(runner, 2)
    assert team.codes() == [0, 0] and "heatmaps: 7 of 8 are there already" in team.said(0)
    for path in kept:
        path.unlink()
    s, d = heat.settings((2.0, 4.0), 10), data.prepare(runner.c)
    alone = np.stack([h.errors for h in heat.evaluate(hand.find([runner.path]), d, s, print)])
    with np.load(table) as held:
        for found in (together, held["errors"]):
            assert np.mean(np.abs(found - alone) > 0.01) < 0.02  # an image may be at a boundary
