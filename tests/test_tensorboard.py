"""TensorBoard's files hold the scalars of a run."""

import math
import struct
import sys
from pathlib import Path

import pytest
from test_metrics import metric_rows

from cards_jax.tensorboard import TensorBoard

BOARD = "needs pip install tensorboardX"


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
    board.append(metric_rows(1))
    board.append([{**metric_rows(2)[0], "loss": math.nan}])
    board.close()
    (file,) = (tmp_path / "r0").iterdir()
    first, second = metric_rows(1)[0], metric_rows(2)[0]
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
