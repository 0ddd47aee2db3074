"""What a process last wrote into its log, shown while it works: in place on a terminal, else a line now and then."""

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from cards_jax.progress import emit

TERMINAL_SECONDS, PLAIN_SECONDS = 1.0, 300.0  # between two lines, at least
TAIL = 4096  # bytes of the log that are looked at


class Follow:
    """Shows the newest line of a log; what stood in it before counts as old.

    in_place: on a terminal always in one place, which has room for one log.
    """

    def __init__(
        self,
        log: Path,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        in_place: bool = True,
    ):
        self._log, self._clock = log, clock
        self._stream = sys.stderr if stream is None else stream
        self._terminal = in_place and self._stream.isatty()
        self._every = TERMINAL_SECONDS if self._terminal else PLAIN_SECONDS
        self._size, self._shown_at, self._width = self._bytes(), clock(), 0

    def update(self) -> None:
        """Show the line, where it is due and there is a new one."""
        now, size = self._clock(), self._bytes()
        if now - self._shown_at < self._every or size <= self._size:
            return
        line = newest(self._log, size - self._size)
        self._shown_at, self._size = now, size
        if not line:
            return
        if not self._terminal:
            emit(self._stream, line + "\n")
            return
        line = line[: shutil.get_terminal_size().columns - 1]
        emit(self._stream, "\r" + line.ljust(self._width))
        self._width = len(line)

    def close(self) -> None:
        """Take the line off a terminal."""
        if self._width:
            emit(self._stream, "\r" + " " * self._width + "\r")
            self._width = 0

    def _bytes(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0


def newest(log: Path, fresh: int = TAIL) -> str:
    """The last line of so many bytes at the end of a log that is whole, "" where there is none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - min(fresh, TAIL)))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    whole = text[: text.rfind("\n") + 1]
    return next((line.strip() for line in reversed(whole.splitlines()) if line.strip()), "")
