"""A run, from its config to its results: groups of realizations, one after another. Resumes where it stopped."""

import contextlib
import itertools
import secrets
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from cards_jax import (
    augment,
    checkpoint,
    config,
    data,
    estimate,
    folder,
    methods,
    models,
    pretrained,
    realizations,
)
from cards_jax.config import ConfigError, Point
from cards_jax.data import Data
from cards_jax.folder import Record, State
from cards_jax.group import COLUMNS, GroupRun, Outlets
from cards_jax.log import RunLog
from cards_jax.metrics import MetricsLog
from cards_jax.realizations import Layout
from cards_jax.signals import Signals, Stopped
from cards_jax.trainer import (
    Trainer,
    distinct,
    layer_shapes,
    phases_of,
    recipe_of,
    spec_of,
    trained_as,
)


def layout_of(c: ConfigDict, d: Data, count: int, group: int = 0) -> Layout:
    """The mesh for `count` realizations; as many at a time as fit the memory, unless `group` or the config says."""
    make = partial(
        realizations.layout,
        split=c.compute.batch_split,
        batch_size=c.batch_size,
        devices=c.compute.devices,
        mapping=c.compute.mapping,
    )
    try:
        if group:
            return make(group, exact=True)
        if c.compute.group_size:
            return make(min(count, c.compute.group_size))
        whole = make(count)
        recipe = recipe_of(c, spec_of(c, d), whole)
        first = phases_of(c, config.points(c), steps_per_epoch(c, d))[0]
        need = estimate.need_of(c, recipe, first)
        # Every process sees another amount of free memory; all have to train the same points.
        fits = realizations.least(estimate.group_size(need, count, whole.rows, whole.loop))
        return make(fits)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def units(c: ConfigDict, d: Data, points: list[Point]) -> dict[Point, list[Point]]:
    """{realization that is trained to the end: the points whose cards it delivers}."""
    phases = phases_of(c, points, steps_per_epoch(c, d))
    found: dict[Point, list[Point]] = {}
    for point in points:
        found.setdefault(trained_as(point, phases[-1]), []).append(point)
    return found


def steps_per_epoch(c: ConfigDict, d: Data) -> int:
    """Whole batches of the training images."""
    return len(d.train_images) // c.batch_size


def check(c: ConfigDict, d: Data) -> None:
    """Raise ConfigError where the config does not fit its data, or needs what is not installed."""
    if c.batch_size > len(d.train_images):
        raise ConfigError(
            f"batch_size={c.batch_size}: allowed is up to {len(d.train_images)} training images"
        )
    if len(d.classes) < 2:
        raise ConfigError(
            f"data.dir={c.data.dir!r}: holds one class, {d.classes[0]!r}; allowed are two or more"
        )
    classes = c.model.num_classes
    if classes is not None and classes < len(d.classes):
        raise ConfigError(
            f"model.num_classes={classes}: the data has {len(d.classes)}; allowed is at least that"
        )
    side, least = (
        min(d.train_images.shape[1:3]),
        models.family(c.model.name).smallest_side(c.model.name),
    )
    if side < least:
        raise ConfigError(
            f"data.image_size: images of {side} pixels are too small for model.name={c.model.name!r}; "
            f"allowed is {least} or more"
        )
    if c.augment == "prime" and len({*d.train_images.shape[1:3]}) > 1:
        size = " x ".join(map(str, d.train_images.shape[1:3]))
        raise ConfigError(
            f"augment='prime': deforms square images, those of the data are {size}; allowed with these are "
            f"{', '.join(a for a in augment.names() if a != 'prime')}, or data.image_size"
        )
    # Both ask what rests on the data: steps of an epoch, shapes of layers.
    points, method = config.points(c), methods.method(c.method)
    phases_of(c, points, steps_per_epoch(c, d))
    spec = spec_of(c, d)
    if not layer_shapes(spec):
        raise ConfigError(f"model.unpruned={c.model.unpruned}: allowed are fewer than all layers")
    if hasattr(method, "given"):
        method.given(c, spec, points)
    pretrained.load(c, spec)


@contextlib.contextmanager
def opened(c: ConfigDict, signals: Signals, patient: bool = False) -> Iterator["Run"]:
    """The run of a config, its folder held against other processes until the block ends.

    patient: to wait for another process that holds it, where this one is alone.

    Raises ConfigError before any compute, and OSError, in one line, where the folder cannot be used: RunLocked where
    another process holds it, Damaged where its files are not as they were written.
    """
    d = data.prepare(c)
    check(c, d)
    path = folder.path_of(c)
    first = jax.process_index() == 0
    hint = None if (path / "config.json").exists() else folder.nearest(c)
    path.mkdir(parents=True, exist_ok=True)
    wait = None
    if patient and jax.process_count() == 1:
        wait = lambda text: print(text, file=sys.stderr, flush=True)
    with checkpoint.lock(path, wait) if first else contextlib.nullcontext():
        _one_folder(path)
        log = RunLog(path, first)
        if hint:
            log.say(hint)
        yield Run(c, d, path, log, signals)


