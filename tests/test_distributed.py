"""Two real processes under jax.distributed against one process with as many devices."""

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


def train(processes: int, split: int) -> list[dict]:
    """What each process printed."""
    port = free_port()
    command = [sys.executable, str(HERE / "distributed_worker.py"), str(port), str(processes)]
    workers = [
        subprocess.Popen(
            [*command, str(i), str(split)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(HERE), "JAX_PLATFORMS": "cpu"},
        )
        for i in range(processes)
    ]
    out = []
    for worker in workers:
        stdout, stderr = worker.communicate(timeout=600)
        assert worker.returncode == 0, stderr[-3000:]
        out.append(json.loads(stdout.splitlines()[-1]))
    return out


@pytest.mark.parametrize(
    "split",
    [
        pytest.param(1, id="realizations"),
        pytest.param(4, id="split batches", marks=pytest.mark.slow),
    ],
)
def test_two_processes_equal_one(split):
    (one,) = train(1, split)
    first, second = train(2, split)
    assert first == second
    assert first["correct"] == one["correct"]
    for name, total in one["sums"].items():
        assert first["sums"][name] == pytest.approx(total, rel=1e-5)
