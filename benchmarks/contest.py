"""A contest of speed: contestants in processes of their own, taking turns on one machine.

Every contestant is built, compiled and warmed up in its own process, which then waits at a pipe for
its turn. Turns go round (A B C, A B C, ...), so that whatever slows the machine down meanwhile slows
all of them down, and contestants are compared within a round.
"""

import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

Rates = dict[str, list[float]]


@dataclass(frozen=True)
class Contestant:
    """Who takes part: `make(**arguments)`, called in its own process, gives `run(n)`.

    make: a module-level function; what it needs is imported inside it. run(n) does n steps and
        returns when they are finished.
    work: what one step does, in any unit (images, operations); rates are work per second.
    least: steps of a turn, however long it takes; more than one where a call of run has costs of its own, such as
        memory that is asked for anew, which long work hides.
    """

    name: str
    make: Callable[..., Callable[[int], None]]
    work: float
    arguments: dict[str, Any] = field(default_factory=dict)
    least: int = 1


class Failed(Exception):
    """Why a contestant left the contest."""


def hold(
    contestants: list[Contestant],
    rounds: int,
    seconds: float,
    say: Callable[[str], None] = print,
    together: bool = False,
) -> tuple[Rates, dict[str, str]]:
    """Let contestants take turns of about `seconds` each, or longer; the first of `rounds` only warms up.

    They get ready one after another, or `together`, which disturbs what a compiler measures but saves its time.

    Returns ({contestant: work per second in each counted round}, {contestant: why it failed}). A
    contestant that fails leaves; the others go on.
    """
    workers, rates, failures = {}, {}, {}

    def ask(name: str, question: float | None = None) -> float | None:
        try:
            return workers[name].answer(question)
        except Failed as reason:
            say(f"{name} failed: {reason}")
            failures[name] = str(reason)
            workers.pop(name).stop()
            rates.pop(name, None)
            return None

    try:
        make = lambda contestant: _Worker(partial(_serve, contestant))
        workers |= {c.name: make(c) for c in contestants if together}
        for contestant in contestants:
            name = contestant.name
            workers[name] = workers.get(name) or make(contestant)
            if (took := ask(name)) is not None:
                say(f"{name}: ready after {took:.1f} s")
        for number in range(rounds):
            for name in list(workers):
                rate = ask(name, seconds)
                if number and rate is not None:
                    rates.setdefault(name, []).append(rate)
            say(f"round {number} of {rounds - 1}" if number else "warmed up")
    finally:
        for worker in workers.values():
            worker.stop()
    return rates, failures


def apart(task: Callable[..., Any], **arguments: Any) -> Any:
    """What `task(**arguments)` returns, computed in a process of its own; raises Failed.

    For what is no rate: memory, compilation, a profile. The value must be picklable.
    """
    worker = _Worker(partial(_answer, task, arguments))
    try:
        return worker.answer()
    finally:
        worker.stop()


def ratios(rates: Rates, one: str, other: str) -> list[float]:
    """How many times faster `one` was than `other`, round by round."""
    return [a / b for a, b in zip(rates[one], rates[other], strict=True)]


class _Worker:
    """This side of a contestant's process."""

    def __init__(self, serve: Callable[[Connection], None]):
        # A fresh interpreter: a fork would inherit threads and half-started libraries.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=serve,
            args=(theirs,),  # no daemon: a contestant may have workers of its own
        )
        self._process.start()
        theirs.close()

    def answer(self, question: float | None = None) -> Any:
        """What the process says to `question`, or of itself; raises Failed."""
        try:
            if question is not None:
                self._pipe.send(question)
            well, value = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise Failed(f"its process ended with exit code {self._process.exitcode}") from None
        if not well:
            raise Failed(value)
        return value

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _answer(task: Callable, arguments: dict[str, Any], pipe: Connection) -> None:
    """The process of `apart`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pipe.send((True, task(**arguments)))
    except Exception as error:
        pipe.send((False, _reason(error)))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).split(chr(10))[0]}"


def _serve(contestant: Contestant, pipe: Connection) -> None:
    """A contestant's process: the seconds until it was ready, then a rate for every turn asked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the contest
    began = time.perf_counter()
    try:
        run = contestant.make(**contestant.arguments)
        run(1)
        once = _timed(run, 1)
        pipe.send((True, time.perf_counter() - began))
        while True:
            steps = max(contestant.least, round(pipe.recv() / once))
            took = _timed(run, steps)
            once = min(once, took / steps)
            pipe.send((True, steps * contestant.work / took))
    except EOFError:
        pass
    except Exception as error:
        pipe.send((False, _reason(error)))


def _timed(run: Callable[[int], None], steps: int) -> float:
    began = time.perf_counter()
    run(steps)
    return time.perf_counter() - began
