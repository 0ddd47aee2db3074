"""This trainer as a contestant: all realizations in one compiled program, one device per core."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.machine import cores

BATCHES = 100  # per epoch, so that an epoch is longer than a turn
STEPS = 4  # of a turn, at least: one step alone would pay for a whole call of the program


@dataclasses.dataclass(frozen=True)
class Case:
    """What is trained, in which arithmetic, and whether on JAX's default device in place of the CPU.

    augment: what makes the views of an image. convolution: how, None for the backend's default.
    """

    network: str
    method: str = "ep"
    batch_size: int = 64
    realizations: int = 1
    scope: str = "layerwise"
    augment: str = "standard"
    dtype: str = "float32"
    accelerator: bool = False
    convolution: str | None = None

    @property
    def images(self) -> int:
        """Of all realizations in one step."""
        return self.realizations * self.batch_size

    @property
    def name(self) -> str:
        """What a table calls it."""
        scope = "" if self.method in ("dense", "lrr") else f" {self.scope}"
        augment = "" if self.augment == "standard" else f" {self.augment}"
        how = f", {self.convolution}" if self.convolution else ""
        return f"cards_jax {self.method}{scope}{augment} R={self.realizations}{how}"


def images_and_labels(batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """An epoch of random uint8 images (N, 32, 32, 3) and int32 labels: content costs no time."""
    rng, count = np.random.default_rng(0), BATCHES * batch_size
    images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    return images, rng.integers(0, 10, count, np.int32)


def data(batch_size: int):
    """These as cards_jax takes them."""
    from cards_jax.data import Data

    images, labels = images_and_labels(batch_size)
    return Data(
        train_images=images,
        train_labels=labels,
        test_images=images[:batch_size],
        test_labels=labels[:batch_size],
        holdout_images=images[:0],
        holdout_labels=labels[:0],
        holdout_hash=None,
        classes=tuple("0123456789"),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        fingerprint="",
    )


def use_devices(count: int | None = None) -> None:
    """CPU devices, before JAX starts: one per core, or so many."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", count or cores())


def trainer_of(case: Case) -> tuple[Any, list]:
    """(trainer, points) of a case."""
    from cards_jax import config, realizations, validation
    from cards_jax.trainer import Trainer

    c = config.defaults()
    c.method, c.scope, c.model.name = case.method, case.scope, case.network
    c.batch_size, c.augment = case.batch_size, case.augment
    c.seeds = tuple(range(case.realizations))
    # What prunes starts from one level, so that its mask is a real one. Labels are random and a fast device takes many
    # thousand steps: of dense Conv4 a rate of 0.01 does not always survive that.
    sparsity = {"dense": 0.0, "lrr": 0.2}.get(case.method, 0.5)
    c.sparsity = (sparsity,)
    c.learning_rate = (0.001,) if case.method in ("dense", "lrr") else (0.1,)
    c.compute.dtype, c.compute.convolution = case.dtype, case.convolution
    c.model.affine = False  # the same network for every method
    validation.validate(c)
    points = config.points(c)
    layout = realizations.layout(len(points), batch_size=case.batch_size)
    return Trainer(c, data(case.batch_size), layout), points


def steps(trainer: Any, points: list) -> Callable[[int], None]:
    """run(n): n steps of the last phase, finished when it returns."""
    import jax

    group = trainer.group(points)
    state, last = trainer.deal(group), len(group.stages) - 1
    for index in range(last + 1):
        state = trainer.enter(state, group, index)

    def run(count: int) -> None:
        nonlocal state
        for done in range(0, count, BATCHES):
            most = min(count - done, BATCHES)
            state, report = trainer.chunk(state, group, last, 0, most, True)
        if (np.asarray(jax.block_until_ready(report)["diverged_at"]) >= 0).any():
            raise FloatingPointError("a realization diverged")

    return run


def contestant(case: Case) -> Callable[[int], None]:
    """`make` of a contest."""
    if not case.accelerator:
        use_devices()
    return steps(*trainer_of(case))
