"""Long measurements in pieces: a file to which every finished piece is added at once, and progress on stderr.

The same command, stopped and started again, measures what is not there yet.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cards_jax.config import ConfigError
from cards_jax.plain import plain

Row = dict[str, Any]


class Ledger:
    """JSON lines: first what is measured, then one line for each piece.

    about: everything that the rows depend on, as JSON holds it. Raises ConfigError where the file holds something else.
    path=None keeps nothing. total: pieces, for the time that is left.
    """

    def __init__(self, path: Path | None, about: dict[str, Any], total: int):
        self.path, self.total = path, total
        self._found: dict[str, list[Row]] = {}
        self._done, self._measured, self._seconds = 0, 0, 0.0
        if path is None:
            return
        about = json.loads(json.dumps(about))
        if path.exists():
            self._read(about)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._add(about)

    def _read(self, about: dict[str, Any]) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]  # a line that was cut short is measured again
        try:
            first, *lines = [json.loads(line) for line in whole.splitlines()] or [about]
            self._found = {json.dumps(line["key"]): line["rows"] for line in lines}
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{self.path}: no measurement that could go on; move it away"
            ) from None
        if first != about:
            fields = [k for k in {**first, **about} if first.get(k) != about.get(k)]
            raise ConfigError(
                f"{self.path}: holds a measurement with another {fields[0]}; allowed is another name to save under, "
                "or to move it away"
            )
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))
        if not whole:
            self._add(about)

    def _add(self, line: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def rows(self, key: Sequence[Any], measure: Callable[[], Sequence[Row]]) -> list[Row]:
        """The rows of a piece, read or measured; values become what JSON holds."""
        name = json.dumps(list(key))
        if name not in self._found:
            began = time.perf_counter()
            rows = [{k: plain(v) for k, v in row.items()} for row in measure()]
            self._seconds += time.perf_counter() - began
            self._measured += 1
            if self.path:
                self._add({"key": list(key), "rows": rows})
            self._found[name] = rows
        self._done += 1
        self._say(key)
        return self._found[name]

    def _say(self, key: Sequence[Any]) -> None:
        each = self._seconds / max(self._measured, 1)
        left = round(each * (self.total - self._done))
        what = " ".join(str(x) for x in key if x not in ("", 0))
        eta = f", {each:.1f} s each, ETA {left // 60}:{left % 60:02d}" if self._measured else ""
        print(f"{self._done}/{self.total}  {what}{eta}", file=sys.stderr, flush=True)
