"""A program that alone sees a disk of some size, or of no rights: mounts in a namespace of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

SECONDS = 3600


def possible() -> bool:
    """Whether this system permits to mount a small disk in a namespace."""
    command = [*_private(), "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        bool(shutil.which("unshare"))
        and not subprocess.run(command, capture_output=True).returncode
    )


def _private() -> list[str]:
    return ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]


def within(disk: Path, megabytes: int, module: str, *arguments) -> list[dict]:
    """The JSON that `python -m module DISK ARGUMENTS` prints last, with a disk of that size mounted at `disk`."""
    disk.mkdir(parents=True, exist_ok=True)
    mount = f'mount -t tmpfs -o size={megabytes}m tmpfs "$0" && exec "$@"'
    command = [*_private(), "sh", "-c", mount, disk, sys.executable, "-m", module, disk, *arguments]
    root = Path(__file__).parents[1]
    done = subprocess.run(
        list(map(str, command)),
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"{module} ended with code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def remount(disk: Path, mode: str) -> None:
    """`ro` or `rw`."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)


def fill(disk: Path, free: int) -> Path:
    """A file that leaves so many bytes of a disk; delete it to make room."""
    filler = disk / "filler"
    filler.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - free)))
    return filler
