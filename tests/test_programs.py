"""Compiled programs that were half written are compiled again, once and without a word."""

import warnings

import jax
import jax.numpy as jnp
import pytest
import runs
from jax.experimental.compilation_cache import compilation_cache

from cards_jax import programs


def compiled(number: float) -> float:
    """A program that no other test has, as a new process would compile it."""
    jax.clear_caches()
    compilation_cache.reset_cache()
    return float(jax.jit(lambda x: jnp.cos(x) * number)(1.0))


@pytest.mark.parametrize("left", [0, 1, 100, -1])
def test_a_truncated_program_is_swept_and_written_again(tmp_path, left):
    with runs.compiled_once(tmp_path):
        value = compiled(3.25)
        sizes = {path: path.stat().st_size for path in tmp_path.glob(programs.PATTERN)}
        assert sizes
        for path in sizes:
            path.write_bytes(path.read_bytes()[:left])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled(3.25)
        assert {p: p.stat().st_size for p in sizes} != sizes, "JAX mends it: no sweep is needed"
        programs.sweep(tmp_path)
        assert not any(path.exists() for path in sizes)
        assert compiled(3.25) == value
        assert set(tmp_path.glob(programs.PATTERN)) == set(sizes)
        before = {p: p.read_bytes() for p in sizes}
        programs.sweep(tmp_path)
        assert {p: p.read_bytes() for p in sizes} == before


def test_a_flipped_bit_is_found_and_other_files_stay(tmp_path):
    with runs.compiled_once(tmp_path):
        compiled(4.5)
    path = next(tmp_path.glob(programs.PATTERN))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    others = [tmp_path / "a-cache", tmp_path / "notes.txt"]
    for other in others:
        other.write_bytes(b"something else")
    programs.sweep(tmp_path)
    assert not path.exists() and all(other.exists() for other in others)
    programs.sweep(tmp_path / "nowhere")
