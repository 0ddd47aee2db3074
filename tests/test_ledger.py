"""Measurements that stop and go on."""

import pytest

from cards_jax.config import ConfigError
from cards_jax.ledger import Ledger


def test_a_stopped_measurement_goes_on(tmp_path, capsys):
    path, calls = tmp_path / "new" / "a.jsonl", []

    def measure(value):
        calls.append(value)
        return [{"value": value, "bad": float("nan")}]

    first = Ledger(path, {"images": 3, "sizes": (1, 2)}, 3)
    rows = [first.rows(["a", i], lambda i=i: measure(i)) for i in (0, 1)]
    assert rows == [[{"value": i, "bad": None}] for i in (0, 1)]
    assert "1/3  a, " in capsys.readouterr().err
    with path.open("a") as file:  # killed within a line
        file.write('{"key": ["a", 2], "ro')
    again = Ledger(path, {"images": 3, "sizes": [1, 2]}, 3)
    assert [again.rows(["a", i], lambda i=i: measure(i)) for i in (0, 1, 2)][:2] == rows
    assert calls == [0, 1, 2]
    last = Ledger(path, {"images": 3, "sizes": [1, 2]}, 3)
    assert last.rows(["a", 2], lambda: measure(9)) == [{"value": 2, "bad": None}]
    assert "ETA" in capsys.readouterr().err


def test_another_measurement_is_kept(tmp_path):
    path = tmp_path / "a.jsonl"
    Ledger(path, {"images": 3}, 1).rows(["a"], lambda: [{"x": 1}])
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="with another images; allowed is another name"):
        Ledger(path, {"images": 4}, 1)
    assert path.read_bytes() == before
    path.write_text("what else\nlies here\n")
    with pytest.raises(ConfigError, match="no measurement that could go on"):
        Ledger(path, {"images": 4}, 1)


def test_without_a_file_nothing_is_kept():
    assert Ledger(None, {}, 1).rows(["a"], lambda: [{"x": 1}]) == [{"x": 1}]
