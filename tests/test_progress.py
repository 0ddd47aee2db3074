"""The progress line tells the truth."""

import io
import math
import os
import re
import struct
import subprocess
import sys

import pytest

from cards_jax.progress import Progress


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


def test_phases_of_many_realizations_take_longer():
    """100 steps of 2 realizations, then 100 of 10: a sixth of the work is done after half of the steps."""
    clock = Clock()
    work = lambda step: 2 * min(step, 100) + 10 * max(0, step - 100)
    stream = io.StringIO()
    progress = Progress(200, 10, 64, stream, clock=clock, work=work, every=0.0)
    progress.update(0)
    clock.now += 200.0
    progress.update(100, alive_R=[True, True])
    assert "64 images/s  ETA 16:40" in stream.getvalue().splitlines()[-1]


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
from cards_jax.log import RunLog
from cards_jax.progress import Progress
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
