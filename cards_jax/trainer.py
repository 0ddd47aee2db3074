"""The compiled programs of a config on a mesh, with its data on the devices: what a run calls."""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cards_jax import augment, methods, models, pretrained, train
from cards_jax.card import Card
from cards_jax.config import ConfigError, Point
from cards_jax.data import Data
from cards_jax.evaluate import clean
from cards_jax.models import Spec
from cards_jax.origin import Origin
from cards_jax.phase import Phase, Shapes
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
    spec = Spec(
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
    try:
        unpruned = models.layers_like(spec, c.model.unpruned) if c.model.unpruned else ()
    except ValueError as error:
        raise ConfigError(f"model.unpruned: {error}") from None
    return pretrained.normalised(c, dataclasses.replace(spec, unpruned=unpruned))


def recipe_of(c: ConfigDict, spec: Spec, layout: Layout) -> Recipe:
    """The static part of a config's training step."""
    return Recipe(
        spec=spec,
        batch_size=c.batch_size,
        views=augment.views(c.augment, **c.get(c.augment, {})),
        smoothing=c.label_smoothing,
        optimizer=c.optimizer.name,
        momentum=c.optimizer.momentum,
        nesterov=c.optimizer.nesterov,
        dtype=c.compute.dtype,
        convolution=c.compute.convolution,
        batch_axis=layout.batch_axis,
        split=layout.split,
    )


def layer_shapes(spec: Spec) -> dict[str, tuple[int, ...]]:
    """{path: shape} of the prunable layers, in the tree's order."""
    params, _ = models.shapes(spec)
    return {k: x.shape for k, x in flatten(only_prunable(params)).items()}


def phases_of(c: ConfigDict, points: list[Point], steps_per_epoch: int) -> list[Phase]:
    """What the method does to reach the sparsities of these points, whatever else the config asks for."""
    only = ConfigDict(c.to_dict())
    only.sparsity = tuple(sorted({p.sparsity for p in points}))
    return methods.method(c.method).phases(only, steps_per_epoch)


def trained_as(point: Point, phase: Phase) -> Point:
    """The realization that a phase trains for a point: one for all sparsities where the phase is shared."""
    return dataclasses.replace(point, sparsity=0.0) if phase.shared else point


def distinct(points: list[Point], phase: Phase) -> list[Point]:
    """The realizations that a phase trains for these points, each once, in order."""
    return list(dict.fromkeys(trained_as(p, phase) for p in points))


def _filled(rows: list, length: int, value: Any = None) -> np.ndarray:
    """Rows as an array whose first axis is filled up with `value`, or with the last row."""
    rows = list(rows)
    return np.stack(rows + [rows[-1] if value is None else value] * (length - len(rows)))


def keep_table(phase: Phase, shapes: Shapes, sparsity: float, length: int) -> np.ndarray:
    """Counts of kept weights at each update, int32 (length,) or (length, L)."""
    return _filled(phase.keep(shapes, sparsity), length)


@dataclasses.dataclass
class Stage:
    """The realizations of one phase on the devices: their scalars and tables of kept counts."""

    phase: Phase
    clock: Clock
    points: list[Point]
    scalars: Scalars
    keep: jax.Array


@dataclasses.dataclass
class Group:
    """Points that are trained together, and what each phase trains for them."""

    points: list[Point]
    stages: list[Stage]

    @property
    def phases(self) -> list[Phase]:
        return [stage.phase for stage in self.stages]

    def row(self, index: int, point: Point) -> int:
        """Where phase `index` trains a point."""
        stage = self.stages[index]
        return stage.points.index(trained_as(point, stage.phase))

    def delivered(self, index: int) -> list[Point]:
        """The points whose cards are finished at the end of a phase."""
        asked = self.stages[index].phase.delivers
        return [p for p in self.points if asked is None or p.sparsity in asked]


class Trainer:
    """Deals, trains, evaluates and finishes groups of realizations.

    All phases of a group share tables of one length, so that a phase compiles once for all that have its rules.
    `compile_seconds` counts what compilation took.
    """

    def __init__(self, c: ConfigDict, data: Data, layout: Layout):
        self.layout = layout
        self.spec = spec_of(c, data)
        self.recipe = recipe_of(c, self.spec, layout)
        self.train_images = len(data.train_images)
        self.steps_per_epoch = self.train_images // c.batch_size
        self.method = methods.method(c.method)
        self.shapes = list(layer_shapes(self.spec).values())
        self.size = sum(int(np.prod(s)) for s in self.shapes)
        self.compile_seconds = 0.0
        self._c, self._programs = c, {}
        self._weights = layout.replicate(pretrained.load(c, self.spec))
        self._train = layout.replicate((data.train_images, data.train_labels))
        sets = {"test": (data.test_images, data.test_labels)}
        if len(data.holdout_images):
            sets["holdout"] = data.holdout_images, data.holdout_labels
        self._batch = min(c.evaluate.batch_size, max(len(labels) for _, labels in sets.values()))
        self._sets, self._measured = self._placed(sets)

    def _placed(self, sets: dict[str, tuple]) -> tuple[dict[str, jax.Array], tuple]:
        """All sets in a row on the devices, each filled up to whole batches, and which batches are whose.

        One program measures on any of them.
        """
        whole = self._batch * self.layout.split
        filled = [clean.padded(*one, whole) for one in sets.values()]
        ends = np.cumsum([0] + [len(labels) // whole for _, labels in filled], dtype=np.int32)
        bounds = [self.layout.replicate(ends[i : i + 2]) for i in range(len(sets))]
        joined = tuple(np.concatenate(arrays) for arrays in zip(*filled, strict=True))
        return dict(zip(sets, bounds, strict=True)), self.layout.replicate(joined)

    def group(self, points: list[Point]) -> Group:
        """Put the points on the devices, padded by repeating the last one."""
        phases = phases_of(self._c, points, self.steps_per_epoch)
        updates = max(len(p.updates) for p in phases)
        steps = max(p.last for p in phases)
        stages = []
        for phase in phases:
            trained = distinct(points, phase)
            padded = self.layout.pad(trained, whole=len(trained) == len(points))
            keep = np.stack([keep_table(phase, self.shapes, p.sparsity, updates) for p in padded])
            clock = Clock(
                phase=np.int32(phase.number),
                updates_U=_filled([np.int32(u) for u in phase.updates], updates, np.int32(NEVER)),
                rate_T=np.pad(phase.rate, (0, steps - phase.last)),
            )
            clock, put = self.layout.replicate(clock), self.layout.put
            stages.append(Stage(phase, clock, trained, put(_scalars(padded)), put(keep)))
        return Group(points, stages)

    def _call(self, name: str, f: Callable, mapped: tuple[bool, ...], args: tuple, donate=()):
        """Run f mapped over realizations; compiled once per name, rules, tree structure and number."""
        key = (name, jax.tree.structure(args), jax.tree.leaves(args)[0].shape[0])
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
        """Fresh cards for the first phase."""
        return self._call("deal", *self._deal(group))

    def _deal(self, group: Group):
        """What deals, which of its arguments are mapped, and these."""
        init = partial(self.method.init, self._c) if hasattr(self.method, "init") else None
        saves = self.method.saves(self._c) if hasattr(self.method, "saves") else ()
        f = partial(train.deal, recipe=self.recipe, init=init, saves=saves)
        stage = group.stages[0]
        given = {}
        if hasattr(self.method, "given"):
            padded = self.layout.pad(stage.points, whole=len(stage.points) == len(group.points))
            given = self.layout.put(self.method.given(self._c, self.spec, padded))
        return f, (True, True, False), (stage.scalars, given, self._weights)

    def origin(self, point: Point) -> Origin | None:
        """Where the card's random weights came from, for a method whose weights are never trained."""
        if not hasattr(self.method, "weight_init"):
            return None
        key = train.stream(np.uint32(point.seed), train.METHOD)
        return Origin.of(key, self.method.weight_init(self._c))

    def state_like(self, group: Group, index: int, rows: int) -> TrainState:
        """What a checkpoint of phase `index` with so many rows holds, as shapes with shardings, to restore into."""
        f, mapped, args = self._deal(group)
        even = rows % self.layout.rows == 0
        sharding = self.layout.sharded if even else self.layout.everywhere
        place = lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype, sharding=sharding)
        return jax.tree.map(place, jax.eval_shape(self.layout.map(f, mapped), *args))

    def refit(self, state: TrainState, group: Group, index: int) -> TrainState:
        """A restored state with the rows that these devices fill up to: others may have saved it."""
        stage = group.stages[index]
        wanted = stage.keep.shape[0]
        if jax.tree.leaves(state)[0].shape[0] == wanted:
            return state
        own = list(range(len(stage.points)))
        return self._taken(state, own + [own[-1]] * (wanted - len(own)))

    def enter(self, state: TrainState, group: Group, index: int) -> TrainState:
        """Begin a phase, with as many realizations as it trains."""
        stage = group.stages[index]
        if index and stage.points != group.stages[index - 1].points:
            state = self._expand(state, group, index)
        rules = stage.phase.rules
        f = partial(train.enter, recipe=self.recipe, rules=rules)
        args = (state, stage.scalars, stage.keep, stage.clock, *self._train)
        mapped = (True, True, True, False, False, False)
        return self._call(f"enter {rules}", f, mapped, args, donate=(0,))

    def _expand(self, state: TrainState, group: Group, index: int) -> TrainState:
        """Every realization of a phase with the state that the phase before left for it."""
        before, stage = group.stages[index - 1], group.stages[index]
        came_from = [before.points.index(trained_as(p, before.phase)) for p in stage.points]
        return self._taken(
            state, came_from + [came_from[-1]] * (stage.keep.shape[0] - len(came_from))
        )

    def _taken(self, state: TrainState, rows: list[int]) -> TrainState:
        """These rows of a state, spread over the mesh."""
        take = lambda state: jax.tree.map(lambda x: x[np.array(rows)], state)
        return jax.jit(take, out_shardings=self.layout.sharded)(state)

    def chunk(
        self, state: TrainState, group: Group, index: int, first: int, last: int, anew: bool
    ) -> tuple[TrainState, Tree]:
        """Steps first to last of a phase, within one epoch; (state, report) without waiting."""
        stage = group.stages[index]
        rules = stage.phase.rules
        f = partial(train.chunk, recipe=self.recipe, rules=rules)
        bounds = self.layout.replicate(np.int32([first, last, anew]))
        args = (state, stage.scalars, stage.keep, stage.clock, bounds, *self._train)
        mapped = (True, True, True, False, False, False, False)
        return self._call(f"chunk {rules.view} {rules.remask}", f, mapped, args, donate=(0,))

    def evaluate(self, state: TrainState, group: Group, index: int, at: int) -> dict[str, Tree]:
        """`evaluate_cards` of the cards as they are after step `at`, without waiting.

        Their count is that of the last step, as they were trained: an update that is due at `at` has not come yet.
        """
        return self.evaluate_cards(self._plain(state, group, index, at - 1))

    def finish(self, state: TrainState, group: Group, index: int) -> Card:
        """The stacked cards that a phase delivers."""
        return self._plain(state, group, index, group.stages[index].phase.last)

    def _plain(self, state: TrainState, group: Group, index: int, step: int) -> Card:
        """The stacked cards of plain weights, under the count of a step."""
        stage = group.stages[index]
        f = partial(train.finish, rules=stage.phase.rules)
        args = (state, stage.keep, stage.clock, self.layout.replicate(np.int32(step)))
        name = f"finish {stage.phase.rules.finish}"
        return self._call(name, f, (True, True, False, False), args)

    def recalibrate(self, cards: Card, images: int) -> tuple[Card, jax.Array]:
        """(cards, shift (R,)): BatchNorm averages anew, on the whole batches of so many training images, or one."""
        batches = max(1, min(images // self.recipe.batch_size, self.steps_per_epoch))
        f = partial(train.recalibrate, recipe=self.recipe, batches=batches)
        return self._call(f"recalibrate {batches}", f, (True, False), (cards, self._train[0]))

    def evaluate_cards(self, cards: Card) -> dict[str, Tree]:
        """{"test", and "holdout" where there is one: sums for every realization} of plain cards, without waiting."""
        f = partial(train.evaluate, recipe=self.recipe, batch_size=self._batch)
        mapped = (True, False, False, False)
        return {
            name: self._call("evaluate", f, mapped, (cards, *self._measured, batches))
            for name, batches in self._sets.items()
        }


def _scalars(points: list[Point]) -> Scalars:
    column = lambda name: np.float32([getattr(p, name) for p in points])
    return Scalars(
        seed=np.uint32([p.seed for p in points]),
        learning_rate=column("learning_rate"),
        weight_decay=column("weight_decay"),
        density=np.float32([1 - p.sparsity for p in points]),
    )
