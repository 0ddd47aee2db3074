"""A run, from its config to its results: groups of realizations, checkpoints, logs, cards. Resumes where it stopped."""

import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cards_jax import (
    checkpoint,
    config,
    data,
    estimate,
    folder,
    methods,
    models,
    pack,
    realizations,
    train,
    tree,
)
from cards_jax.config import ConfigError, Point
from cards_jax.data import Data
from cards_jax.log import MetricsLog, Progress, RunLog, TensorBoard, plain
from cards_jax.realizations import Layout
from cards_jax.trainer import Group, Trainer, recipe_of, spec_of

COLUMNS = ("realization", "seed", "sparsity", "learning_rate", "weight_decay", "phase", "epoch")
COLUMNS += ("step", "split", "loss", "accuracy", "lr", "alive")
CHUNK_SECONDS = 5.0  # signals, progress and checkpoints wait for about this long


class Stopped(Exception):
    """A signal asked the run to stop, and it has saved."""


class Signals:
    """SIGTERM and SIGINT as a flag that is read between chunks; a second SIGINT interrupts at once."""

    def __init__(self):
        self.asked = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Listen until the block ends."""

        def ask(number, frame):
            if self.asked and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.asked = True

        before = {n: signal.signal(n, ask) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Pace:
    """How many steps a chunk takes so that it lasts about CHUNK_SECONDS; one to begin with."""

    def __init__(self):
        self._rate = None

    @property
    def known(self) -> bool:
        """Whether a chunk was timed already."""
        return self._rate is not None

    def steps(self, most: int) -> int:
        """Steps of the next chunk, the same on every process."""
        wanted = 1 if self._rate is None else max(1, int(self._rate * CHUNK_SECONDS))
        return int(realizations.agree(min(most, wanted)))

    def took(self, steps: int, seconds: float) -> None:
        """Learn from a chunk."""
        self._rate = steps / max(seconds, 1e-6)


def layout_of(c: ConfigDict, d: Data, count: int, group: int = 0) -> Layout:
    """The mesh for `count` realizations; as many at a time as fit the memory, unless `group` or the config says."""
    make = partial(
        realizations.layout,
        split=c.compute.batch_split,
        batch_size=c.batch_size,
        devices=c.compute.devices,
    )
    try:
        if group:
            return make(group, exact=True)
        if c.compute.group_size:
            return make(min(count, c.compute.group_size))
        whole = make(count)
        recipe = recipe_of(c, spec_of(c, d), whole)
        phase, init = method_of(c, d)
        need = estimate.realization_bytes(recipe, phase[0], init)
        return make(estimate.group_size(need, count, whole.rows))
    except ValueError as error:
        raise ConfigError(str(error)) from None


def method_of(c: ConfigDict, d: Data):
    """(phases, init or None) of the config's method."""
    method = methods.method(c.method)
    init = partial(method.init, c) if hasattr(method, "init") else None
    return method.phases(c, len(d.train_images) // c.batch_size), init


def check_against_data(c: ConfigDict, d: Data) -> None:
    """Raise ConfigError where the config does not fit its data."""
    if c.batch_size > len(d.train_images):
        raise ConfigError(f"batch_size={c.batch_size}: allowed is up to {len(d.train_images)} training images")
    classes = c.model.num_classes
    if classes is not None and classes < len(d.classes):
        raise ConfigError(f"model.num_classes={classes}: the data has {len(d.classes)}; allowed is at least that")
    side, least = min(d.train_images.shape[1:3]), models.family(c.model.name).smallest_side(c.model.name)
    if side < least:
        raise ConfigError(
            f"data.image_size: images of {side} pixels are too small for model.name={c.model.name!r}; "
            f"allowed is {least} or more"
        )


def run(c: ConfigDict, signals: Signals) -> list[dict[str, Any]]:
    """Train what is not there yet, and return the results of all realizations that the config asks for.

    Raises ConfigError before any compute, RunLocked where another process holds the folder, Stopped after a signal, and
    OSError where nothing can be saved.
    """
    d = data.prepare(c)
    check_against_data(c, d)
    path = folder.path_of(c)
    first = jax.process_index() == 0
    hint = None if (path / "config.json").exists() else folder.nearest(c)
    path.mkdir(parents=True, exist_ok=True)
    with checkpoint.lock(path) if first else contextlib.nullcontext():
        log = RunLog(path, first)
        if hint:
            log.say(hint)
        return _Run(c, d, path, log, signals).results()


class _Run:
    def __init__(self, c: ConfigDict, d: Data, path: Path, log: RunLog, signals: Signals):
        self.c, self.data, self.path, self.log, self.signals = c, d, path, log, signals
        self.first = jax.process_index() == 0
        self.state = folder.read_state(path)
        self.points = config.points(c)
        if self.state.setdefault("data", d.fingerprint) != d.fingerprint:
            raise ConfigError(
                f"data: {path} was begun on other images (fingerprint {self.state['data']}, now {d.fingerprint}); "
                "give it the same data, or choose another workdir"
            )
        self._write("config.json", c.to_dict())
        versions = folder.versions()
        self._write("versions.json", versions)
        self.about = {
            "classes": d.classes,
            "holdout": c.holdout,
            "holdout_hash": d.holdout_hash,
            "data_fingerprint": d.fingerprint,
            "config": config.shared_changes(c),
            "versions": versions,
        }
        self.metrics = MetricsLog(path, COLUMNS, self.first)
        self.tensorboard = TensorBoard(path / "tensorboard", active=self.first) if c.log.tensorboard else None

    def _write(self, name: str, value: Any) -> None:
        if self.first:
            folder.write_json(self.path / name, value)

    def _result(self, point: Point) -> dict[str, Any] | None:
        try:
            return folder.result_of(self.c, point)
        except ValueError as error:
            self.log.say(f"{error}; it is trained again")
            return None

    def results(self) -> list[dict[str, Any]]:
        """Finish every group that was begun, then what else is asked for; in the order of the points."""
        with self.signals.watched():
            for record in self.state["groups"]:
                self._train_if_unfinished(record)
            done = {p for p in self.points if self._result(p) is not None}
            if done:
                self.log.say(f"{len(done)} of {len(self.points)} realizations are there already")
            rest = [p for p in self.points if p not in done]
            while rest:
                layout = layout_of(self.c, self.data, len(rest))
                now, rest = rest[: layout.group], rest[layout.group :]
                self._train_if_unfinished(self._begin(now, layout))
        return [self._result(p) for p in self.points]

    def _begin(self, points: list[Point], layout: Layout) -> dict[str, Any]:
        """Record a group before its first step: what it holds never changes, so that a resume is exact."""
        record = {
            "points": [dataclasses.astuple(p) for p in points],
            "group": layout.group,
            "mesh": [layout.rows, layout.split],
            "metrics": self.metrics.lengths(),
        }
        self.state["groups"].append(record)
        self._write("state.json", self.state)
        return record

    def _train_if_unfinished(self, record: dict[str, Any]) -> None:
        points = [Point(*p) for p in record["points"]]
        if all(self._result(p) is not None for p in points):
            return
        layout = layout_of(self.c, self.data, len(points), record["group"])
        if [layout.rows, layout.split] != record["mesh"]:
            self.log.say(
                f"begun on a mesh of {record['mesh']}, goes on with {[layout.rows, layout.split]}: "
                "equal up to rounding, not bit for bit"
            )
        number = self.state["groups"].index(record)
        saves = checkpoint.Checkpoints(
            self.path / "checkpoints" / f"group_{number}", self.c.checkpoint.keep, self.log.say
        )
        trainer = Trainer(self.c, self.data, layout)
        _Group(self, trainer, trainer.group(points), saves, record).complete()


@dataclasses.dataclass
class _Pending:
    """A chunk that was dispatched and not fetched yet."""

    index: int
    first: int
    last: int
    sums: Any
    test: Any
    began: float


class _Group:
    """The training of one group: its clock, its rows, its saves."""

    def __init__(self, run: _Run, trainer: Trainer, group: Group, saves, record: dict[str, Any]):
        self.run, self.trainer, self.group, self.saves, self.record = run, trainer, group, saves, record
        self.c, self.log = run.c, run.log
        self.steps = [p.steps for p in trainer.phases]
        self.period = self.c.evaluate.every_epochs * trainer.steps_per_epoch
        self.saved_at = self.fetched_at = time.monotonic()
        self.pace, self.dead = Pace(), set()
        self.late: _Pending | None = None

    def _restore(self):
        """(state, phase, step): from the newest good checkpoint, else a fresh deal."""
        found = self.saves.restore(self.trainer.state_like(self.group))
        if found is None:
            self.run.metrics.truncate(self.record["metrics"])
            return self.trainer.deal(self.group), 0, 0
        _, state, meta = found
        self.run.metrics.truncate(meta["metrics"])
        self.log.say(f"goes on from phase {meta['phase']}, step {meta['step']}")
        return state, meta["phase"], meta["step"]

    def complete(self) -> None:
        """All phases, then the cards."""
        state, index, at = self._restore()
        done = sum(self.steps[:index]) + at
        self.progress = Progress(
            sum(self.steps),
            len(self.group.points),
            self.c.batch_size,
            steps_per_epoch=self.trainer.steps_per_epoch,
            start_step=done,
            active=self.run.first,
        )
        self.log.progress = self.progress
        try:
            for phase in range(index, len(self.steps)):
                state = self._phase(state, phase, at)
                at = 0
            self._save(state, len(self.steps) - 1, self.steps[-1])
            self._deliver(state)
        finally:
            self.progress.close()
            self.log.progress = None

    def _phase(self, state, index: int, at: int):
        if at == 0:
            state = self.trainer.enter(state, self.group, index)
        end, epoch = self.steps[index], self.trainer.steps_per_epoch
        while at < end:
            last = at + self.pace.steps(min(end, (at // epoch + 1) * epoch) - at)
            state, pending = self._dispatch(state, index, at, last)
            self._fetch()  # the chunk before this one, while this one computes
            self.late = pending
            if not self.pace.known:
                self._fetch()
            if self._must_save():
                self._fetch()
                self._save(state, index, last)
                self._stop_if_asked()
            at = last
        self._fetch()
        return state

    def _dispatch(self, state, index: int, at: int, last: int):
        """Send off a chunk and, where a row is due, an evaluation; waits for compilation only."""
        began, compiled = time.monotonic(), self.trainer.compile_seconds
        anew = at % self.period == 0
        state, sums = self.trainer.chunk(state, self.group, index, at, last, anew)
        due = last % self.period == 0 or last == self.steps[index]
        test = self.trainer.evaluate(state, self.group, index, last) if due else None
        compiled = self.trainer.compile_seconds - compiled
        if compiled:
            self.progress.compiled(compiled)
        return state, _Pending(index, at, last, sums, test, began + compiled)

    def _must_save(self) -> bool:
        minutes = (time.monotonic() - self.saved_at) / 60
        due = minutes >= self.c.checkpoint.every_minutes
        self.asked = bool(realizations.any_process(self.run.signals.asked))
        return bool(realizations.agree(due)) or self.asked

    def _stop_if_asked(self) -> None:
        if self.asked:
            raise Stopped(f"stopped by a signal, saved in {self.run.path}; the same command continues")

    def _save(self, state, index: int, at: int) -> None:
        meta = {"phase": index, "step": at, "metrics": self.run.metrics.lengths()}
        self.saves.save(sum(self.steps[:index]) + at, state, meta)
        self.saved_at = time.monotonic()

    def _fetch(self) -> None:
        """Wait for what was dispatched last; show it, and write its rows if it was an evaluation."""
        if self.late is None:
            return
        pending, self.late = self.late, None
        sums, test = realizations.fetch((pending.sums, pending.test))
        now = time.monotonic()
        self.pace.took(pending.last - pending.first, now - max(pending.began, self.fetched_at))
        self.fetched_at = now
        real = slice(len(self.group.points))
        trained = _means(sums["loss"], sums["steps"], sums["correct"], sums["images"])
        self._report_deaths(sums["diverged_at"][real])
        alive = sums["diverged_at"][real] < 0
        done = sum(self.steps[: pending.index]) + pending.last
        self.progress.update(done, trained["loss"][real], trained["accuracy"][real], alive)
        if test is None:
            return
        splits = {"train": trained, "test": _test_means(test)}
        rows = [
            self._row(i, pending.index, pending.last, split, values, bool(alive[i]))
            for i in range(len(self.group.points))
            for split, values in splits.items()
        ]
        self.run.metrics.append(rows)
        if self.run.tensorboard:
            self.run.tensorboard.append(rows)

    def _row(self, i: int, index: int, at: int, split: str, values, alive: bool) -> dict[str, Any]:
        point, phase = self.group.points[i], self.trainer.phases[index]
        return {
            "realization": config.identity(self.c, point),
            "seed": point.seed,
            "sparsity": point.sparsity,
            "learning_rate": point.learning_rate,
            "weight_decay": point.weight_decay,
            "phase": phase.name,
            "epoch": at / self.trainer.steps_per_epoch,
            "step": sum(self.steps[:index]) + at,
            "split": split,
            "loss": values["loss"][i],
            "accuracy": values["accuracy"][i],
            "lr": point.learning_rate * float(phase.rate[at - 1]),
            "alive": alive,
        }

    def _report_deaths(self, diverged_at: np.ndarray) -> None:
        for point, step in zip(self.group.points, diverged_at, strict=True):
            if step >= 0 and point not in self.dead:
                self.dead.add(point)
                name = folder.file_name(self.c, point)
                self.log.say(f"{name} diverged at step {step}: frozen, the others go on")

    def _deliver(self, state) -> None:
        """Write the finished cards, each with what it measured."""
        index, end = len(self.steps) - 1, self.steps[-1]
        test = self.trainer.evaluate(state, self.group, index, end)
        cards = self.trainer.finish(state, self.group, index)
        kept = self.trainer.kept(cards)
        sums, test, cards, kept = realizations.fetch((train.report(state), test, cards, kept))
        trained = _means(sums["loss"], sums["steps"], sums["correct"], sums["images"])
        tested = _test_means(test)
        for i, point in enumerate(self.group.points):
            result = self._result(i, point, trained, tested, kept, sums["diverged_at"])
            meta = {"result": result, **self.run.about}
            if self.run.first:
                path = folder.card_path(self.c, point)
                path.parent.mkdir(exist_ok=True)
                pack.save(path, tree.take(cards, i), self.trainer.spec, meta)

    def _result(self, i: int, point: Point, trained, tested, kept, diverged_at) -> dict[str, Any]:
        total = sum(self.trainer.sizes)
        stopped = int(diverged_at[i])
        return {
            "id": config.identity(self.c, point),
            "seed": point.seed,
            "method": self.c.method,
            "scope": self.c.scope,
            "model": self.trainer.spec.name,
            "width": self.trainer.spec.width,
            "data": self.c.data.name,
            "sparsity": point.sparsity,
            "realised_sparsity": 1 - int(kept[i]) / total,
            "learning_rate": point.learning_rate,
            "weight_decay": point.weight_decay,
            "test_accuracy": plain(tested["accuracy"][i]),
            "test_loss": plain(tested["loss"][i]),
            "train_accuracy": plain(trained["accuracy"][i]),
            "train_loss": plain(trained["loss"][i]),
            "parameters": total,
            "diverged_at": None if stopped < 0 else stopped,
        }


def _means(loss, losses, correct, images) -> dict[str, np.ndarray]:
    """Sums and their counts as means, NaN where nothing was counted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"loss": loss / losses, "accuracy": correct / images}


def _test_means(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return _means(sums["loss"], sums["count"], sums["correct"], sums["count"])
