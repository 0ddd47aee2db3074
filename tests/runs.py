"""Whole runs on tiny networks: in this process, or in others that may be killed; and what they leave behind."""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from cards_jax import config, data, experiment, folder, main, pack, run, validation
from cards_jax.signals import Signals, Stopped

CONFIG = '''"""Two realizations of a tiny biprop network on 8 x 8 digits, saved after every chunk."""

from cards_jax.config import defaults


def get_config():
    c = defaults()
    c.name, c.model.name, c.model.width = "tiny", "conv2", 4
    c.seeds, c.epochs, c.batch_size = (0, 1), 3, 128
    c.augment, c.data.image_size, c.evaluate.batch_size = "plain", 8, 360
    c.compute.devices, c.compute.group_size, c.checkpoint.every_minutes = 1, 2, 0.0
    return c
'''
STEPS = 33  # of a realization in that config: 3 epochs of 11
PATIENCE = 900.0  # seconds until a process counts as stuck: machines may be busy
CACHING = {  # keep every program, under a key that does not depend on the cache's path
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_enable_xla_caches": "none",
}


# --- in this process


def tiny(workdir: Path, **changes):
    """The config above; changes by dotted field with __ for the dot."""
    fields = {}
    exec(CONFIG, fields)
    c = fields["get_config"]()
    c.workdir = str(workdir)
    for field, value in changes.items():
        config.assign(c, field.replace("__", "."), value)
    return validation.validate(c)


@contextlib.contextmanager
def compiled_once(cache: Path) -> Iterator[None]:
    """Programs that this process compiles are kept in a folder until the block ends."""
    wanted = {"jax_compilation_cache_dir": str(cache), **CACHING}
    before = {name: getattr(jax.config, name) for name in wanted}
    for name, value in wanted.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


class StopAfter(Signals):
    """A signal arrives during the chunk of that number, counted from 1."""

    def __init__(self, chunks: int):
        super().__init__()
        self._left = chunks

    @property
    def asked(self) -> bool:
        self._left -= 1
        return self._left <= 0

    @asked.setter
    def asked(self, value: bool) -> None:
        """Real signals are not listened to."""


def stopped(c, chunks: int) -> None:
    """Train so many chunks (the first is one step, others an epoch at most), save and stop."""
    try:
        with run.opened(c, StopAfter(chunks)) as r:
            r.results()
    except Stopped:
        return
    raise AssertionError("the run came to its end")


def finished(c) -> list[dict]:
    """Complete a run, with its report; its results."""
    return experiment.complete(c)


# --- what is left behind


def _without_versions(found):
    """JSON without the versions of what wrote it, and without sizes of files that hold them."""
    if isinstance(found, dict):
        hidden = ("versions", "true_bytes")
        return {k: _without_versions(v) for k, v in found.items() if k not in hidden}
    return [_without_versions(x) for x in found] if isinstance(found, list) else found


def outcome(path: Path) -> dict:
    """What must not depend on interruptions, nor on a commit in between: metric files, every card, results."""
    left = {name: (path / name).read_bytes() for name in ("metrics.jsonl", "metrics.csv")}
    for file in sorted((path / "cards").iterdir()):
        card = pack.load(file)
        arrays = [(x.dtype.str, x.shape, x.tobytes()) for x in jax.tree.leaves(card.card)]
        left[file.name] = arrays, _without_versions(card.meta)
    left["results"] = results_of(path)
    return left


def results_of(path: Path) -> dict:
    """results.json of a run, without versions."""
    return _without_versions(json.loads((path / "results.json").read_text()))


def assert_same(path: Path, reference: Path) -> None:
    mine, wanted = outcome(path), outcome(reference)
    assert mine.keys() == wanted.keys()
    for name in wanted:
        assert mine[name] == wanted[name], name


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def log_lines(path: Path) -> list[str]:
    """Lines of log.txt without their times."""
    return [line.partition(" ")[2] for line in (path / "log.txt").read_text().splitlines()]


