"""Two real processes under jax.distributed, of two devices each, against one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def train(processes: int, devices: int, split: int) -> list[dict]:
    """What each process printed; devices of each."""
    port = free_port()
    command = [sys.executable, str(HERE / "distributed_worker.py"), str(port), str(processes)]
    # With the emitters that users have: those of the other tests cut sums into other parts.
    flags = os.environ["XLA_FLAGS"].replace("--xla_cpu_use_fusion_emitters=false", "")
    own = {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    workers = [
        subprocess.Popen(
            [*command, str(i), str(devices), str(split)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **own},
        )
        for i in range(processes)
    ]
    out = []
    for worker in workers:
        stdout, stderr = worker.communicate(timeout=600)
        assert worker.returncode == 0, stderr[-3000:]
        out.append(json.loads(stdout.splitlines()[-1]))
    return out


def assert_near(two: list[dict], one: dict) -> None:
    first, second = two
    assert first == second
    assert first["correct"] == one["correct"]
    for name, total in one["sums"].items():
        assert first["sums"][name] == pytest.approx(total, rel=1e-4)


def test_realizations_on_two_processes_equal_those_on_one_bit_for_bit():
    """One process with as many devices as each of the two: XLA adds up a sum in as many parts as a process has threads,
    at least one for each of its devices."""
    (one,) = train(1, 2, 1)
    two = train(2, 2, 1)
    assert_near(two, one)
    assert two[0]["hash"] == one["hash"]


@pytest.mark.slow
@pytest.mark.parametrize("split", [1, 4])
def test_two_processes_are_near_one_with_as_many_devices(split):
    assert_near(train(2, 2, split), *train(1, 4, split))


@pytest.mark.slow
def test_processes_that_do_not_see_one_folder_are_refused(tmp_path):
    """They save together, and would wait for each other for ever."""
    config = HERE.parent / "configs" / "quickstart.py"
    command = [
        sys.executable,
        "-m",
        "cards_jax.main",
        f"--config={config}",
        "--config.baseline=None",
    ]
    command += [f"--coordinator_address=localhost:{free_port()}", "--num_processes=2"]
    workers = [
        subprocess.Popen(
            [*command, f"--process_id={i}", f"--workdir={tmp_path / str(i)}"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"},
        )
        for i in range(2)
    ]
    said = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [2, 2]
    assert all("processes 1 do not see the folder of process 0" in text for text in said)
