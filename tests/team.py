"""The command as several processes on one machine, of one device each."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from runs import CACHING, Runner

from cards_jax import main


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def _slurm(number: int, count: int, port: int) -> dict[str, str]:
    """What `srun` sets; JAX makes its port of the job's number."""
    return {
        "SLURM_JOB_ID": str(port),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(count),
        "SLURM_PROCID": str(number),
        "SLURM_LOCALID": str(number),
        "SLURM_STEP_NUM_NODES": "1",
    }


class Team:
    """The processes of one command; slurm: told how many by the environment, not by flags."""

    def __init__(self, runner: Runner, count: int, *more: str, slurm: bool = False):
        self.outs = [runner.workdir / f"out{i}.txt" for i in range(count)]
        port = free_port()
        flags = [*runner.arguments, f"--config.compute.devices={count}", *more]
        told = [f"--coordinator_address=localhost:{port}", f"--num_processes={count}"]
        given = {"JAX_PLATFORMS": "cpu", **{k.upper(): str(v) for k, v in CACHING.items()}}
        given |= {"PYTHONPATH": os.pathsep.join(sys.path)}
        self.processes = []
        for i, out in enumerate(self.outs):
            own = [] if slurm else [*told, f"--process_id={i}"]
            command = [sys.executable, "-m", "cards_jax.main", *flags, *own]
            with out.open("wb") as file:
                self.processes.append(
                    subprocess.Popen(
                        command,
                        cwd=Path(main.__file__).parents[1],
                        env={**os.environ, **given, **(_slurm(i, count, port) if slurm else {})},
                        stdout=file,
                        stderr=subprocess.STDOUT,
                    )
                )

    def ended(self) -> bool:
        return all(process.poll() is not None for process in self.processes)

    def codes(self, seconds: float = 300) -> list[int]:
        """Exit codes, within a time."""
        try:
            return [process.wait(seconds) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def said(self, number: int) -> str:
        return self.outs[number].read_text()

    def last_line(self, number: int) -> str:
        return self.said(number).splitlines()[-1]
