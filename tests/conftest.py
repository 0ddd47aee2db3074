"""Strict test session: warnings are errors, rank promotion raises, four host devices."""

import atexit
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

# Before JAX starts, for this process and those that tests start. Most of a test's time is compilation: programs are
# tiny and run a few steps, so they are compiled without optimization, and each one once in a session. Where XLA has
# emitters to choose from (up to JAX 0.10), those without fusion need half of the time.
COMPILE_FAST = "--xla_backend_optimization_level=0"
if tuple(map(int, version("jaxlib").split(".")[:2])) <= (0, 10):
    COMPILE_FAST += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {COMPILE_FAST}"
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="cards_jax_programs_")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.devices()  # now, else a command that a test calls in this process would choose their number


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value or not Path(value).is_dir():
        pytest.skip(f"needs the environment variable {variable} to name a folder")
    return Path(value)


@pytest.fixture
def data_dir() -> Path:
    """Folder with the external image archives."""
    return _folder("CARDS_JAX_DATA")


@pytest.fixture
def fixtures_dir() -> Path:
    """Folder with the numbers that the original implementations produced."""
    return _folder("CARDS_JAX_FIXTURES")


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)
