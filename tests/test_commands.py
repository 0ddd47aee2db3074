"""What the commands on finished cards share: every failure that can be expected is one line and an exit code."""

import argparse
from pathlib import Path

import jax
import pytest

from cards_jax import __main__, commands


@pytest.mark.parametrize(
    "error, code, said",
    [
        (ValueError("x=1: allowed is 2"), 2, "x=1: allowed is 2"),
        (FileNotFoundError(2, "no such file", "a.card"), 2, "a.card"),
        (PermissionError(13, "denied", "a.card"), 1, "a.card"),
        (MemoryError("Unable to allocate 9 TiB"), 1, "out of memory (Unable to allocate 9 TiB)"),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 9 bytes"),
            1,
            "the device is out of memory; try fewer cards",
        ),
        (KeyboardInterrupt(), 75, "interrupted"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_failures_are_one_line(error, code, said, capsys):
    def action():
        raise error

    assert commands.ended("it", action) == code
    err = capsys.readouterr().err
    assert err.startswith("it: ") and said in err and err.count("\n") == 1


def test_what_nobody_expects_is_shown_whole():
    def action():
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        commands.ended("it", action)


def test_the_beginning_of_file_names(tmp_path):
    assert commands.stem("a/rob.md") == commands.stem("a/rob") == Path("a/rob")
    assert commands.stem("v1.2") == Path("v1.2")
    for text in ("", ".", "a/", str(tmp_path)):
        with pytest.raises(argparse.ArgumentTypeError, match="allowed is the beginning of file"):
            commands.stem(text)


def test_help_says_defaults(capsys):
    form = commands.Form("it")
    form.add_argument("--images", type=int, default=7, help="so many")
    form.add_argument("--save", help="where")
    text = " ".join(form.format_help().split())
    assert "so many (default: 7)" in text and "where (default" not in text


def test_every_command_is_listed(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["cards_jax"])
    assert __main__.main() == 0
    out = capsys.readouterr().out
    root = Path(commands.__file__).parent
    own = {p.stem for p in root.glob("*.py") if "python -m cards_jax." + p.stem in p.read_text()}
    listed = {line.split()[0] for line in out.splitlines()[2:]}
    runnable = {
        name for name in own if '__name__ == "__main__"' in (root / f"{name}.py").read_text()
    }
    assert listed == runnable | {"page"}
