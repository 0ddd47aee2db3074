"""What the commands on finished cards share: every failure that can be expected is one line and an exit code."""

import jax
import pytest

from cards_jax import commands


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
