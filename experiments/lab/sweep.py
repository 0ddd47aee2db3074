"""Going through the runs of an experiment: what is finished is skipped, what fails is reported, the rest goes on."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from cards_jax import folder
from cards_jax.config import ConfigError
from lab import process, tuning
from lab.plan import TUNE, Place, Run, arguments, cards_of, chains, resolved

DONE, READY, WAITING = "finished", "to do", "waiting"


@dataclasses.dataclass(frozen=True)
class Step:
    """A run as it stands: its state, its config where that is known already, and what other runs decided for it."""

    run: Run
    state: str
    config: ConfigDict | None
    given: dict[str, Any]


def given(run: Run, named: dict[str, Run], place: Place) -> dict[str, Any] | None:
    """What the runs that this one needs decided; None before they did."""
    found: dict[str, Any] = {}
    if run.tuned_by:
        chosen = tuning.read(named[run.tuned_by], place)
        if chosen is None:
            return None
        found |= chosen
    if run.source:
        source = look(named[run.source], named, place)
        if source.state != DONE:
            return None
        found["ticket.source"] = str(folder.path_of(source.config))
    return found


def look(run: Run, named: dict[str, Run], place: Place) -> Step:
    """How far a run is. Raises ConfigError for a config that cannot be."""
    decided = given(run, named, place)
    if decided is None:
        return Step(run, WAITING, None, {})
    c = resolved(run, place, decided)
    return Step(run, DONE if finished(run, c, place) else READY, c, decided)


def known(run: Run, named: dict[str, Run], place: Place) -> Step | None:
    """How far a run is, None where its config cannot be: what `sweep` has reported already."""
    try:
        return look(run, named, place)
    except ConfigError:
        return None


def finished(run: Run, c: ConfigDict, place: Place) -> bool:
    """Whether all cards are there, a report was written after the last of them and, of a grid, the choice was made.

    A grid whose choice was taken from a published table is finished without cards.
    """
    if run.role == TUNE and tuning.is_adopted(run, place):
        return True
    there = mark(c).is_file() and all(path.is_file() for path in cards_of(c))
    return there and (run.role != TUNE or tuning.place_of(run, place).is_file())


def mark(c: ConfigDict) -> Path:
    """What says that a command came to its end, in the folder of its run: gone with it."""
    points = hashlib.sha256(" ".join(p.name for p in cards_of(c)).encode()).hexdigest()[:8]
    return folder.path_of(c) / "experiments" / f"{points}.json"


def took(c: ConfigDict) -> float | None:
    """Seconds of the last call of a run that came to its end; None where nothing says so."""
    try:
        return float(json.loads(mark(c).read_text())["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def part(runs: Sequence[Run], index: int, of: int) -> list[Run]:
    """What machine `index` (from 0) of so many does: whole chains, so that machines wait for nothing."""
    return [run for chain in chains(runs)[index::of] for run in chain]


def sweep(
    runs: Sequence[Run],
    named: dict[str, Run],
    place: Place,
    say: Callable[[str], None],
    call: Callable | None = None,
    jobs: int = 1,
) -> list[str]:
    """Train what is not finished; gives a line for every run that failed or had to be left out.

    jobs: runs that are trained side by side; each begins when those that it needs have come to their end.
    Raises process.Interrupted after a signal, when the runs that it reached have saved.
    """
    failed: dict[int, str] = {}
    left, live = dict(enumerate(runs, 1)), {}
    about = lambda number: f"[{number}/{len(runs)}] {runs[number - 1].name}"

    def begin(number: int, run: Run) -> None:
        try:
            step = look(run, named, place)
        except ConfigError as error:
            failed[number] = f"{run.name}: {error}"
            say(f"{about(number)}: {error}")
            return
        if step.state == DONE:
            say(f"{about(number)}: finished before")
        elif step.state == WAITING:
            failed[number] = f"{run.name}: left out, {' or '.join(run.needs)} is not finished"
            say(f"{about(number)}: left out, it needs {' and '.join(run.needs)}")
        else:
            say(f"{about(number)}: {len(cards_of(step.config))} cards")
            live[pool.submit(_trained, run, step, place, call or calls.run)] = number

    def end(number: int, trained: Future) -> None:
        run = runs[number - 1]
        try:
            code, seconds = trained.result()
        except ConfigError as error:
            failed[number] = f"{run.name}: {error}"
            say(f"{about(number)}: {error}")
            return
        if code == process.REQUEUE:
            calls.stop()
            raise process.Interrupted
        if code:
            why = process.why(code, log_of(run, place))
            failed[number] = f"{run.name}: {why}"
            say(f"{about(number)}: FAILED, {why}")
        else:
            say(f"{about(number)}: done in {seconds:.0f} s")

    with process.Calls(jobs) as calls, ThreadPoolExecutor(jobs) as pool:
        while left or live:
            for number, run in list(left.items()):
                unfinished = {r.name for r in left.values()} | {
                    runs[n - 1].name for n in live.values()
                }
                if len(live) < jobs and unfinished.isdisjoint(run.needs):
                    del left[number]
                    begin(number, run)
            for trained in wait(live, return_when=FIRST_COMPLETED).done if live else ():
                end(live.pop(trained), trained)
    return [failed[number] for number in sorted(failed)]


def _trained(run: Run, step: Step, place: Place, call: Callable) -> tuple[int, float]:
    code, seconds = call(arguments(run, place, step.given), log_of(run, place))
    if code:
        return code, seconds
    if run.role == TUNE:
        tuning.save(run, place)
    path = mark(step.config)
    path.parent.mkdir(parents=True, exist_ok=True)
    command = arguments(run, place, step.given)
    folder.write_json(path, {"run": run.name, "arguments": command, "seconds": round(seconds, 1)})
    return code, seconds


def log_of(run: Run, place: Place) -> Path:
    """What a run's process printed."""
    return place.workdir / "logs" / f"{run.name}.txt"