def _one_folder(path: Path) -> None:
    """Raise ConfigError unless all processes see the folder of process 0: they save into it together, and would wait
    for each other for ever."""
    if jax.process_count() == 1:
        return
    mark = path / f".together-{realizations.agree(secrets.randbelow(2**31))}"
    first = jax.process_index() == 0
    if first:
        mark.touch()
    multihost_utils.sync_global_devices("workdir")
    there = multihost_utils.process_allgather(np.int32(mark.exists()))
    if first:
        mark.unlink(missing_ok=True)
    if blind := np.flatnonzero(np.asarray(there) == 0).tolist():
        raise ConfigError(
            f"workdir={str(path.parent)!r}: processes {', '.join(map(str, blind))} do not see the folder of process 0; "
            "allowed is one that all of them see"
        )


class Run:
    """A config's folder, and what is still to be trained in it."""

    def __init__(self, c: ConfigDict, d: Data, path: Path, log: RunLog, signals: Signals):
        self.c, self.data, self.path, self.log, self.signals = c, d, path, log, signals
        self.first = jax.process_index() == 0
        self.points = config.points(c)
        self.versions = folder.versions()
        self.state = self._read_state()
        if self.first:
            folder.sweep(path)
            folder.write_config(path, c)
            folder.write_json(path / "versions.json", self.versions)
        with folder.whole():
            self.metrics = MetricsLog(path, COLUMNS, self.first)
        self._trainer: Trainer | None = None

    def _read_state(self) -> State:
        now = self.data.fingerprint
        state = folder.read_state(self.path) or State(now)
        if state.data != now:
            raise ConfigError(
                f"data: {self.path} was begun on other images (fingerprint {state.data}, now {now}); "
                "give it the same data, or choose another workdir"
            )
        return state

    def _write_state(self) -> None:
        if self.first:
            folder.write_state(self.path, self.state)

    def results(self) -> list[dict[str, Any]]:
        """Finish what was begun, then whatever else is asked for; results in the order of the points.

        Raises Stopped after a signal, when all is saved, and OSError where nothing can be saved.
        """
        self.found = {p: r for p in self.points if (r := self._result(p)) is not None}
        if self.state.groups and not self.state.groups[-1].done:
            self._finish(self.state.groups[-1])
        done = sum(p in self.found for p in self.points)
        if done:
            self.log.say(f"{done} of {len(self.points)} realizations are there already")
        for record in reversed(self.state.groups):
            self._deliver_again(record)
        self._forget(self._missing())
        while missing := self._missing():
            each = list(units(self.c, self.data, missing).values())
            layout = layout_of(self.c, self.data, len(each))
            self._train(self._begin(list(itertools.chain(*each[: layout.group])), layout))
        return [self.found[p] for p in self.points]

    def _result(self, point: Point) -> dict[str, Any] | None:
        try:
            return folder.result_of(self.c, point)
        except ValueError as error:
            self.log.say(f"{error}; it is made again")
            return None

    def _missing(self) -> list[Point]:
        """Points without a card, as process 0 sees it."""
        there = realizations.agree(np.array([p in self.found for p in self.points]))
        return [p for p, is_there in zip(self.points, there, strict=True) if not is_there]

    def _begin(self, points: list[Point], layout: Layout) -> Record:
        """Record a group before its first step: what it holds never changes, so that a resume is exact."""
        mesh, taken = [layout.rows, layout.split], self.path / "checkpoints"
        known = {record.name for record in self.state.groups}  # though its checkpoints may be gone
        is_free = lambda name: name not in known and not (taken / name).exists()
        number = next(n for n in itertools.count() if is_free(f"group_{n}"))
        name = f"group_{realizations.agree(number)}"
        self._forget_shared(points)
        record = Record(name, points, layout.group, mesh, self.metrics.lengths(), self.versions)
        self.state.groups.append(record)
        self._write_state()
        return record

    def _group_run(self, record: Record) -> GroupRun:
        """The training of a recorded group; programs are compiled once for all groups of one layout."""
        layout = layout_of(self.c, self.data, record.group, record.group)
        if self._trainer is None or self._trainer.layout != layout:
            self._trainer = None  # its memory goes first
            self._trainer = Trainer(self.c, self.data, layout)
        where = self.path / "checkpoints" / record.name
        saves = checkpoint.Checkpoints(where, self.c.checkpoint.keep, self.log.say)
        to = Outlets(self.path, self.log, self.metrics, self.signals)
        group = self._trainer.group(record.points)
        return GroupRun(self.c, self._trainer, group, saves, to, self._about())

    def _finish(self, record: Record) -> None:
        """Resume the last group, or take it out of the record where nothing of it was saved."""
        group = self._group_run(record)
        lengths = group.resume()
        with folder.whole():
            self.metrics.truncate(lengths or record.metrics)
        if lengths is None:
            self.found = {p: r for p, r in self.found.items() if p not in record.points}
            self.state.groups.pop()
            self._write_state()
            shutil.rmtree(self.path / "checkpoints" / record.name, ignore_errors=True)
            return
        self.log.say(f"goes on at step {group.done_steps} of {group.total}")
        layout = group.trainer.layout
        changed = folder.changed_stack(record, [layout.rows, layout.split], self.versions)
        if changed:
            self.log.say(changed)
        self._complete(group, record)

    def _train(self, record: Record) -> None:
        group = self._group_run(record)
        group.begin()
        self._complete(group, record)

    def _complete(self, group: GroupRun, record: Record) -> None:
        with self.signals.deferred():
            finished = group.train()
            self.found |= group.results
            if finished:
                record.done = True
                self._write_state()
        if not finished or realizations.any_process(self.signals.asked):
            raise Stopped(f"stopped by a signal, saved in {self.path}; the same command continues")

    def _deliver_again(self, record: Record) -> None:
        """Make cards of a finished group that are missing or damaged once more, from its last state."""
        if not any(p in record.points for p in self._missing()):
            return
        group = self._group_run(record)
        last = group.group.delivered(len(group.phases) - 1)
        lost = [p for p in self._missing() if p in last]
        if lost and group.resume() is not None and group.done_steps == group.total:
            group.deliver(lost)
            self.found |= group.results
            self.log.say(f"{len(lost)} of them are made again from their last checkpoint")

    def _forget(self, points: list[Point]) -> None:
        """Drop the rows of cards that are lost with their checkpoints: they are trained, and logged, anew."""
        trained = {p for record in self.state.groups for p in record.points}
        lost = sum(p in trained for p in points)
        if lost:
            self.log.say(
                f"{lost} realizations have neither card nor checkpoint left: trained again"
            )
        with folder.whole():
            self.metrics.forget(self._logged(points))

    def _logged(self, points: list[Point], shared: bool = False) -> set[tuple[str, str]]:
        """(realization, phase) of every row that training these points writes, or of phases that several share."""
        phases = phases_of(self.c, points, steps_per_epoch(self.c, self.data))
        return {
            (config.identity(self.c, p), phase.name)
            for phase in phases
            if phase.shared or not shared
            for p in distinct(points, phase)
        }

    def _phases(self, points: list[Point]) -> list[str]:
        """Names of the phases that these points pass, in their order."""
        return [
            phase.name for phase in phases_of(self.c, points, steps_per_epoch(self.c, self.data))
        ]

    def shared(self, points: list[Point]) -> set[str]:
        """Identities of what several of these points have in common: realizations of shared phases."""
        return {identity for identity, _ in self._logged(points, shared=True)}

    def _forget_shared(self, points: list[Point]) -> None:
        """Drop the rows of phases that these points share with others who trained them before: they come again."""
        shared = self._logged(points, shared=True)
        if not shared:
            return
        order, mine = self._phases(points), {identity for identity, _ in shared}
        for record in self.state.groups:
            other = self._phases(record.points)
            if (
                other[: len(order)] != order[: len(other)]
            ):  # its steps were counted in another order
                before = self._logged(record.points, shared=True)
                shared |= {(identity, phase) for identity, phase in before if identity in mine}
        if any(shared & self._logged(r.points, shared=True) for r in self.state.groups):
            self.log.say(
                "what all sparsities of a seed have in common is trained again, to the same weights: "
                "its state is kept for no later command"
            )
        with folder.whole():
            self.metrics.forget(shared)

    def _about(self) -> dict[str, Any]:
        """What every card says beside its measurements."""
        return {
            "classes": self.data.classes,
            "title": self.c.data.title,
            "holdout": self.c.holdout,
            "holdout_hash": self.data.holdout_hash,
            "data_fingerprint": self.data.fingerprint,
            "config": config.shared_changes(self.c),
            "versions": self.versions,
        }
