"""What a run says is kept, and nothing that listens can stop it."""

import re
import subprocess
import sys

from cards_jax.log import RunLog


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
        "import sys; from cards_jax.log import RunLog\nfrom cards_jax.progress import Progress\n"
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
