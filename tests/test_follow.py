"""What an experiment shows of the process that works for it."""

import io
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "experiments"))

from lab import process  # noqa: E402
from lab.follow import PLAIN_SECONDS, TERMINAL_SECONDS, Follow, newest  # noqa: E402


class Screen(io.StringIO):
    def __init__(self, terminal: bool):
        super().__init__()
        self.isatty = lambda: terminal


class Watch:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def log(tmp_path) -> Path:
    path = tmp_path / "log.txt"
    path.write_text("of an earlier process\n")
    return path


def write(log: Path, text: str) -> None:
    with open(log, "a") as file:
        file.write(text)


def test_a_terminal_has_the_newest_whole_line_in_its_place(log):
    screen, watch = Screen(True), Watch()
    shown = Follow(log, screen, watch)
    watch.now += TERMINAL_SECONDS
    shown.update()
    assert screen.getvalue() == ""  # nothing new
    write(log, "step 1, which is long\nstep 2, whi")
    shown.update()
    assert screen.getvalue() == "\rstep 1, which is long"
    write(log, "ch is not\nstep 3\n")
    shown.update()
    assert screen.getvalue() == "\rstep 1, which is long"  # too soon
    watch.now += TERMINAL_SECONDS
    shown.update()
    shown.close()
    lines = screen.getvalue().split("\r")
    assert lines[2] == "step 3".ljust(len(lines[1])) and lines[3].strip() == lines[4] == ""


def test_a_batch_job_has_a_line_now_and_then_and_a_lost_log_is_no_failure(log):
    screen, watch = Screen(False), Watch()
    shown = Follow(log, screen, watch)
    write(log, "step 1\n")
    for _ in range(int(2 * PLAIN_SECONDS)):
        watch.now += 1.0
        shown.update()
        if watch.now == PLAIN_SECONDS + 10:
            write(log, "step 2\n\n")
    assert screen.getvalue() == "step 1\nstep 2\n"
    log.unlink()
    watch.now += 2 * PLAIN_SECONDS
    shown.update()
    shown.close()
    assert screen.getvalue() == "step 1\nstep 2\n"


def talks(arguments) -> int:
    import time

    for i in range(3):
        print(f"step {i}", flush=True)
        time.sleep(0.3)
    return 7


def test_a_process_is_followed_to_its_end(tmp_path, monkeypatch):
    screen = Screen(True)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(process, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr("lab.follow.TERMINAL_SECONDS", 0.0)
    monkeypatch.setattr(process, "PRELOAD", [])
    code, seconds = process.call([], tmp_path / "log.txt", talks)
    assert code == 7 and seconds > 0.5
    assert "\rstep 0" in screen.getvalue() and screen.getvalue().endswith("\r")


def test_a_failure_comes_with_the_last_words_of_its_process(log):
    write(log, "step 1\ncards_jax: batch_size=0: allowed is 1 or more\n\n")
    said = process.why(2, log)
    assert (
        said
        == f"exit code 2; see {log}; its last line: cards_jax: batch_size=0: allowed is 1 or more"
    )
    assert process.why(-9, log.with_name("none.txt")).startswith("killed by signal 9; see ")
    assert newest(log, 2) == ""  # nothing but empty lines
