"""A run in a process of its own, so that whatever happens to it happens to no other."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lab import follow

LOOK_SECONDS = 1.0  # between two looks at the log
REQUEUE = 75  # exit code: saved after a signal, the same command continues
# Imported once, in a server that every process is forked from: a third of a short run is imports.
PRELOAD = ["cards_jax.main", "cards_jax.experiment", "lab.commit", "sklearn.datasets"]
PRELOAD += [f"matplotlib.{name}" for name in ("figure", "backends.backend_agg")]


def command(arguments: Sequence[str]) -> int:
    """`python -m cards_jax.main`."""
    from cards_jax import main

    return main.main(["cards_jax", *arguments])


def _begin(target: Callable[[Sequence[str]], int], arguments: Sequence[str], log: Path) -> None:
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


def call(arguments: Sequence[str], log: Path, target: Callable = command) -> tuple[int, float]:
    """(exit code, negative for a signal; seconds) of target(arguments), whose output is appended to `log`.

    Meanwhile the newest line of the log, which tells how far it is, is shown.
    SIGTERM and SIGINT are passed on; when the process has saved, Interrupted is raised.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    log.parent.mkdir(parents=True, exist_ok=True)
    shown = follow.Follow(log)
    process = context.Process(target=_begin, args=(target, list(arguments), log))
    began, asked = time.monotonic(), []

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)

    def pass_on(number: int, frame) -> None:
        asked.append(number)
        if process.pid:
            end()

    before = {n: signal.signal(n, pass_on) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        process.start()
        if asked:  # while it was being started
            end()
        while process.is_alive():
            process.join(LOOK_SECONDS)
            shown.update()
    finally:
        shown.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise Interrupted
    return process.exitcode, time.monotonic() - began
