"""Metric files hold whole rows whatever happens; the progress line tells the truth."""

import csv
import io
import json
import math
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cards_jax.log import MetricsLog, Progress, RunLog, TensorBoard, plain, read_metrics

BOARD = "needs pip install tensorboardX"
COLUMNS = ("realization", "seed", "step", "split", "loss", "accuracy", "alive")


def _rows(step: int, count: int = 2) -> list[dict]:
    return [
        {
            "realization": f"r{i}",
            "seed": i,
            "step": step,
            "split": "test",
            "loss": np.float32(2.3 / (step + i + 1)),
            "accuracy": 1 - 1 / (step + i + 2),
            "alive": True,
        }
        for i in range(count)
    ]


def _read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# --- scalars


@given(st.floats(width=64))
def test_plain_keeps_every_float64(value):
    written = json.loads(json.dumps(plain(np.float64(value)), allow_nan=False))
    if math.isfinite(value):
        assert written == value and math.copysign(1, written) == math.copysign(1, value)
    else:
        assert written is None


@given(st.floats(width=32))
def test_plain_keeps_every_float32(value):
    written = json.loads(json.dumps(plain(np.float32(value)), allow_nan=False))
    if math.isfinite(value):
        assert np.float32(written).tobytes() == np.float32(value).tobytes()
    else:
        assert written is None


def test_plain_writes_few_digits():
    assert repr(plain(np.float32(0.1))) == "0.1"
    assert plain(np.array(3, np.int32)) == 3
    assert plain(np.bool_(True)) is True


@pytest.mark.parametrize("value", [[1.0], np.ones(1), {}, 1j, b"x"])
def test_plain_refuses_what_is_no_scalar(value):
    with pytest.raises(ValueError, match="expected one number"):
        plain(value)


# --- metric files


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=4))
def test_both_files_hold_the_floats_that_were_given(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("metrics")
    log = MetricsLog(folder, COLUMNS)
    log.append([{"step": i, "loss": np.float32(v)} for i, v in enumerate(values)])
    from_json = [row["loss"] for row in read_metrics(folder / "metrics.jsonl")]
    from_csv = [row["loss"] for row in _read_csv(folder / "metrics.csv")]
    for value, in_json, in_csv in zip(values, from_json, from_csv, strict=True):
        if math.isfinite(value):
            assert np.float32(in_json) == np.float32(in_csv) == np.float32(value)
        else:
            assert in_json is None and in_csv == ""


def test_missing_keys_and_order(tmp_path):
    MetricsLog(tmp_path, COLUMNS).append([{"loss": 0.5, "step": 3}])
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 3, "loss": 0.5}\n'
    assert (tmp_path / "metrics.csv").read_text() == ",".join(COLUMNS) + "\n,,3,,0.5,,\n"


def test_same_rows_give_same_bytes(tmp_path):
    for name in "ab":
        log = MetricsLog(tmp_path / name, COLUMNS)
        for step in range(3):
            log.append(_rows(step))
    for name in ("metrics.jsonl", "metrics.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_reopening_goes_on_and_cuts_a_torn_line(tmp_path):
    log = MetricsLog(tmp_path, COLUMNS)
    log.append(_rows(1))
    whole = log.lengths()
    for name in whole:
        with open(tmp_path / name, "ab") as file:
            file.write(b'{"realization": "r0", "se')
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2  # the reader leaves it out too
    again = MetricsLog(tmp_path, COLUMNS)
    assert again.lengths() == whole
    again.append(_rows(2))
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 1, 2, 2]
    assert [row["step"] for row in _read_csv(tmp_path / "metrics.csv")] == ["1", "1", "2", "2"]


