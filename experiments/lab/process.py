"""A run in a process of its own, so that whatever happens to it happens to no other."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from lab import follow

LOOK_SECONDS = 1.0  # between two looks at the log
SHARED = 0.9  # of a GPU's memory, among processes side by side
REQUEUE = 75  # exit code: saved after a signal, the same command continues
# Imported once, in a server that every process is forked from: a third of a short run is imports.
PRELOAD = ["cards_jax.main", "cards_jax.experiment", "lab.commit", "sklearn.datasets"]
PRELOAD += [f"matplotlib.{name}" for name in ("figure", "backends.backend_agg")]


def command(arguments: Sequence[str]) -> int:
    """`python -m cards_jax.main`."""
    from cards_jax import main

    return main.main(["cards_jax", *arguments])


def _begin(
    target: Callable[[Sequence[str]], int],
    arguments: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
) -> None:
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    code = 1
    try:
        code = target(arguments)
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def why(code: int, log: Path) -> str:
    """What a failed process left: its exit code, and its last words."""
    ended = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    said = follow.newest(log)
    return f"{ended}; see {log}" + (f"; its last line: {said}" if said else "")


class Interrupted(Exception):
    """A signal ended the sweep; the run that it reached was asked to save."""


class Calls:
    """Processes of this one, from any of its threads; SIGTERM and SIGINT to this one are passed on to all of them.

    With `with`, in the main thread. Meanwhile the newest line of each log, which tells how far a process is, is shown.
    jobs: processes side by side. Of a GPU's memory each takes its part, when it needs it, unless the environment says
    otherwise.
    """

    def __init__(self, jobs: int = 1):
        own = {"PREALLOCATE": "false", "MEM_FRACTION": f"{SHARED / jobs:.3f}"} if jobs > 1 else {}
        self._environment = {f"XLA_PYTHON_CLIENT_{k}": v for k, v in own.items()}
        self._in_place, self._asked, self._live = jobs == 1, False, set()

    def __enter__(self) -> Self:
        self._before = {n: signal.signal(n, self.stop) for n in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(
        self, arguments: Sequence[str], log: Path, target: Callable = command
    ) -> tuple[int, float]:
        """(exit code, negative for a signal; seconds) of target(arguments), whose output is appended to `log`.

        Raises Interrupted after a signal, when the process has saved.
        """
        if self._asked:
            raise Interrupted
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        log.parent.mkdir(parents=True, exist_ok=True)
        shown = follow.Follow(log, in_place=self._in_place)
        process = context.Process(
            target=_begin, args=(target, list(arguments), log, self._environment)
        )
        began = time.monotonic()
        try:
            process.start()
            self._live.add(process)
            if self._asked:  # while it was being started
                _end(process)
            while process.is_alive():
                process.join(LOOK_SECONDS)
                shown.update()
        finally:
            self._live.discard(process)
            shown.close()
        if self._asked:
            raise Interrupted
        return process.exitcode, time.monotonic() - began

    def stop(self, *signal_and_frame: object) -> None:
        """Ask all processes to save and end; no other begins."""
        self._asked = True
        for process in tuple(self._live):
            _end(process)


def _end(process: multiprocessing.process.BaseProcess) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)


def call(arguments: Sequence[str], log: Path, target: Callable = command) -> tuple[int, float]:
    """`Calls.run` of one process."""
    with Calls() as calls:
        return calls.run(arguments, log, target)
