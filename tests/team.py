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


class Team:
    """The processes of one command; what each printed is in `said`."""

    def __init__(self, runner: Runner, count: int, *more: str, environment: dict | None = None):
        self.outs = [runner.workdir / f"out{i}.txt" for i in range(count)]
        flags = [
            *runner.arguments,
            f"--config.compute.devices={count}",
            f"--coordinator_address=localhost:{free_port()}",
            f"--num_processes={count}",
            *more,
        ]
        given = {"JAX_PLATFORMS": "cpu", **{k.upper(): str(v) for k, v in CACHING.items()}}
        given |= {"PYTHONPATH": os.pathsep.join(sys.path)}
        self.processes = []
        for i, out in enumerate(self.outs):
            command = [sys.executable, "-m", "cards_jax.main", *flags, f"--process_id={i}"]
            with out.open("wb") as file:
                self.processes.append(
                    subprocess.Popen(
                        command,
                        cwd=Path(main.__file__).parents[1],
                        env={**os.environ, **given, **(environment or {})},
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
