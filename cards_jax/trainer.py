"""The compiled programs of a config on a mesh, with its data on the devices: what a run calls."""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cards_jax import masks, methods, models, train
from cards_jax.config import Point
from cards_jax.data import Data
from cards_jax.evaluate import clean
from cards_jax.models import Spec
from cards_jax.phase import Phase
from cards_jax.realizations import Layout
from cards_jax.train import Clock, Recipe, Scalars, TrainState
from cards_jax.tree import Tree, flatten, only_prunable

NEVER = np.iinfo(np.int32).max  # fills tables of updates


def spec_of(c: ConfigDict, data: Data) -> Spec:
    """The network that a config names on its data; what is None follows the method and the data."""
    method, family = methods.method(c.method), models.family(c.model.name)
    affine = method.AFFINE if c.model.affine is None else c.model.affine
    affine = affine and family.NORMALISED
    bias = affine if c.model.bias is None else c.model.bias
    return Spec(
        name=c.model.name,
        width=c.model.width or models.width(c.model.name),
        num_classes=c.model.num_classes or len(data.classes),
        image_HWC=data.train_images.shape[1:],
        affine=affine,
        bias=bias,
        gamma=c.model.gamma,
        mean=data.mean,
        std=data.std,
    )


def recipe_of(c: ConfigDict, spec: Spec, layout: Layout) -> Recipe:
    """The static part of a config's training step."""
    return Recipe(
        spec=spec,
        batch_size=c.batch_size,
        augment=c.augment,
        smoothing=c.label_smoothing,
        momentum=c.optimizer.momentum,
        nesterov=c.optimizer.nesterov,
        dtype=c.compute.dtype,
        convolution=c.compute.convolution,
        batch_axis=layout.batch_axis,
        split=layout.split,
    )


def layer_sizes(spec: Spec) -> dict[str, int]:
    """{path: number of weights} of the prunable layers, in the tree's order."""
    params, _ = models.shapes(spec)
    return {k: int(np.prod(x.shape)) for k, x in flatten(only_prunable(params)).items()}


def _filled(rows: list, length: int, value: Any = None) -> np.ndarray:
    """Rows as an array whose first axis is filled up with `value`, or with the last row."""
    rows = list(rows)
    return np.stack(rows + [rows[-1] if value is None else value] * (length - len(rows)))


def keep_table(phase: Phase, sizes: list[int], sparsity: float, length: int) -> np.ndarray:
    """Counts of kept weights at each update, int32 (length,) or (length, L)."""
    counts = [masks.keep_counts(sizes, s, phase.scope) for s in phase.sparsities(sparsity)]
    return _filled(counts, length)


@dataclasses.dataclass
class Group:
    """The points of one group on the devices: scalars, and one table of kept counts per phase."""

    points: list[Point]
    scalars: Scalars
    keeps: list[jax.Array]


