"""Two or three processes of one command in one folder: one of them runs, the others are refused in a line."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import runs

from faults.stage import Stage
from faults.trial import LOST, REFUSED, SAME, SILENT, TRACEBACK, Trial


def total(quick: bool) -> int:
    return 2 if quick else 2 * 4 + 3 * 2


def trials(place: Path, quick: bool) -> Iterator[Trial]:
    stage, chance = Stage(place), random.Random(0)
    stage.reference()
    for count in [2] if quick else [2] * 4 + [3] * 2:
        yield from _crowd(stage, chance, count)


def _crowd(stage: Stage, chance: random.Random, count: int) -> Iterator[Trial]:
    runner, started = stage.runner(), []
    for number in range(count):
        started.append((runner.start(), number, runner.out))
        runner.out = runner.workdir / f"out{number + 1}.txt"
        time.sleep(chance.choice([0, 0, chance.uniform(0, 3)]))
    ends = []
    for process, _, out in started:
        process.join(runs.PATIENCE)
        ends.append((process.exitcode, out.read_text()))
    wrong = stage.difference(runner)
    winners = [code for code, _ in ends if code == 0]
    for code, said in ends:
        fault = f"{count} processes in one folder: "
        if "Traceback" in said:
            yield Trial(fault + "each", TRACEBACK, said)
        elif code == 0:
            # One that came when the other had ended finds all done.
            yield Trial(fault + "one that runs", LOST if wrong else SAME, wrong)
        elif code == 1 and "is in use by process" in said and winners:
            yield Trial(fault + "one that comes later", REFUSED, said)
        else:
            yield Trial(fault + "each", SILENT, f"code {code}: {said}")