def test_truncate_returns_to_a_checkpoint(tmp_path):
    log = MetricsLog(tmp_path, COLUMNS)
    empty = log.lengths()
    log.append(_rows(1))
    checkpoint = json.loads(json.dumps(log.lengths()))
    before = {name: (tmp_path / name).read_bytes() for name in checkpoint}
    log.append(_rows(2))
    log.append(_rows(3))
    after = {name: (tmp_path / name).read_bytes() for name in checkpoint}

    resumed = MetricsLog(tmp_path, COLUMNS)
    resumed.truncate(checkpoint)
    assert {name: (tmp_path / name).read_bytes() for name in checkpoint} == before
    resumed.append(_rows(2))
    resumed.append(_rows(3))
    assert {name: (tmp_path / name).read_bytes() for name in checkpoint} == after

    resumed.truncate(empty)  # a run that died before its first checkpoint
    for step in (1, 2, 3):
        resumed.append(_rows(step))
    assert {name: (tmp_path / name).read_bytes() for name in checkpoint} == after


@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.csv"])
def test_truncate_names_a_file_that_is_too_short(tmp_path, name):
    log = MetricsLog(tmp_path, COLUMNS)
    log.append(_rows(1))
    log.append(_rows(2))
    lengths = log.lengths()
    lines = (tmp_path / name).read_bytes().splitlines(keepends=True)
    (tmp_path / name).write_bytes(b"".join(lines[:-1]))
    other = ({*lengths} - {name}).pop()
    untouched = (tmp_path / other).read_bytes()
    with pytest.raises(ValueError, match=rf"{name} has \d+ bytes, .* {lengths[name]}: rows are"):
        MetricsLog(tmp_path, COLUMNS).truncate(lengths)
    assert (tmp_path / other).read_bytes() == untouched


def test_truncate_refuses_lengths_of_other_files(tmp_path):
    log = MetricsLog(tmp_path, COLUMNS)
    log.append(_rows(1))
    with pytest.raises(ValueError, match="lengths must name"):
        log.truncate({"metrics.jsonl": 0})
    shifted = {name: length - 1 for name, length in log.lengths().items()}
    with pytest.raises(ValueError, match="metrics.jsonl was changed.*no line ends at byte"):
        log.truncate(shifted)


@pytest.mark.parametrize(
    "row, message",
    [
        ({"acuracy": 1.0}, "unknown key 'acuracy'.*did you mean 'accuracy'"),
        ({"loss": np.ones(3)}, "metrics row, loss: expected one number"),
        ({"realization": "a\nb"}, "metrics row, realization: one line expected"),
    ],
)
def test_a_bad_row_writes_nothing(tmp_path, row, message):
    log = MetricsLog(tmp_path, COLUMNS)
    log.append(_rows(1))
    lengths = log.lengths()
    with pytest.raises(ValueError, match=message):
        log.append([*_rows(2), row])
    assert {name: (tmp_path / name).stat().st_size for name in lengths} == lengths


def test_other_columns_are_refused(tmp_path):
    MetricsLog(tmp_path, COLUMNS).append(_rows(1))
    with pytest.raises(ValueError, match=r"metrics\.csv has the columns real.*alive; this run"):
        MetricsLog(tmp_path, COLUMNS[:-1])


def test_a_second_writer_is_noticed_and_its_rows_stay(tmp_path):
    first, second = MetricsLog(tmp_path, COLUMNS), MetricsLog(tmp_path, COLUMNS)
    second.append(_rows(1))
    with pytest.raises(OSError, match="changed by someone else"):
        first.append(_rows(2))
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2


def test_an_inactive_log_touches_nothing(tmp_path):
    log = MetricsLog(tmp_path / "run", COLUMNS, active=False)
    log.append(_rows(1))
    log.truncate({"metrics.jsonl": 10, "metrics.csv": 10})
    assert log.lengths() == {"metrics.jsonl": 0, "metrics.csv": 0}
    RunLog(tmp_path / "run", active=False).say("nobody hears")
    assert not (tmp_path / "run").exists()


def test_read_metrics_names_the_bad_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: not JSON"):
        read_metrics(path)
    path.write_text("3\n")
    with pytest.raises(ValueError, match="line 1: expected an object, got 3"):
        read_metrics(path)


