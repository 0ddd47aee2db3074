"""Metric files hold whole rows whatever happens."""

import csv
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cards_jax.log import RunLog
from cards_jax.metrics import MetricsLog, read_metrics

COLUMNS = ("realization", "seed", "step", "split", "loss", "accuracy", "alive")


def metric_rows(step: int, count: int = 2) -> list[dict]:
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
            log.append(metric_rows(step))
    for name in ("metrics.jsonl", "metrics.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_reopening_goes_on_and_cuts_a_torn_line(tmp_path):
    log = MetricsLog(tmp_path, COLUMNS)
    log.append(metric_rows(1))
    whole = log.lengths()
    for name in whole:
        with open(tmp_path / name, "ab") as file:
            file.write(b'{"realization": "r0", "se')
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2  # the reader leaves it out too
    again = MetricsLog(tmp_path, COLUMNS)
    assert again.lengths() == whole
    again.append(metric_rows(2))
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 1, 2, 2]
    assert [row["step"] for row in _read_csv(tmp_path / "metrics.csv")] == ["1", "1", "2", "2"]


def test_truncate_returns_to_a_checkpoint(tmp_path):
    log = MetricsLog(tmp_path, COLUMNS)
    empty = log.lengths()
    log.append(metric_rows(1))
    checkpoint = json.loads(json.dumps(log.lengths()))
    before = {name: (tmp_path / name).read_bytes() for name in checkpoint}
    log.append(metric_rows(2))
    log.append(metric_rows(3))
    after = {name: (tmp_path / name).read_bytes() for name in checkpoint}

    resumed = MetricsLog(tmp_path, COLUMNS)
    resumed.truncate(checkpoint)
    assert {name: (tmp_path / name).read_bytes() for name in checkpoint} == before
    resumed.append(metric_rows(2))
    resumed.append(metric_rows(3))
    assert {name: (tmp_path / name).read_bytes() for name in checkpoint} == after

    resumed.truncate(empty)  # a run that died before its first checkpoint
    for step in (1, 2, 3):
        resumed.append(metric_rows(step))
    assert {name: (tmp_path / name).read_bytes() for name in checkpoint} == after


@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.csv"])
def test_truncate_names_a_file_that_is_too_short(tmp_path, name):
    log = MetricsLog(tmp_path, COLUMNS)
    log.append(metric_rows(1))
    log.append(metric_rows(2))
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
    log.append(metric_rows(1))
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
    log.append(metric_rows(1))
    lengths = log.lengths()
    with pytest.raises(ValueError, match=message):
        log.append([*metric_rows(2), row])
    assert {name: (tmp_path / name).stat().st_size for name in lengths} == lengths


def test_other_columns_are_refused(tmp_path):
    MetricsLog(tmp_path, COLUMNS).append(metric_rows(1))
    with pytest.raises(ValueError, match=r"metrics\.csv has the columns real.*alive; this run"):
        MetricsLog(tmp_path, COLUMNS[:-1])


def test_a_second_writer_is_noticed_and_its_rows_stay(tmp_path):
    first, second = MetricsLog(tmp_path, COLUMNS), MetricsLog(tmp_path, COLUMNS)
    second.append(metric_rows(1))
    with pytest.raises(OSError, match="changed by someone else"):
        first.append(metric_rows(2))
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2


def test_an_inactive_log_touches_nothing(tmp_path):
    log = MetricsLog(tmp_path / "run", COLUMNS, active=False)
    log.append(metric_rows(1))
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
from cards_jax.metrics import MetricsLog
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
from cards_jax.metrics import MetricsLog, read_metrics
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


def test_a_row_that_differs_from_its_twin_is_told(tmp_path):
    MetricsLog(tmp_path, COLUMNS).append(metric_rows(1) + metric_rows(2))
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
    MetricsLog(tmp_path, COLUMNS).append(metric_rows(1) + metric_rows(2))
    path = tmp_path / name
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in (lines[:-1], lines[:-2] + lines[-1:], lines[:1]):
        path.write_bytes(b"".join(kept))
        MetricsLog(tmp_path, COLUMNS)


def test_rows_are_forgotten_by_realization_and_phase(tmp_path):
    """All phases of a trajectory have one identity: those that are not trained again keep theirs."""
    columns = (*COLUMNS, "phase")
    log = MetricsLog(tmp_path, columns)
    log.append([{**r, "phase": p} for p in ("level 1", "level 2") for r in metric_rows(1)])
    log.forget({("r0", "level 2")})
    left = [(r["realization"], r["phase"]) for r in read_metrics(tmp_path / "metrics.jsonl")]
    assert left == [("r0", "level 1"), ("r1", "level 1"), ("r1", "level 2")]
    MetricsLog(tmp_path, columns)  # both files still agree
