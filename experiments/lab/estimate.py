"""What a run will take, by its config alone: arithmetic, time at a given rate, memory, disk. Nothing is computed."""

import dataclasses
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from cards_jax import config, estimate, fourier, models, realizations, tree
from cards_jax.corruptions import BENCHMARK, SEVERITIES
from cards_jax.trainer import distinct, phases_of, recipe_of, spec_of
from lab import images
from lab.images import Images
from lab.measure import Wanted

# Floating-point operations a second of Conv4 in training (4e11 multiply-adds): two cores of an AMD EPYC reach 2.4e11.
GFLOPS = 200.0
START = 12.0  # seconds of a run for its start and its compilation, on the same cores
LONG = 4  # times that: what a run has to take before it tells the speed
CELLS = len(BENCHMARK) * len(SEVERITIES)
STATES = (
    3  # copies of the training state in a checkpoint: weights, momentum, frozen weights or mask
)


@dataclasses.dataclass(frozen=True)
class Need:
    """Of one run: cards, floating-point operations, bytes of a realization in memory, bytes on the disk.

    answer: floating-point operations of one card for one image.
    """

    cards: int
    flops: float
    answer: float
    memory: int
    disk: int

    def seconds(self, gflops: float) -> float:
        """Of training, at a speed."""
        return START + self.flops / (1e9 * gflops)


def training_images(c: ConfigDict) -> int:
    """That a config leaves to train on. A data set of unknown size is loaded, unless a subset says how many."""
    if c.data.subset and c.data.name not in images.TRAIN:
        return c.data.subset
    shown = pictures(c)
    most = c.data.subset or c.data.subset_per_class * shown.classes
    whole = shown.train - c.holdout
    return min(whole, most) if most else whole


def pictures(c: ConfigDict) -> Images:
    """The data set of a config."""
    return Images.of({f"data.{k}": v for k, v in c.data.items()})


def speed(done: Sequence[tuple[float, float]]) -> float | None:
    """10^9 operations a second by (operations, seconds) of finished runs, their median; None without a long one.

    A run that was interrupted knows the seconds of its last part alone: hence no mean.
    """
    long = [flops / (seconds - START) / 1e9 for flops, seconds in done if seconds > LONG * START]
    return float(np.median(long)) if long else None


def need(c: ConfigDict) -> Need:
    """The estimate for a validated config."""
    shown = pictures(c)
    side = shown.side
    data: Any = types.SimpleNamespace(
        classes=range(shown.classes),
        train_images=np.empty((0, side, side, 3), np.uint8),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
    )
    points = config.points(c)
    phases = phases_of(c, points, training_images(c) // c.batch_size)
    spec = spec_of(c, data)
    recipe = recipe_of(c, spec, realizations.layout(1))
    steps = sum(phase.steps * len(distinct(points, phase)) for phase in phases)
    flops = steps * estimate.step_flops(recipe)
    params, _ = models.shapes(spec)
    size = tree.size(tree.only_prunable(params))
    trained = max(len(distinct(points, phase)) for phase in phases)
    saved = c.checkpoint.keep * STATES * 4 * tree.size(params) * trained
    cards = sum(int(size * (0.2 + 4 * (1 - p.sparsity))) for p in points)
    memory = estimate.realization_bytes(c, recipe, phases[0])
    answer = 2.0 * estimate.multiply_adds(recipe)
    return Need(len(points), flops, answer, memory, saved + cards)


def images_measured(c: ConfigDict, wanted: Wanted) -> int:
    """That each card answers when it is measured: clean ones, corrupted ones, ones with Fourier noise."""
    test, side = pictures(c).test, pictures(c).side
    few = lambda count: min(count or test, test)
    found = test + CELLS * few(wanted.images) if wanted.robust or wanted.decks else 0
    if wanted.heat:
        found += few(wanted.heat_images) * len(wanted.eps) * len(fourier.frequencies(side, side))
    return found


def words(seconds: float) -> str:
    """A duration for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
