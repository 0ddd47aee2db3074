"""The numpy recipe from which the original networks' fixtures were computed."""

import json
from pathlib import Path

import numpy as np

LABELS = np.array([3, 1, 4, 1], np.int32)


def fixture(folder: Path, name: str) -> dict:
    return json.loads((folder / "originals.json").read_text())[name]


def images() -> np.ndarray:
    return np.random.RandomState(123).rand(4, 32, 32, 3).astype(np.float32)


def state_dict(shapes: list) -> dict[str, np.ndarray]:
    """Arrays for sorted (torch key, shape) pairs."""
    rng = np.random.RandomState(0)
    return {key: _draw(rng, key, tuple(shape)).astype(np.float32) for key, shape in shapes}


def _draw(rng, key: str, shape: tuple) -> np.ndarray:
    leaf, n = key.rsplit(".", 1)[-1], int(np.prod(shape))
    fan_in = int(np.prod(shape[1:]))
    if leaf == "running_mean":
        return 0.1 * rng.randn(*shape)
    if leaf == "running_var" or (leaf == "weight" and len(shape) == 1):
        return 0.5 + rng.rand(*shape)
    if leaf == "bias":
        return 0.1 * rng.randn(*shape)
    if leaf == "scores":
        order = (rng.permutation(n) + 0.5) / n
        return (order * (2 * rng.randint(0, 2, n) - 1) / np.sqrt(fan_in)).reshape(shape)
    return rng.randn(*shape) * np.sqrt(2 / fan_in)
