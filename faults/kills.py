"""SIGKILL at random moments, for every method; then the same command, until it ends."""

import itertools
import random
import signal
from collections.abc import Iterator
from pathlib import Path

from runs import changed

from faults.stage import METHODS, Stage, kept, saved_steps, telling
from faults.trial import HUNG, LOST, SAME, TRACEBACK, Trial

MOMENTS = {
    "at some time": None,
    "as the folder is made": "*/.lock",
    "as a group begins": "*/state.json",
    "as an evaluation is written": "*/metrics.jsonl",
    "in a save": "*/checkpoints/group_*/*",
    "as a save is sealed": "*/checkpoints/group_*/*/manifest.json",
    "as a draft is written": "*/.*.tmp",
    "as a level's or the last cards are delivered": "*/cards/*",
    "in the report": "*/results.json",
    "in tables, plots or a heatmap": "*/*s/*.*",
}
KILLS = 7  # of each method
IN_A_ROW = 4  # before a run is left in peace


def total(quick: bool) -> int:
    return 2 * 3 if quick else len(METHODS) * KILLS


def trials(place: Path, quick: bool) -> Iterator[Trial]:
    stage, chance = Stage(place), random.Random(0)
    for method in list(METHODS)[: 2 if quick else None]:
        todo, moments = 3 if quick else KILLS, itertools.cycle(chance.sample(list(MOMENTS), 10))
        while todo > 0:
            done = list(_row_of_kills(stage, method, min(todo, IN_A_ROW), moments, chance))
            todo -= len(done)
            yield from done


def _row_of_kills(stage: Stage, method: str, most: int, moments, chance) -> Iterator[Trial]:
    """One run that is killed again and again; runs that were faster than the kill do not count."""
    runner, said = stage.runner(**METHODS[method]), []
    stage.reference(method)
    killed = {}
    for _ in range(2 * most):
        moment, before = next(moments), saved_steps(runner)
        pattern = MOMENTS[moment]
        condition = changed(runner.workdir, pattern) if pattern else lambda: True
        delay = chance.uniform(0, 0.1) if pattern else chance.uniform(0, 6)
        code = runner.kill_when(condition, delay)
        said.append(runner.said())
        if code == -signal.SIGKILL:
            killed[len(killed)] = moment, kept(before, saved_steps(runner))
        if len(killed) == most or code not in (0, -signal.SIGKILL):
            break
    try:
        runner.finish()
        wrong = stage.difference(runner, method)
        outcome = LOST if wrong else SAME
    except AssertionError as error:
        wrong, outcome = str(error), HUNG if "in time" in str(error) else LOST
    said.append(runner.said())
    if any("Traceback" in text for text in said):
        wrong, outcome = next(t for t in said if "Traceback" in t), TRACEBACK
    for moment, safe in killed.values():
        yield Trial(
            f"SIGKILL {moment} ({method})",
            outcome if safe else LOST,
            wrong or telling(runner.said()),
        )
