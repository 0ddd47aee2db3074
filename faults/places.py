"""Folders that are read-only, or vanish, before and while a run goes on; then as they were, and the command again."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import runs
from runs import Runner

from cards_jax import main
from faults import mounts
from faults.stage import Stage, difference, kept, saved_steps, telling
from faults.trial import LOST, MENDED, REFUSED, SAME, TRACEBACK, Trial

MOMENTS = {
    "before the start": None,
    "as a group begins": "state.json",
    "after a save": "checkpoints/group_*/*/manifest.json",
    "as cards are delivered": "cards/*.card",
}
VANISHING = {
    "the run's folder": ("", "checkpoints/group_*/*/manifest.json"),
    "checkpoints/": ("checkpoints", "checkpoints/group_*/*/manifest.json"),
    "metrics.jsonl": ("metrics.jsonl", "checkpoints/group_*/*/manifest.json"),
    "cards/": ("cards", "cards/*.card"),
}
LATER = (
    "cards",
    "checkpoints",
    "cards and checkpoints",
    "tables",
    "plots",
    "log.txt",
    "config.json",
)


def total(quick: bool) -> int:
    return len(MOMENTS) + 2 + len(VANISHING) + len(LATER)


def trials(place: Path, quick: bool) -> Iterator[Trial]:
    stage = Stage(place)
    reference = stage.reference()
    report = mounts.within(place / "disk", 8, "faults.places", stage.cache, place / "ends")
    for case in report:
        yield _stopped_and_gone_on(case, place / "ends", reference.path)
    yield from _unprivileged(stage)
    for what, (name, moment) in VANISHING.items():
        yield _vanishing(stage, what, name, moment)
    for what in LATER:
        yield _gone_later(stage, what)


def _stopped_and_gone_on(case: dict, ends: Path, reference: Path) -> Trial:
    fault = f"read-only mount {case['name']}"
    if "Traceback" in case["said"]:
        return Trial(fault, TRACEBACK, case["said"])
    wrong = difference(ends / case["name"], reference)
    if wrong or not case["kept"] or case["code"] not in (0, 1):
        return Trial(fault, LOST, f"code {case['code']}: {wrong} {case['said']}")
    return Trial(fault, SAME, case["said"])


# --- a child without the right to ignore the modes of folders


def _unprivileged(stage: Stage) -> Iterator[Trial]:
    """Folders of mode 555: a new workdir, and a finished run."""
    for fault, runner in (
        ("a read-only workdir, for an unprivileged process", stage.runner()),
        ("a read-only finished run, for an unprivileged process", stage.runner()),
    ):
        if "finished" in fault:
            runs.copied(stage.reference().path, runner.path)
        yield _without_rights(fault, runner)


def _without_rights(fault: str, runner: Runner) -> Trial:
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if not os.geteuid() else []
    command = [*drop, sys.executable, "-m", "cards_jax.main", *runner.arguments]
    before = runs.snapshot(runner.path)
    folders = [runner.workdir, runner.path, *runner.path.rglob("*")]
    for path in folders:
        if path.is_dir():
            path.chmod(0o555)
    try:
        done = subprocess.run(
            command,
            cwd=Path(main.__file__).parents[1],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=runs.PATIENCE,
        )
    finally:
        for path in folders:
            if path.is_dir():
                path.chmod(0o755)
    if "Traceback" in done.stderr:
        return Trial(fault, TRACEBACK, done.stderr)
    fine = done.returncode == 1 and runs.snapshot(runner.path) == before
    return Trial(fault, REFUSED if fine else LOST, done.stderr)


# --- what vanishes


def _vanishing(stage: Stage, what: str, name: str, moment: str) -> Trial:
    """Move it away while the run trains, see the end, put it back, give the command again."""
    fault, runner = f"{what} vanishes while it runs", stage.runner()
    before, aside = saved_steps(runner), runner.workdir / "aside"

    def vanish():
        # What was written halfway is put back too: as with a file system that comes back.
        (runner.path / name if name else runner.path).rename(aside)

    said, code = _disturbed(runner, lambda: any(runner.path.glob(moment)), vanish)
    if "Traceback" in said:
        return Trial(fault, TRACEBACK, said)
    if aside.exists():
        there = runner.path / name if name else runner.path
        if there.exists() and there.is_dir():  # made anew: what is there now goes first
            shutil.rmtree(there)
        elif there.exists():
            there.unlink()
        aside.rename(there)
    return _gone_on(fault, stage, runner, code, said, before)


def _disturbed(runner: Runner, when: Callable[[], bool], do: Callable) -> tuple[str, int]:
    """Start, do something at a moment; (what was said, exit code)."""
    process = runner.start()
    runs.wait_until(lambda: when() or process.exitcode is not None)
    do()
    process.join(runs.PATIENCE)
    return runner.said(), process.exitcode


def _gone_on(fault: str, stage: Stage, runner: Runner, code: int, said: str, before) -> Trial:
    if not kept(before, saved_steps(runner)) or code not in (0, 1):
        return Trial(fault, LOST, f"code {code}: {said}")
    try:
        runner.finish()
    except AssertionError:
        return Trial(fault, LOST, f"does not go on: {runner.said()}")
    wrong = stage.difference(runner)
    return Trial(fault, LOST if wrong else SAME, wrong or telling(said))


def _gone_later(stage: Stage, what: str) -> Trial:
    """From a finished run; the command is given again."""
    fault, runner = f"{what} of a finished run deleted", stage.runner()
    runs.copied(stage.reference().path, runner.path)
    for name in what.split(" and "):
        path = runner.path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    process = runner.start()
    process.join(runs.PATIENCE)
    said = runner.said()
    if "Traceback" in said:
        return Trial(fault, TRACEBACK, said)
    wrong = stage.difference(runner) if process.exitcode == 0 else f"code {process.exitcode}"
    told = "made again" in said or "trained again" in said
    return Trial(fault, LOST if wrong else MENDED if told else SAME, wrong or telling(said))


# --- on a disk that becomes read-only


def _on_the_disk(disk: Path, cache: Path, ends: Path) -> Iterator[dict]:
    for name, moment in MOMENTS.items():
        (disk / "runs").mkdir()
        runner = Runner(disk / "runs", cache)
        runner.out = ends.parent / "read_only.txt"
        before = saved_steps(runner)
        when = lambda moment=moment, runner=runner: not moment or any(runner.path.glob(moment))
        said, code = _disturbed(runner, when, lambda: _read_only(disk))
        mounts.remount(disk, "rw")
        safe = kept(before, saved_steps(runner))
        runner.finish()
        shutil.copytree(runner.path, ends / name)
        yield {"name": name, "code": code, "said": said[-2000:], "kept": safe}
        shutil.rmtree(disk / "runs")


def _read_only(disk: Path) -> None:
    """As soon as no file is being written."""

    def done() -> bool:
        command = ["mount", "-o", "remount,ro", str(disk)]
        return not subprocess.run(command, capture_output=True).returncode

    runs.wait_until(done)


if __name__ == "__main__":
    _, place, shared, kept_at = sys.argv
    print(json.dumps(list(_on_the_disk(Path(place), Path(shared), Path(kept_at)))))
