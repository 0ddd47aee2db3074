"""The machine that a benchmark runs on: its description, its cores, its peak."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SIDE = 2048
PRODUCT_FLOP = 2 * SIDE**3


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def matrix_product() -> Callable[[int], None]:
    """A contestant: float32 products of two SIDE x SIDE matrices in JAX, PRODUCT_FLOP each."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    a, b = jax.random.normal(jax.random.key(0), (2, SIDE, SIDE))
    multiply = jax.jit(lambda a, b: a @ b)

    def run(steps: int) -> None:
        for _ in range(steps):
            multiply(a, b).block_until_ready()

    return run


def describe(module: str) -> list[str]:
    """Command, date and commit, machine, versions: a line each, for a result that will be kept."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    return [
        f"command: `{shlex.join(['python', '-m', module, *sys.argv[1:]])}`",
        f"date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}",
        f"machine: {_processor()}, {cores()} cores, {memory:.0f} GiB, {platform.system()}; "
        f"load averages before the run {load}",
        f"versions: Python {platform.python_version()}, jax {version('jax')}, {_torch()}",
    ]


def _torch() -> str:
    try:
        return f"torch {version('torch')}"
    except PackageNotFoundError:
        return "no torch"


def commit() -> str:
    """The commit of this checkout, and whether it was changed since."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    here = Path(__file__).parent
    try:
        found = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    except OSError:  # there is no git
        return "unknown"
    return found.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