CHILD = """
import itertools, sys
from cards_jax.log import MetricsLog
log = MetricsLog(sys.argv[1], ("realization", "step", "loss"))
print("ready", flush=True)
for step in itertools.count():
    log.append([{"realization": f"r{i}" * 40, "step": step, "loss": step / 7} for i in range(50)])
"""


def test_kill_leaves_whole_rows(tmp_path):
    for trial in range(4):
        folder = tmp_path / str(trial)
        child = subprocess.Popen([sys.executable, "-c", CHILD, folder], stdout=subprocess.PIPE)
        try:
            child.stdout.readline()
            time.sleep(0.05 + 0.037 * trial)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait(timeout=10)
            child.stdout.close()
        MetricsLog(folder, ("realization", "step", "loss"))
        in_json = read_metrics(folder / "metrics.jsonl")
        in_csv = _read_csv(folder / "metrics.csv")
        assert in_json
        assert [row["step"] for row in in_json] == [i // 50 for i in range(len(in_json))]
        assert all(row["loss"] == row["step"] / 7 for row in in_json)
        for line, row in zip(in_csv, in_json, strict=False):
            assert (int(line["step"]), float(line["loss"])) == (row["step"], row["loss"])
        assert 0 <= len(in_json) - len(in_csv) <= 50  # at most the evaluation under way


FULL_DISK = """
import resource, signal, sys
from cards_jax.log import MetricsLog, read_metrics
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
empty = [f"empty{i}" for i in range(int(sys.argv[3]))]
log = MetricsLog(sys.argv[1], ["step", "loss", *empty])
log.append([{"step": 0, "loss": 0.5}])
lengths = log.lengths()
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    log.append([{"step": step, "loss": 0.25} for step in range(100)])
except OSError as error:
    print(error.filename)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert log.lengths() == lengths
log.append([{"step": 1, "loss": 0.25}])
"""


@pytest.mark.parametrize(
    "limit, empty, name", [(500, 0, "metrics.jsonl"), (5000, 200, "metrics.csv")]
)
def test_a_write_that_fails_half_way_is_taken_back(tmp_path, limit, empty, name):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path, str(limit), str(empty)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / name)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [0, 1]
    assert [row["step"] for row in _read_csv(tmp_path / "metrics.csv")] == ["0", "1"]


# --- text log


