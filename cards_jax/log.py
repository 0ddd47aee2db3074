"""What a run writes while it trains: metric rows, a text log, a progress line, TensorBoard."""

import contextlib
import csv
import difflib
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from cards_jax import files

METRIC_FILES = ("metrics.jsonl", "metrics.csv")
SMOOTHING_SECONDS = 60.0  # the rate forgets what is older than about this
TERMINAL_SECONDS = 0.1  # a terminal line is rewritten at most this often


def plain(value: Any) -> str | int | float | bool | None:
    """One scalar as strict JSON can hold it: NaN and infinities become None.

    A float32 (or narrower) number becomes the float with the fewest digits that casts back to it,
    so files say 0.1 and not 0.10000000149011612. Raises ValueError for anything but a scalar.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    scalar = np.asarray(value)[()]
    if isinstance(scalar, np.bool_ | np.integer | np.str_):
        return scalar.item()
    try:
        number = float(str(scalar))
    except ValueError:
        raise ValueError(f"expected one number, string or None, got {value!r}") from None
    return number if math.isfinite(number) else None


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

    def forget(self, realizations: Collection[str]) -> None:
        """Drops every row of these values of the column `realization`; each file is rewritten whole.

        Raises ValueError naming the file and the line where a row cannot be read.
        """
        if not self.active:
            return
        self._check_untouched()
        place = self.columns.index("realization")
        readers = {
            "metrics.jsonl": lambda line: json.loads(line)["realization"],
            "metrics.csv": lambda line: next(csv.reader([line.decode()]))[place],
        }
        for name, read in readers.items():
            _keep_lines(self._paths[name], lambda line, read=read: read(line) not in realizations)
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


def csv_text(table: Sequence[Sequence[Any]]) -> str:
    """Rows as CSV text with unix line ends; None is an empty cell, floats keep every digit."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


class RunLog:
    """What a run says: printed, and kept with UTC time stamps in log.txt."""

    def __init__(self, folder: str | Path, active: bool = True):
        self.path = Path(folder) / "log.txt"
        self.active = active
        self.progress: Progress | None = None  # cleared off the terminal before a line is printed
        if active:
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def say(self, text: str) -> None:
        """Prints the text to stdout and appends it to log.txt.

        A log that cannot be written (full disk) is said on stderr and stops nothing.
        """
        if not self.active:
            return
        if self.progress is not None:
            self.progress.clear()
        _emit(sys.stdout, text + "\n")
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        lines = "".join(f"{stamp} {line}\n" for line in text.splitlines() or [""])
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(lines)
        except OSError as error:
            _emit(sys.stderr, f"cannot write {self.path}: {error.strerror}\n")


class Progress:
    """One line about the run: rewritten in place on a terminal, else a plain line now and then.

    `images_per_step` counts the images in a step of one realization; the rate that is shown sums
    over those alive and includes evaluation and saving, but not compilation. Steps up to
    `start_step` were done by an earlier run and do not count into the rate. `every` is the least
    number of seconds between plain lines, `clock` gives seconds.
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
        clock: Callable[[], float] = time.monotonic,
        active: bool = True,
    ):
        self.label = label  # what the line opens with; may change while the run goes on
        self._total, self._images, self._epoch = total_steps, images_per_step, steps_per_epoch
        self._stream = sys.stderr if stream is None else stream
        self._clock, self._active = clock, active
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
        self._rate.add(step - self._step, now - self._mark)
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
            _emit(self._stream, "\r" + " " * self._width + "\r")
            self._width = 0

    def close(self) -> None:
        """Shows the newest line if it was not shown yet, and leaves it standing."""
        if self._shown_step not in (None, self._step):
            self._show()
        if self._width:
            _emit(self._stream, "\n")
            self._width = 0

    def _show(self) -> None:
        self._shown_at, self._shown_step = self._clock(), self._step
        if not self._active:
            return
        if not self._terminal:
            _emit(self._stream, "  ".join(text for _, text in self._fields()) + "\n")
            return
        line = _fit(self._fields(), _columns(self._stream) - 1)
        _emit(self._stream, "\r" + line.ljust(self._width))
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
            fields.insert(-1, (8, f"{self._rate.value * self._images * alive:,.0f} images/s"))
        if self._compile_seconds:
            fields.append((9, f"compile {self._compile_seconds:.0f} s"))
        return [(rank, text) for rank, text in fields if text]

    def _time(self) -> str:
        if self._step >= self._total:
            return f"took {_duration(self._clock() - self._begin)}"
        if not self._rate.value:
            return "ETA ?"
        return f"ETA {_duration((self._total - self._step) / self._rate.value)}"

    def _mean(self, values_R: Sequence[float]) -> float | None:
        """Mean over the realizations that are alive, None if there is none."""
        return float(np.asarray(values_R)[self._alive].mean()) if self._alive.any() else None


class TensorBoard:
    """Metric rows as TensorBoard scalars: one TensorBoard run per realization.

    `start_step` hides what an earlier run wrote past its last checkpoint. Raises ImportError where
    tensorboardX is not installed.
    """

    scalars = ("loss", "accuracy", "lr", "alive")

    def __init__(self, folder: str | Path, start_step: int | None = None, active: bool = True):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError(
                'TensorBoard output needs tensorboardX: pip install "cards_jax[tensorboard]"'
            ) from None
        self.active = active
        self._open = lambda run: SummaryWriter(str(Path(folder) / run), purge_step=start_step)
        self._writers = {}

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Writes each finite scalar of the rows under `<split>/<name>` at the row's step."""
        if not self.active:
            return
        for row in rows:
            run = str(row["realization"])
            if run not in self._writers:
                self._writers[run] = self._open(run)
            for name in self.scalars:
                value = plain(row.get(name))
                if value is not None:
                    tag = f"{row['split']}/{name}" if "split" in row else name
                    self._writers[run].add_scalar(tag, float(value), int(row["step"]))
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class _Rate:
    """Steps per second, where older steps count ever less."""

    def __init__(self):
        self._steps = self._seconds = 0.0

    def add(self, steps: int, seconds: float) -> None:
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


def _emit(stream: TextIO, text: str) -> None:
    # A reader that went away (`| head`, a closed terminal) is no reason to stop training.
    with contextlib.suppress(OSError):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()


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