def flip(path: Path, chance: random.Random) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def largest(path: Path) -> Path:
    return max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def dense_run(path, c, rates=(0.1,), fingerprint=None):
    """The folder of a dense run, as far as a baseline needs one."""
    path.mkdir()
    row = {"method": "dense", "model": c.model.name, "data": c.data.name, "test_accuracy": 0.5}
    row |= {"sparsity": 0.0, "weight_decay": 0.0, "scope": "layerwise", "diverged_at": None}
    rows = [{**row, "seed": 0, "learning_rate": rate, "id": str(rate)} for rate in rates]
    (path / "results.json").write_text(json.dumps({"results": rows}))
    state = folder.State(fingerprint or data.prepare(c).fingerprint)
    folder.write_json(path / "state.json", dataclasses.asdict(state))
    return str(path)


# --- in other processes


def _main(arguments: list[str], out: Path) -> None:
    """What `python -m cards_jax.main` does, with everything that it prints in a file."""
    handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    for name, value in CACHING.items():
        jax.config.update(name, value)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = main.main(["cards_jax", *arguments])
    sys.stdout.flush()
    os._exit(code)


class Runner:
    """Starts the program with the tiny config in one workdir; all workdirs share their compiled programs."""

    def __init__(self, workdir: Path, cache: Path, **changes):
        workdir.mkdir(exist_ok=True)
        cache.mkdir(exist_ok=True)
        (workdir / "cache").symlink_to(cache)
        self.workdir, self.out = workdir, workdir / "out.txt"
        self.config = workdir / "config.py"
        self.config.write_text(CONFIG)
        self.c = tiny(workdir, **changes)
        self.path = folder.path_of(self.c)
        self.arguments = [f"--config={self.config}", f"--workdir={workdir}"]
        for field, value in changes.items():
            text = ",".join(map(str, value)) if isinstance(value, tuple) else value
            self.arguments.append(f"--config.{field.replace('__', '.')}={text}")

    def start(self, *more: str, target: Callable = None, before: tuple = ()):
        """A process forked from a server that has imported everything already; `target` may prepare it first."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["cards_jax.experiment", "cards_jax.main"])
        self.out.unlink(missing_ok=True)
        args = (*before, [*self.arguments, *more], self.out)
        process = context.Process(target=target or _main, args=args)
        process.start()
        return process

    def spawn(self, *more: str) -> subprocess.Popen:
        """The command itself."""
        command = [sys.executable, "-m", "cards_jax.main", *self.arguments, *more]
        root = Path(main.__file__).parents[1]
        given = {"JAX_PLATFORMS": "cpu", **{k.upper(): str(v) for k, v in CACHING.items()}}
        self.out.unlink(missing_ok=True)
        with self.out.open("wb") as out:
            return subprocess.Popen(
                command, cwd=root, env={**os.environ, **given}, stdout=out, stderr=subprocess.STDOUT
            )

    def finish(self, *more: str) -> None:
        """Run to the end, undisturbed."""
        process = self.start(*more)
        process.join(PATIENCE)
        assert process.exitcode == 0, self.said()

    def said(self) -> str:
        return self.out.read_text() if self.out.exists() else ""

    def kill_when(self, condition: Callable[[], bool], delay: float = 0.0, *more: str) -> int:
        """Start, SIGKILL some time after a condition holds; the exit code, -9 unless the run was faster."""
        process = self.start(*more)
        wait_until(lambda: condition() or process.exitcode is not None)
        process.join(delay)
        process.kill()
        process.join()
        return process.exitcode


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.005)  # looking takes time from who is looked at


def snapshot(path: Path) -> dict[str, int]:
    """Size of every file."""
    sizes = {}
    for file in path.rglob("*"):
        with contextlib.suppress(OSError):
            sizes[str(file.relative_to(path))] = file.stat().st_size
    return sizes


def copied(workdir: Path, to: Path) -> Path:
    """A copy of a workdir with its runs; the cache stays a link."""
    return Path(shutil.copytree(workdir, to, symlinks=True))


def same_arrays(a, b) -> bool:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def changed(place: Path, pattern: str) -> Callable[[], bool]:
    """A condition: since now, something that fits the pattern has come or has grown."""

    def seen() -> dict:
        found = {}
        for path in place.glob(pattern):
            try:
                found[path] = path.stat().st_size
            except OSError:
                continue
        return found

    before = seen()
    return lambda: any(before.get(path) != size for path, size in seen().items())