def test_say_prints_and_keeps(tmp_path, capsys):
    log = RunLog(tmp_path / "run")
    log.say("one")
    log.say("two\nthree")
    assert capsys.readouterr().out == "one\ntwo\nthree\n"
    lines = (tmp_path / "run" / "log.txt").read_text().splitlines()
    stamped = [re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (.*)", line)[1] for line in lines]
    assert stamped == ["one", "two", "three"]


def test_say_survives_a_log_that_cannot_be_written(tmp_path, capsys):
    log = RunLog(tmp_path)
    (tmp_path / "log.txt").mkdir()
    log.say("still here")
    captured = capsys.readouterr()
    assert captured.out == "still here\n"
    assert "cannot write" in captured.err and "log.txt" in captured.err


def test_a_reader_that_left_does_not_stop_the_run(tmp_path):
    code = (
        "import sys; from cards_jax.log import RunLog, Progress\n"
        "sys.stdin.readline(); log = RunLog(sys.argv[1])\n"
        "for i in range(5): log.say('x' * 100000)\n"
        "print('done', file=sys.stderr); sys.stderr.flush(); import os; os._exit(0)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    child.stdout.close()
    child.stdout = None
    _, err = child.communicate(b"go\n", timeout=30)
    assert (child.returncode, err) == (0, b"done\n")
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 5


# --- progress


class Clock:
    """Seconds that pass only when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _progress(clock: Clock, **options) -> tuple[Progress, io.StringIO]:
    stream = io.StringIO()
    return Progress(1000, 4, 64, stream, clock=clock, steps_per_epoch=100, **options), stream


def test_plain_lines_are_rare_and_end_with_the_last(tmp_path):
    clock = Clock()
    progress, stream = _progress(clock)
    for step in range(10, 1001, 10):
        clock.now += 0.5
        progress.update(step, [1.0] * 4, [0.5] * 4)
    progress.close()
    lines = stream.getvalue().splitlines()
    assert "\r" not in stream.getvalue()
    steps = [int(re.search(r"step (\d+)/1000", line)[1]) for line in lines]
    assert steps == [10, 210, 410, 610, 810, 1000]
    assert lines[-1].endswith("took 0:50")


def test_the_line_in_full():
    clock = Clock()
    progress, stream = _progress(clock, label="level 2/9")
    clock.now += 12.0
    progress.compiled(10.0)
    progress.update(100, [1.0, 2.0, 3.0, math.nan], [0.2, 0.3, 0.4, 0.1], [True] * 3 + [False])
    # 100 steps in the 2 s that were not compilation; 3 of 4 realizations are alive
    assert stream.getvalue() == (
        "level 2/9  step 100/1000  10%  epoch 1.0/10  alive 3/4  loss 2.000  accuracy 30.00%  "
        "9,600 images/s  ETA 0:18  compile 10 s\n"
    )


def test_steps_of_the_call_that_compiles_say_nothing_of_the_rate():
    clock = Clock()
    progress, stream = _progress(clock, every=0.0)
    clock.now += 10.0
    progress.compiled(10.0, 1)
    progress.update(1)
    assert "images/s" not in stream.getvalue() and "ETA ?" in stream.getvalue()
    clock.now += 1.0
    progress.update(101)
    assert "ETA 0:09" in stream.getvalue().splitlines()[-1]


def test_close_shows_the_newest_line_once():
    clock = Clock()
    progress, stream = _progress(clock)
    progress.update(10)
    clock.now += 1
    progress.update(20)
    assert "step 20/" not in stream.getvalue()
    progress.close()
    progress.close()
    assert stream.getvalue().count("step 20/") == 1


def test_resumed_steps_are_not_in_the_rate():
    clock = Clock()
    progress, stream = _progress(clock, start_step=900)
    clock.now += 10.0
    progress.update(950)
    assert f"{50 / 10 * 64 * 4:,.0f} images/s  ETA 0:10" in stream.getvalue()


def test_the_rate_follows_a_change_of_speed():
    clock = Clock()
    progress, stream = _progress(clock, every=0)
    for step in range(1, 101):
        clock.now += 0.1
        progress.update(step)
    for step in range(101, 201):
        clock.now += 5.0
        progress.update(step)
    hours, minutes, seconds = re.findall(r"ETA (\d+):(\d+):(\d+)", stream.getvalue())[-1]
    eta = 3600 * int(hours) + 60 * int(minutes) + int(seconds)
    assert eta == pytest.approx(800 * 5, rel=0.01)  # the fast start is forgotten


def test_a_clock_that_jumps_back_and_dead_realizations():
    clock = Clock()
    progress, stream = _progress(clock, every=0)
    clock.now -= 500
    progress.update(10, [math.nan] * 4, [0.1] * 4, [False] * 4)
    clock.now += 1
    progress.update(20, [math.nan] * 4, [0.1] * 4, [False] * 4)
    first, last = stream.getvalue().splitlines()[0], stream.getvalue().splitlines()[-1]
    assert "ETA ?" in first
    assert "alive 0/4" in last and "nan" not in last and "ETA 0:49" in last


def test_an_inactive_progress_is_silent():
    clock = Clock()
    progress, stream = _progress(clock, active=False)
    progress.update(1000)
    progress.close()
    assert stream.getvalue() == ""


TERMINAL = """
import sys
from cards_jax.log import Progress, RunLog
now = [0.0]
progress = Progress(300, 4, 64, steps_per_epoch=100, clock=lambda: now[0])
log = RunLog(sys.argv[1])
log.progress = progress
for step in (100, 200, 300):
    now[0] += 1.0
    progress.update(step, [1.0] * 4, [0.5] * 4)
    if step == 200:
        log.say("saved")
progress.close()
"""


@pytest.mark.parametrize("width", [200, 60, 30])
def test_a_terminal_line_is_rewritten_and_fits(tmp_path, width):
    fcntl, pty, termios = (
        pytest.importorskip(name, reason="needs a Unix terminal")
        for name in ("fcntl", "pty", "termios")
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-c", TERMINAL, tmp_path], stdout=theirs, stderr=theirs
    ) as child:
        os.close(theirs)
        text = _drain(ours)
        assert child.wait(timeout=10) == 0
    screen = [part for line in text.split("\r\n") for part in line.split("\r")]
    assert max(len(part) for part in screen) < width
    lines = [line.split("\r")[-1] for line in text.split("\r\n")]  # what stays on the screen
    assert lines[0] == "saved" and lines[2] == ""
    assert "step 300/300" in lines[1]
    assert ("images/s" in lines[1]) == (width == 200)


def _drain(descriptor: int) -> str:
    data = b""
    try:
        while part := os.read(descriptor, 4096):
            data += part
    except OSError:  # how Linux says that the other end was closed
        pass
    os.close(descriptor)
    return data.decode()


# --- TensorBoard


def tensorboard_events(path: Path) -> list:
    """Reads an event file: records of length, checksum, protocol buffer, checksum."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason=BOARD)
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(event_pb2.Event.FromString(data[12 : 12 + length]))
        data = data[12 + length + 4 :]
    return found


def _scalars(path: Path) -> list[tuple[str, int, float]]:
    events = tensorboard_events(path)
    return [(v.tag, event.step, v.simple_value) for event in events for v in event.summary.value]


def test_tensorboard_files_hold_the_scalars(tmp_path):
    pytest.importorskip("tensorboardX", reason=BOARD)
    board = TensorBoard(tmp_path)
    board.append(_rows(1))
    board.append([{**_rows(2)[0], "loss": math.nan}])
    board.close()
    (file,) = (tmp_path / "r0").iterdir()
    first, second = _rows(1)[0], _rows(2)[0]
    assert _scalars(file) == [
        ("test/loss", 1, pytest.approx(first["loss"])),
        ("test/accuracy", 1, pytest.approx(first["accuracy"])),
        ("test/alive", 1, 1.0),
        ("test/accuracy", 2, pytest.approx(second["accuracy"])),
        ("test/alive", 2, 1.0),
    ]
    assert len(list((tmp_path / "r1").iterdir())) == 1


def test_tensorboard_missing_is_said_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r'pip install "cards_jax\[tensorboard\]"') as caught:
        TensorBoard(tmp_path)
    assert "\n" not in str(caught.value)


# --- twins


def test_a_row_that_differs_from_its_twin_is_told(tmp_path):
    MetricsLog(tmp_path, COLUMNS).append(_rows(1) + _rows(2))
    for name in ("metrics.jsonl", "metrics.csv"):
        path = tmp_path / name
        good = path.read_bytes()
        path.write_bytes(good.replace(b"0.75", b"0.85", 1))
        with pytest.raises(ValueError, match="line .: not in metrics.*: one of these two files"):
            MetricsLog(tmp_path, COLUMNS)
        path.write_bytes(good)
    MetricsLog(tmp_path, COLUMNS)


@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.csv"])
def test_rows_that_a_killed_process_wrote_to_one_file_only_are_no_damage(tmp_path, name):
    """Appended to one, or dropped from one by `forget`."""
    MetricsLog(tmp_path, COLUMNS).append(_rows(1) + _rows(2))
    path = tmp_path / name
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in (lines[:-1], lines[:-2] + lines[-1:], lines[:1]):
        path.write_bytes(b"".join(kept))
        MetricsLog(tmp_path, COLUMNS)
