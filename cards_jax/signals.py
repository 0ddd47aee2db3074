"""SIGTERM and SIGINT: wait for the next save while something trains, end at once elsewhere."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

WAITING = "\nstopping: saves at the end of this chunk; Ctrl-C once more stops without saving\n"


@contextlib.contextmanager
def interrupting() -> Iterator[None]:
    """Until the block ends SIGTERM raises KeyboardInterrupt as Ctrl-C does: for commands, before they listen closer."""
    if threading.current_thread() is not threading.main_thread():
        yield  # which alone may listen
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Stopped(Exception):
    """A signal asked the run to stop, and everything is saved."""


class Signals:
    """Whether somebody asked to stop.

    Within `deferred` a signal only sets `asked`, which is read between chunks; a second SIGINT, and any signal
    outside of it, raises KeyboardInterrupt.
    """

    def __init__(self):
        self.asked = False
        self._deferred = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Listen until the block ends; outside of the main thread nothing can listen, and nothing does."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {n: signal.signal(n, self._take) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Signals wait until somebody reads `asked`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _take(self, number: int, frame) -> None:
        if not self._deferred or (self.asked and number == signal.SIGINT):
            raise KeyboardInterrupt
        if not self.asked:
            with contextlib.suppress(OSError):
                os.write(2, WAITING.encode())  # print is not safe within a signal handler
        self.asked = True
