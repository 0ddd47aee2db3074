"""Metric rows of a run in two files, which hold whole rows whatever happens."""

import contextlib
import csv
import difflib
import json
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from cards_jax import files
from cards_jax.plain import csv_text, plain

METRIC_FILES = ("metrics.jsonl", "metrics.csv")


class MetricsLog:
    """Metric rows as JSON lines and CSV, which at every moment hold whole rows only.

    `columns` are the keys a row may have, in the order of the CSV. With `active=False` (any process
    but the first) nothing is read or written. Raises ValueError where the folder holds a CSV with
    other columns, or where one file contradicts the other: one of them was damaged.
    """

    def __init__(self, folder: str | Path, columns: Sequence[str], active: bool = True):
        self.columns = tuple(columns)
        self.active = active
        self._paths = {name: Path(folder) / name for name in METRIC_FILES}
        if active:
            Path(folder).mkdir(parents=True, exist_ok=True)
            for path in self._paths.values():
                if not path.exists():
                    path.touch()
                _cut_torn_line(path)
            self._check_header()
            self._check_twins()
            self._lengths = self._sizes()

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Adds the rows of one evaluation to both files, or to neither if a write fails.

        Raises ValueError for a key that is no column, or a value that is no scalar.
        """
        if not self.active or not rows:
            return
        clean = [self._clean(row) for row in rows]
        header = [self.columns] if self._lengths["metrics.csv"] == 0 else []
        table = header + [[row.get(column) for column in self.columns] for row in clean]
        lines = [json.dumps(row, allow_nan=False) + "\n" for row in clean]
        self._check_untouched()
        try:
            _append(self._paths["metrics.jsonl"], "".join(lines))
            _append(self._paths["metrics.csv"], csv_text(table))
            self._lengths = self._sizes()
        except BaseException:
            with contextlib.suppress(OSError):
                self._cut(self._lengths)
            raise

    def lengths(self) -> dict[str, int]:
        """Bytes that each file holds: what a checkpoint stores."""
        return dict(self._lengths) if self.active else dict.fromkeys(METRIC_FILES, 0)

    def truncate(self, lengths: dict[str, int]) -> None:
        """Cuts both files back to what `lengths()` said when a checkpoint was written.

        Raises ValueError, and cuts nothing, where a file is shorter or not the one measured then.
        """
        if not self.active:
            return
        if set(lengths) != set(METRIC_FILES):
            raise ValueError(f"lengths must name {METRIC_FILES}, got {sorted(lengths)}")
        for name, length in lengths.items():
            _check_cut(self._paths[name], length)
        self._cut(lengths)
        self._lengths = self._sizes()

    def forget(self, trained: Collection[tuple[str, str]]) -> None:
        """Drops every row of these (realization, phase); each file is rewritten whole.

        Raises ValueError naming the file and the line where a row cannot be read.
        """
        if not self.active:
            return
        self._check_untouched()
        keys = ("realization", "phase")
        places = [self.columns.index(key) for key in keys]

        def of_json(line: bytes) -> tuple:
            row = json.loads(line)
            return tuple(row[key] for key in keys)

        def of_csv(line: bytes) -> tuple:
            row = next(csv.reader([line.decode()]))
            return tuple(row[place] for place in places)

        for name, read in {"metrics.jsonl": of_json, "metrics.csv": of_csv}.items():
            _keep_lines(self._paths[name], lambda line, read=read: read(line) not in trained)
        self._lengths = self._sizes()

    def _clean(self, row: dict[str, Any]) -> dict[str, Any]:
        for key in row:
            if key not in self.columns:
                near = difflib.get_close_matches(key, self.columns, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"metrics row has the unknown key {key!r}; allowed: "
                    f"{', '.join(self.columns)}{hint}"
                )
        return {key: _cell(key, row[key]) for key in self.columns if key in row}

    def _check_untouched(self) -> None:
        for name, size in self._sizes().items():
            if size != self._lengths[name]:
                raise OSError(
                    f"{self._paths[name]} was changed by someone else: it has {size} bytes, "
                    f"this run wrote {self._lengths[name]}"
                )

    def _cut(self, lengths: dict[str, int]) -> None:
        for name, length in lengths.items():
            _cut_file(self._paths[name], length)

    def _sizes(self) -> dict[str, int]:
        return {name: path.stat().st_size for name, path in self._paths.items()}

    def _check_header(self) -> None:
        path = self._paths["metrics.csv"]
        with open(path, newline="", encoding="utf-8") as file:
            header = next(csv.reader(file), None)
        if header is not None and tuple(header) != self.columns:
            raise ValueError(
                f"{path} has the columns {', '.join(header)}; "
                f"this run writes {', '.join(self.columns)}"
            )

    def _check_twins(self) -> None:
        """Each row is there twice, but for those that a killed process wrote to, or dropped from, one file only."""
        ours, theirs = self._paths["metrics.jsonl"], self._paths["metrics.csv"]
        table = [[row.get(column) for column in self.columns] for row in read_metrics(ours)]
        lines = [csv_text([row]).encode() for row in table]
        others = theirs.read_bytes().splitlines(keepends=True)[1:]
        pairs = {ours: lines, theirs: others}
        fewer, more = sorted(pairs, key=lambda path: len(pairs[path]))
        rest = iter(pairs[more])
        for number, line in enumerate(pairs[fewer], 1 if fewer == ours else 2):
            if line not in rest:
                raise ValueError(
                    f"{fewer}, line {number}: not in {more.name}: one of these two files was damaged"
                )


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Reads the rows of a metrics.jsonl; a last line that is still being written is left out.

    Raises ValueError naming the file and the line where a whole line is no JSON object.
    """
    rows = []
    for number, line in enumerate(Path(path).read_bytes().split(b"\n")[:-1], 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: expected an object, got {row!r}")
        rows.append(row)
    return rows


def _cell(key: str, value: Any) -> str | int | float | bool | None:
    try:
        value = plain(value)
    except ValueError as error:
        raise ValueError(f"metrics row, {key}: {error}") from None
    if isinstance(value, str) and ("\n" in value or "\r" in value):
        raise ValueError(f"metrics row, {key}: one line expected, got {value!r}")
    return value


def _append(path: Path, text: str) -> None:
    """Adds the text in one write and syncs it; an OSError (full disk) names the path."""
    try:
        with open(path, "ab", buffering=0) as file:
            rest = memoryview(text.encode())
            while rest:  # a full disk may take a part first
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _keep_lines(path: Path, wanted: Callable[[bytes], bool]) -> None:
    lines = path.read_bytes().split(b"\n")[:-1]
    kept = []
    for number, line in enumerate(lines, 1):
        try:
            kept += [line + b"\n"] if wanted(line) else []
        except (ValueError, LookupError, TypeError, StopIteration) as error:
            raise ValueError(f"{path}, line {number}: not a row ({error})") from None
    if len(kept) < len(lines):
        files.write_atomically(path, b"".join(kept))


def _cut_torn_line(path: Path) -> None:
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        _cut_file(path, end)


def _check_cut(path: Path, length: int) -> None:
    """Raises ValueError unless the file has a whole line that ends at `length` bytes."""
    size = path.stat().st_size
    if size < length:
        raise ValueError(
            f"{path} has {size} bytes, but its checkpoint was written at {length}: "
            "rows are missing that cannot be made again"
        )
    with open(path, "rb") as file:
        file.seek(max(length - 1, 0))
        if length and file.read(1) != b"\n":
            raise ValueError(
                f"{path} was changed since its checkpoint: no line ends at byte {length}"
            )


def _cut_file(path: Path, length: int) -> None:
    with open(path, "r+b") as file:
        file.truncate(length)
        os.fsync(file.fileno())
