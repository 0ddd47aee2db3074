"""Strict test session: warnings are errors, rank promotion raises, four host devices."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")


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
