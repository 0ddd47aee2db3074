"""The cache of decoded data: made once, by whoever comes first, for everybody who may read it."""

import threading
import time

import numpy as np

from cards_jax.data import store


def test_processes_that_start_together_decode_once(tmp_path):
    """Threads stand for them: each opens the lock's file anew, as a process does."""
    made, found = [], []

    def make():
        made.append(1)
        time.sleep(0.2)
        return {"x": np.arange(3), "y": np.ones(2)}, {"n": 1}

    recall = lambda: found.append(store.recall(tmp_path / "deep" / "entry", ("x",), make))
    threads = [threading.Thread(target=recall) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(found) == 4
    for arrays, notes in found:
        assert list(arrays) == ["x"] and arrays["x"].tolist() == [0, 1, 2] and notes == {"n": 1}
    mode = (tmp_path / "deep" / "entry").stat().st_mode & 0o777
    assert mode == (tmp_path / "deep").stat().st_mode & 0o777  # not the maker's alone


def test_a_damaged_entry_is_made_again(tmp_path, caplog):
    make = lambda: ({"x": np.arange(3)}, {})
    store.recall(tmp_path / "entry", ("x",), make)
    (tmp_path / "entry" / "x.npy").write_bytes(b"no array")
    arrays, _ = store.recall(tmp_path / "entry", ("x",), make)
    assert arrays["x"].tolist() == [0, 1, 2] and "is damaged" in caplog.text
    assert store.recall(tmp_path / "entry", ("x",), None)[0]["x"].tolist() == [0, 1, 2]
