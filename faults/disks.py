"""A disk that is full at every place where something is written: ever more room, page by page, until all fits."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import runs
from runs import Runner

from faults import mounts
from faults.stage import METHODS, Stage, difference, kept, saved_steps
from faults.trial import BEFORE, LOST, REFUSED, SAME, TRACEBACK, Trial

PAGE = 4096
METHOD = "biprop"
MEGABYTES = 4


def _rooms(quick: bool) -> list[int]:
    """Free bytes at the starts, one after another."""
    fine, coarse = range(0, 12 * PAGE, PAGE), range(12 * PAGE, 60 * PAGE, 4 * PAGE)
    return [0, PAGE, 16 * PAGE] if quick else [*fine, *coarse, 80 * PAGE, 110 * PAGE, 150 * PAGE]


def total(quick: bool) -> int:
    return len(_rooms(quick)) + 2 + len(_COMMANDS)


def trials(place: Path, quick: bool) -> Iterator[Trial]:
    stage = Stage(place)
    reference = stage.reference(METHOD)
    if not mounts.possible():
        raise SystemExit("faults: disks: this system does not permit to mount a small disk")
    finished = place / "finished"
    rooms = ",".join(map(str, _rooms(quick)))
    report = mounts.within(place / "disk", MEGABYTES, "faults.disks", stage.cache, finished, rooms)
    for case in report[: len(_rooms(quick))]:
        fault = f"full disk: {_site(case['said'])}"
        if "Traceback" in case["said"]:
            yield Trial(fault, TRACEBACK, case["said"])
        elif not case["kept"] or case["code"] not in (0, 1):
            yield Trial(fault, LOST, f"code {case['code']}: {case['said']}")
        else:
            yield Trial(fault, REFUSED if case["code"] else SAME, case["said"])
    last = report[len(_rooms(quick))]
    wrong = difference(finished / "run", reference.path) if last["code"] == 0 else last["said"]
    yield Trial("full disks, then enough room: the end", LOST if wrong else SAME, wrong)
    case = report[len(_rooms(quick)) + 1]
    good = case["code"] in (0, 1) and case["kept"] and "Traceback" not in case["said"]
    yield Trial(
        "full disk: the report again, over a good one", REFUSED if good else LOST, case["said"]
    )
    for case in report[-len(_COMMANDS) :]:
        told = case["code"] == 1 and len(case["said"].strip().splitlines()) >= 1
        outcome = BEFORE if case["kept"] else LOST
        outcome = TRACEBACK if "Traceback" in case["said"] or not told else outcome
        yield Trial(f"full disk: {case['name']}, over a good file", outcome, case["said"])


def _site(said: str) -> str:
    """What could not be written, by the line that says so."""
    for word in (
        "checkpoint",
        "metrics",
        "config.json",
        "versions.json",
        "state.json",
        ".card",
        "results",
    ):
        if word in said:
            return {".card": "a card", "metrics": "metric rows", "results": "results.json"}.get(
                word, word
            )
    for word in (".lock", "tables", "plots", "make", "mkdir"):
        if word in said:
            return word
    return "somewhere" if "cards_jax: " in said else "nothing, there was room"


# --- the commands on finished cards


_COMMANDS = {
    "deck build": ("cards_jax.deck", ["build", "RUN", "--save=OUT.deck"], "OUT.deck"),
    "heatmap": ("cards_jax.heatmap", ["RUN", "--eps=4", "--images=64", "--save=OUT"], "OUT.npz"),
}


def _commands(disk: Path, runner: Runner) -> Iterator[dict]:
    """Each writes a good file; then again, on a full disk."""
    import os
    import subprocess

    for name, (module, arguments, file) in _COMMANDS.items():
        out = str(disk / name.replace(" ", "_"))
        words = [a.replace("RUN", str(runner.path)).replace("OUT", out) for a in arguments]
        command = [sys.executable, "-m", module, *words]
        # Programs were kept elsewhere by the first one.
        cache = {"JAX_COMPILATION_CACHE_DIR": str(runner.workdir / "cache")}
        call = lambda command=command, cache=cache: subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **cache}
        )
        first = call()
        good = Path(file.replace("OUT", out))
        content = good.read_bytes() if good.exists() else None
        filler = mounts.fill(disk, 0)
        done = call()
        filler.unlink()
        same = content is not None and good.exists() and good.read_bytes() == content
        said = done.stderr if content is not None else f"the first failed: {first.stderr}"
        yield {"name": name, "code": done.returncode, "said": said[-2000:], "kept": same}


# --- on the small disk


def _on_the_disk(disk: Path, cache: Path, finished: Path, rooms: list[int]) -> Iterator[dict]:
    runner = Runner(disk / "runs", cache, **METHODS[METHOD])
    runner.out = finished.parent / "disk.txt"  # where there is room
    for free in rooms:
        yield _tried(runner, disk, free)
    yield _tried(runner, disk, None)
    shutil.copytree(runner.path, finished / "run")
    before = {
        p: p.read_bytes()
        for p in runner.path.rglob("*.*")
        if p.name not in ("log.txt", ".lock") and p.is_file()
    }
    case = _tried(runner, disk, 0)
    case["kept"] = all(p.exists() and p.read_bytes() == content for p, content in before.items())
    yield case
    yield from _commands(disk, runner)


def _tried(runner: Runner, disk: Path, free: int | None) -> dict:
    before = saved_steps(runner)
    filler = mounts.fill(disk, free) if free is not None else None
    process = runner.start()
    process.join(runs.PATIENCE)
    code = process.exitcode
    if filler:
        filler.unlink()
    return {"code": code, "said": runner.said()[-2000:], "kept": kept(before, saved_steps(runner))}


if __name__ == "__main__":
    _, place, shared, end, sizes = sys.argv
    sizes = [int(n) for n in sizes.split(",")]
    print(json.dumps(list(_on_the_disk(Path(place), Path(shared), Path(end), sizes))))