class Trainer:
    """Deals, trains, evaluates and finishes a group of realizations.

    All phases share tables of one length, so that a phase compiles once for all that have its rules. `compile_seconds`
    counts what compilation took.
    """

    def __init__(self, c: ConfigDict, data: Data, layout: Layout):
        self.layout = layout
        self.spec = spec_of(c, data)
        self.recipe = recipe_of(c, self.spec, layout)
        self.steps_per_epoch = len(data.train_images) // c.batch_size
        self.method = methods.method(c.method)
        self.phases: list[Phase] = self.method.phases(c, self.steps_per_epoch)
        self.sizes = list(layer_sizes(self.spec).values())
        self.compile_seconds = 0.0
        self._c, self._programs = c, {}
        self._train = layout.replicate((data.train_images, data.train_labels))
        per_device = min(c.evaluate.batch_size, len(data.test_images))
        padded = clean.padded(data.test_images, data.test_labels, per_device * layout.split)
        self._test = layout.replicate(padded)
        self._measure = partial(clean.measure, batch_size=per_device)
        self._clocks = [self._clock(i) for i in range(len(self.phases))]

    def group(self, points: list[Point]) -> Group:
        """Put the points on the devices, padded by repeating the last one."""
        padded = self.layout.pad(points)
        column = lambda name: np.float32([getattr(p, name) for p in padded])
        scalars = Scalars(
            seed=np.uint32([p.seed for p in padded]),
            learning_rate=column("learning_rate"),
            weight_decay=column("weight_decay"),
            density=np.float32([1 - p.sparsity for p in padded]),
        )
        length = max(len(p.updates) for p in self.phases)
        keeps = [
            np.stack([keep_table(phase, self.sizes, p.sparsity, length) for p in padded])
            for phase in self.phases
        ]
        return Group(points, self.layout.put(scalars), [self.layout.put(k) for k in keeps])

    def _clock(self, index: int) -> Clock:
        phase = self.phases[index]
        updates = max(len(p.updates) for p in self.phases)
        steps = max(p.steps for p in self.phases)
        clock = Clock(
            phase=np.int32(index),
            updates_U=_filled([np.int32(u) for u in phase.updates], updates, np.int32(NEVER)),
            rate_T=np.pad(phase.rate, (0, steps - phase.steps)),
        )
        return self.layout.replicate(clock)

    def _call(self, name: str, f: Callable, mapped: tuple[bool, ...], args: tuple, donate=()):
        """Run f mapped over realizations; compiled once per name, rules and tree structure."""
        key = (name, jax.tree.structure(args))
        if key not in self._programs:
            began = time.monotonic()
            program = self.layout.map(f, mapped, donate).lower(*args).compile()
            self._programs[key] = program
            self.compile_seconds += time.monotonic() - began
        return self._programs[key](*args)

    @property
    def compilations(self) -> int:
        """Programs compiled so far."""
        return len(self._programs)

    def deal(self, group: Group) -> TrainState:
        """Fresh cards."""
        init = partial(self.method.init, self._c) if hasattr(self.method, "init") else None
        f = partial(train.deal, recipe=self.recipe, init=init)
        return self._call("deal", f, (True,), (group.scalars,))

    def state_like(self, group: Group) -> TrainState:
        """What `deal` gives, as shapes with shardings, to restore into."""
        init = partial(self.method.init, self._c) if hasattr(self.method, "init") else None
        f = self.layout.map(partial(train.deal, recipe=self.recipe, init=init), (True,))
        place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.layout.sharded)
        return jax.tree.map(place, jax.eval_shape(f, group.scalars))

    def enter(self, state: TrainState, group: Group, index: int) -> TrainState:
        """Begin a phase."""
        rules = self.phases[index].rules
        f = partial(train.enter, recipe=self.recipe, rules=rules)
        args = (state, group.scalars, group.keeps[index], self._clocks[index])
        return self._call(f"enter {rules}", f, (True, True, True, False), args, donate=(0,))

    def chunk(
        self, state: TrainState, group: Group, index: int, first: int, last: int, anew: bool
    ) -> tuple[TrainState, Tree]:
        """Steps first to last of a phase, within one epoch; (state, report) without waiting."""
        rules = self.phases[index].rules
        f = partial(train.chunk, recipe=self.recipe, rules=rules)
        bounds = self.layout.replicate(np.int32([first, last, anew]))
        args = (state, group.scalars, group.keeps[index], self._clocks[index], bounds, *self._train)
        mapped = (True, True, True, False, False, False, False)
        return self._call(f"chunk {rules}", f, mapped, args, donate=(0,))

    def evaluate(self, state: TrainState, group: Group, index: int, at: int) -> Tree:
        """Sums on the test set for every realization, without waiting."""
        rules = self.phases[index].rules
        f = partial(train.evaluate, measure=self._measure, recipe=self.recipe, rules=rules)
        step = self.layout.replicate(np.int32(at))
        args = (state, group.keeps[index], self._clocks[index], step, *self._test)
        mapped = (True, True, False, False, False, False)
        return self._call(f"evaluate {rules}", f, mapped, args)

    def finish(self, state: TrainState, group: Group, index: int):
        """The stacked cards that a phase delivers."""
        phase = self.phases[index]
        f = partial(train.finish, rules=phase.rules)
        step = self.layout.replicate(np.int32(phase.steps))
        args = (state, group.keeps[index], self._clocks[index], step)
        return self._call(f"finish {phase.rules}", f, (True, True, False, False), args)

    def kept(self, cards) -> jax.Array:
        """Number of prunable weights that stay, int32 (R,): all of them where a card has no mask."""
        total = sum(self.sizes)

        def count(card):
            return masks.kept(card.mask) if jax.tree.leaves(card.mask) else np.int32(total)

        return self._call("kept", lambda card: jax.numpy.asarray(count(card)), (True,), (cards,))
