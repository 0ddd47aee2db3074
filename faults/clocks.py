"""Clocks that jump while a run trains and is killed, and files from the future or the past."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import runs
from runs import changed

from faults.stage import Stage, telling
from faults.trial import LOST, SAME, TRACEBACK, Trial

DAY = 86400.0
JUMPS = {
    "the wall clock jumps by years, forth and back": ("time",),
    "the wall clock stands in 1970": ("epoch",),
    "both clocks jump, the monotonic one forward": ("time", "monotonic"),
    "the monotonic clock stands still": ("still",),
    "the monotonic clock goes back": ("back",),
}


def total(quick: bool) -> int:
    return 1 if quick else 2 * len(JUMPS) + 4


def trials(place: Path, quick: bool) -> Iterator[Trial]:
    stage = Stage(place)
    stage.reference()
    for fault, kinds in list(JUMPS.items())[: 1 if quick else None]:
        for killed in [False] if quick else [False, True]:
            yield _jumping(stage, fault, kinds, killed)
    if not quick:
        for years in (-30, 30):
            for killed in (False, True):
                yield _touched(stage, years, killed)


def _jumping(stage: Stage, fault: str, kinds: tuple[str, ...], killed: bool) -> Trial:
    runner = stage.runner()
    fault += ", and it is killed and goes on" if killed else ""
    start = lambda: runner.start(target=_with_clocks, before=(kinds,))
    if killed:
        seen, process = changed(runner.workdir, "*/checkpoints/group_*/*/manifest.json"), start()
        runs.wait_until(lambda: seen() or process.exitcode is not None)
        process.kill()
        process.join()
    process = start()
    process.join(runs.PATIENCE)
    return _judged(stage, runner, fault, process.exitcode)


def _touched(stage: Stage, years: int, finished: bool) -> Trial:
    """All files of a run get another date."""
    runner = stage.runner()
    state = "finished" if finished else "killed"
    fault = f"all files of a {state} run are {abs(years)} years {'old' if years < 0 else 'in the future'}"
    if finished:
        runner.finish()
    else:
        runner.kill_when(changed(runner.workdir, "*/checkpoints/group_*/*/manifest.json"))
    then = time.time() + years * 365 * DAY
    for path in [*runner.path.rglob("*"), runner.path]:
        os.utime(path, (then, then))
    process = runner.start()
    process.join(runs.PATIENCE)
    return _judged(stage, runner, fault, process.exitcode)


def _judged(stage: Stage, runner, fault: str, code: int) -> Trial:
    if "Traceback" in runner.said():
        return Trial(fault, TRACEBACK, runner.said())
    wrong = stage.difference(runner) if code == 0 else f"code {code}: {runner.said()}"
    return Trial(fault, LOST if wrong else SAME, wrong or telling(runner.said()))


# --- in the process that runs


def _with_clocks(kinds: tuple[str, ...], arguments: list[str], out: Path) -> None:
    """The program, with clocks that Python reads wrong; what C libraries read stays right."""
    chance, wall, monotonic = random.Random(0), time.time, time.monotonic
    began, shift = monotonic(), [0.0]

    def forward() -> float:
        shift[0] += chance.choice([0, 0, 0, 1e5])
        return monotonic() + shift[0]

    clocks = {
        "time": ("time", lambda: wall() + chance.choice([-3e8, 0, 3e8])),
        "epoch": ("time", lambda: 1.0),
        "monotonic": ("monotonic", forward),
        "still": ("monotonic", lambda: began),
        "back": ("monotonic", lambda: 2 * began - monotonic()),
    }
    for kind in kinds:
        name, clock = clocks[kind]
        setattr(time, name, clock)
    runs._main(arguments, out)
