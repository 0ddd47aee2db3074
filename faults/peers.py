"""SIGKILL of one process of several; the others have to end, and the same command to continue."""

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import runs
from runs import changed
from team import Team

from faults.stage import Stage, difference
from faults.trial import HUNG, LOST, SAME, TRACEBACK, Trial

CHANGES = {"seeds": (0, 1, 2, 3), "compute__group_size": 4}
SECONDS = 60.0  # in which the others have to end
MOMENTS = {"in a save": "*/checkpoints/group_*/*", "as rows are written": "*/metrics.jsonl"}


def total(quick: bool) -> int:
    return 1 if quick else 8


def trials(place: Path, quick: bool) -> Iterator[Trial]:
    stage, chance, references = Stage(place), random.Random(0), {}
    for i in range(total(quick)):
        count, (moment, pattern) = (2, 4)[i // 2 % 2], list(MOMENTS.items())[i % 2]
        if count not in references:
            references[count] = stage.runner(**CHANGES)
            assert set(Team(references[count], count).codes(600)) == {0}
        number = 0 if i // 4 else chance.randrange(1, count)
        yield _trial(
            stage.runner(**CHANGES), references[count].path, count, number, moment, pattern
        )


def _trial(runner, reference: Path, count: int, number: int, moment: str, pattern: str) -> Trial:
    name = f"SIGKILL of process {number and 'n'} of {count} {moment}"
    seen, team = changed(runner.workdir, pattern), Team(runner, count)
    runs.wait_until(lambda: seen() or team.ended(), 300)
    team.processes[number].kill()
    began = time.monotonic()
    try:
        codes = team.codes(SECONDS)
    except TimeoutError:
        return Trial(name, HUNG, f"not ended after {SECONDS} seconds")
    took = time.monotonic() - began
    other = next(i for i in range(count) if i != number)
    said = team.last_line(other)
    if any("Traceback" in team.said(i) for i in range(count)):
        return Trial(name, TRACEBACK, said)
    if codes != [-signal.SIGKILL if i == number else 75 for i in range(count)]:
        return Trial(name, LOST, f"codes {codes}")
    again = Team(runner, count).codes(600)
    wrong = difference(runner.path, reference) if set(again) == {0} else f"codes {again}"
    return Trial(name, LOST if wrong else SAME, wrong or f"{said} (after {took:.1f} s, code 75)")
