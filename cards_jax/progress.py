"""One line that tells how far a run is, how fast, and how long it will take."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

import numpy as np

SMOOTHING_SECONDS = 60.0  # the rate forgets what is older than about this
TERMINAL_SECONDS = 0.1  # a terminal line is rewritten at most this often


class Progress:
    """One line about the run: rewritten in place on a terminal, else a plain line now and then.

    `images_per_step` counts the images in a step of one realization; the rate that is shown sums
    over those alive and includes evaluation and saving, but not compilation. Steps up to
    `start_step` were done by an earlier run and do not count into the rate. `every` is the least
    number of seconds between plain lines, `clock` gives seconds. `work` tells how much is done after so many steps,
    in steps of a single realization, where steps are not alike: the rate and the ETA count that.
    """

    def __init__(
        self,
        total_steps: int,
        realizations: int,
        images_per_step: int,
        stream: TextIO | None = None,
        *,
        steps_per_epoch: int | None = None,
        start_step: int = 0,
        every: float = 10.0,
        label: str = "",
        work: Callable[[int], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        active: bool = True,
    ):
        self.label = label  # what the line opens with; may change while the run goes on
        self._total, self._images, self._epoch = total_steps, images_per_step, steps_per_epoch
        self._stream = sys.stderr if stream is None else stream
        self._clock, self._active = clock, active
        self._work = work or (lambda step: step * realizations)
        self._terminal = self._stream.isatty()
        self._every = TERMINAL_SECONDS if self._terminal else every
        self._begin = self._mark = clock()
        self._step, self._compile_seconds, self._rate = start_step, 0.0, _Rate()
        self._alive = np.ones(realizations, bool)
        self._loss = self._accuracy = None
        self._shown_at, self._shown_step, self._width = -math.inf, None, 0

    def compiled(self, seconds: float, steps: int = 0) -> None:
        """Says that the last `seconds` went into compiling and `steps`, which the rate leaves out."""
        self._compile_seconds += seconds
        self._mark += seconds
        self._step += steps

    def update(
        self,
        step: int,
        loss_R: Sequence[float] | None = None,
        accuracy_R: Sequence[float] | None = None,
        alive_R: Sequence[bool] | None = None,
    ) -> None:
        """Takes the steps done so far and the newest metrics, and shows the line when it is due."""
        now = self._clock()
        self._rate.add(self._work(step) - self._work(self._step), now - self._mark)
        self._step, self._mark = step, now
        if alive_R is not None:
            self._alive = np.asarray(alive_R, bool)
        self._loss = self._loss if loss_R is None else self._mean(loss_R)
        self._accuracy = self._accuracy if accuracy_R is None else self._mean(accuracy_R)
        if step >= self._total or now - self._shown_at >= self._every:
            self._show()

    def clear(self) -> None:
        """Takes the line off a terminal, to make room for other text."""
        if self._width:
            emit(self._stream, "\r" + " " * self._width + "\r")
            self._width = 0

    def close(self) -> None:
        """Shows the newest line if it was not shown yet, and leaves it standing."""
        if self._shown_step not in (None, self._step):
            self._show()
        if self._width:
            emit(self._stream, "\n")
            self._width = 0

    def _show(self) -> None:
        self._shown_at, self._shown_step = self._clock(), self._step
        if not self._active:
            return
        if not self._terminal:
            emit(self._stream, "  ".join(text for _, text in self._fields()) + "\n")
            return
        line = _fit(self._fields(), _columns(self._stream) - 1)
        emit(self._stream, "\r" + line.ljust(self._width))
        self._width = len(line)

    def _fields(self) -> list[tuple[int, str]]:
        """The parts of the line, each with its rank: a narrow terminal loses high ranks first."""
        alive = int(self._alive.sum())
        percent = 100 * self._step / max(self._total, 1)
        fields = [
            (2, self.label),
            (0, f"step {self._step}/{self._total}"),
            (6, f"{percent:.0f}%"),
            (3, f"alive {alive}/{self._alive.size}"),
            (4, self._time()),
        ]
        if self._epoch:
            epochs = f"{self._total / self._epoch:.4g}"
            fields.insert(3, (7, f"epoch {self._step / self._epoch:.1f}/{epochs}"))
        if self._loss is not None:
            fields.insert(-1, (5, f"loss {self._loss:.3f}"))
        if self._accuracy is not None:
            fields.insert(-1, (1, f"accuracy {100 * self._accuracy:.2f}%"))
        if self._rate.value:
            rate = self._rate.value * self._images * alive / max(self._alive.size, 1)
            fields.insert(-1, (8, f"{rate:,.0f} images/s"))
        if self._compile_seconds:
            fields.append((9, f"compile {self._compile_seconds:.0f} s"))
        return [(rank, text) for rank, text in fields if text]

    def _time(self) -> str:
        if self._step >= self._total:
            return f"took {_duration(self._clock() - self._begin)}"
        if not self._rate.value:
            return "ETA ?"
        left = self._work(self._total) - self._work(self._step)
        return f"ETA {_duration(left / self._rate.value)}"

    def _mean(self, values_R: Sequence[float]) -> float | None:
        """Mean over the realizations that are alive, None if there is none."""
        return float(np.asarray(values_R)[self._alive].mean()) if self._alive.any() else None


class _Rate:
    """Work per second, where older work counts ever less."""

    def __init__(self):
        self._steps = self._seconds = 0.0

    def add(self, steps: float, seconds: float) -> None:
        seconds = max(seconds, 0.0)  # a clock that jumps back
        decay = math.exp(-seconds / SMOOTHING_SECONDS)
        self._steps = self._steps * decay + max(steps, 0)
        self._seconds = self._seconds * decay + seconds

    @property
    def value(self) -> float | None:
        return self._steps / self._seconds if self._steps and self._seconds else None


def _fit(fields: list[tuple[int, str]], columns: int) -> str:
    """Joins as many fields, lowest ranks first, as the columns hold."""
    ranks = sorted(rank for rank, _ in fields)
    for keep in reversed(ranks):
        line = "  ".join(text for rank, text in fields if rank <= keep)
        if len(line) <= columns:
            return line
    return line[: max(columns, 0)]


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def emit(stream: TextIO, text: str) -> None:
    # A reader that went away (`| head`, a closed terminal) is no reason to stop training.
    with contextlib.suppress(OSError):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
