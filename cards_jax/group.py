"""One group of realizations from its first step to its cards: chunks, rows, saves."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cards_jax import arrays, config, folder, masks, pack, realizations, train, tree
from cards_jax.checkpoint import Checkpoints
from cards_jax.config import Point
from cards_jax.log import RunLog
from cards_jax.metrics import MetricsLog
from cards_jax.phase import passed
from cards_jax.plain import plain
from cards_jax.progress import Progress
from cards_jax.signals import Signals
from cards_jax.tensorboard import TensorBoard
from cards_jax.trainer import Group, Trainer

COLUMNS = ("realization", "seed", "sparsity", "learning_rate", "weight_decay", "phase", "epoch")
COLUMNS += ("step", "split", "loss", "accuracy", "realised_sparsity", "lr", "alive")
CHUNK_SECONDS = 5.0  # signals, progress and checkpoints wait for about this long


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


@dataclasses.dataclass
class Outlets:
    """Where a run writes, and who may ask it to stop."""

    path: Path
    log: RunLog
    metrics: MetricsLog
    signals: Signals


@dataclasses.dataclass
class _Pending:
    """A chunk that was dispatched and not fetched yet."""

    index: int
    first: int
    last: int
    sums: Any
    measured: Any
    began: float


def _against_collapse(c: ConfigDict) -> list[str]:
    """What of a config may keep layers from losing everything."""
    found = ["scope='layerwise'"] * (c.scope == "global")
    if c.method in ("ep", "bp") and c.scope == "global":
        found.append("more popup.progressive_epochs")
    if c.pruning.distribution == "erk":
        found.append("pruning.distribution='uniform'")
    return found


class GroupRun:
    """The training of one group. Call `begin` or `resume`, then `train`.

    about: what every card says beside its measurements.
    """

    def __init__(
        self,
        c: ConfigDict,
        trainer: Trainer,
        group: Group,
        saves: Checkpoints,
        to: Outlets,
        about: dict[str, Any],
    ):
        self.c, self.trainer, self.group, self.saves, self.to = c, trainer, group, saves, to
        self.about, self.phases = about, group.phases
        self.total = sum(p.steps for p in self.phases)
        self.results: dict[Point, dict[str, Any]] = {}  # of the cards delivered so far
        self.period = c.evaluate.every_epochs * trainer.steps_per_epoch
        self.first_process = jax.process_index() == 0
        self.pace, self.dead = Pace(), set()
        self.late: _Pending | None = None
        self.saved: int | None = None  # steps that the newest checkpoint holds

    # The state, the phase and the step in it: where this training stands.

    def begin(self) -> None:
        """Stand at the first step, with a fresh deal."""
        self.state, self.index, self.at = self.trainer.deal(self.group), 0, self.phases[0].first

    def resume(self) -> dict[str, int] | None:
        """Stand at the newest good checkpoint; gives the lengths of the metric files then, None where there is none."""
        with folder.whole():
            like = lambda meta, leaves: self.trainer.state_like(
                self.group, meta["phase"], arrays.rows(leaves)
            )
            found = self.saves.restore(like)
        if found is None or found[2].get("points", self._identities()) != self._identities():
            return None
        _, state, meta = found
        self.index, self.at = meta["phase"], meta["step"]
        self.state = self.trainer.refit(state, self.group, self.index)
        self.saved = self.done_steps
        return meta["metrics"]

    def _identities(self) -> list[str]:
        """Of the group's realizations: a checkpoint is theirs alone, whatever its folder is called."""
        return [config.identity(self.c, point) for point in self.group.points]

    @property
    def done_steps(self) -> int:
        """Steps of all phases up to where this training stands."""
        return self._steps_at(self.index, self.at)

    def _work(self, steps: int) -> float:
        """What so many steps of all phases are, in steps of a single realization: phases train unequal numbers."""
        done = 0
        for stage in self.group.stages:
            here = min(steps, stage.phase.steps)
            done, steps = done + here * len(stage.points), steps - here
        return done

    def _steps_at(self, index: int, at: int) -> int:
        return sum(p.steps for p in self.phases[:index]) + at - self.phases[index].first

    def train(self) -> bool:
        """Go on to the last step, and save; False where a signal asked to stop, after saving."""
        self.tensorboard = None
        if self.c.log.tensorboard:
            # What an earlier process wrote after its last save is hidden, and written again.
            place, start = self.to.path / "tensorboard", self.done_steps + 1
            self.tensorboard = TensorBoard(place, start, self.first_process)
        self.progress = Progress(
            self.total,
            max(len(stage.points) for stage in self.group.stages),
            self.c.batch_size,
            steps_per_epoch=self.trainer.steps_per_epoch,
            start_step=self.done_steps,
            label=self.c.name,
            work=self._work,
            active=self.first_process,
        )
        self.to.log.progress = self.progress
        self.saved_at = self.fetched_at = time.monotonic()
        try:
            return self._train()
        finally:
            self.progress.close()
            self.to.log.progress = None
            if self.tensorboard:
                self.tensorboard.close()

    def _train(self) -> bool:
        while True:
            if not self._train_phase():
                return False
            if self.index + 1 == len(self.phases):
                self._save()
            points = self.group.delivered(self.index)
            if points:
                self.deliver(points)
            if self.index + 1 == len(self.phases):
                return True
            self.index += 1
            self.at = self.phases[self.index].first

    def _train_phase(self) -> bool:
        phase, epoch = self.phases[self.index], self.trainer.steps_per_epoch
        if self.at == phase.first:
            self.state = self.trainer.enter(self.state, self.group, self.index)
        end = phase.last
        while self.at < end:
            last = self.at + self.pace.steps(min(end, (self.at // epoch + 1) * epoch) - self.at)
            pending = self._dispatch(last)
            self._fetch()  # the chunk before this one, while this one computes
            self.late, self.at = pending, last
            if not self.pace.known:
                self._fetch()
            asked = realizations.any_process(self.to.signals.asked)
            if asked or self._save_is_due():
                self._fetch()
                self._save()
            if asked:
                return False
        self._fetch()
        return True

    def _dispatch(self, last: int) -> _Pending:
        """Send off a chunk and, where a row is due, an evaluation; waits for compilation only."""
        began, compiled = time.monotonic(), self.trainer.compile_seconds
        index, phase = self.index, self.phases[self.index]
        anew = self.at % self.period == 0 or self.at == phase.first
        self.state, sums = self.trainer.chunk(self.state, self.group, index, self.at, last, anew)
        due = last % self.period == 0 or last == phase.last
        measured = self.trainer.evaluate(self.state, self.group, index, last) if due else None
        compiled = self.trainer.compile_seconds - compiled
        if compiled:
            self.progress.compiled(compiled)
        return _Pending(index, self.at, last, sums, measured, began + compiled)

    def _save_is_due(self) -> bool:
        minutes = (time.monotonic() - self.saved_at) / 60
        return bool(realizations.agree(minutes >= self.c.checkpoint.every_minutes))

    def _save(self) -> None:
        if self.saved == self.done_steps:
            return
        meta = {"phase": self.index, "step": self.at, "metrics": self.to.metrics.lengths()}
        meta["points"] = self._identities()
        self.saves.save(self.done_steps, self.state, meta)
        self.saved, self.saved_at = self.done_steps, time.monotonic()

    def _fetch(self) -> None:
        """Wait for what was dispatched last; show it, and write its rows if it was an evaluation."""
        if self.late is None:
            return
        pending, self.late = self.late, None
        sums, measured = realizations.fetch((pending.sums, pending.measured))
        now = time.monotonic()
        self.pace.took(pending.last - pending.first, now - max(pending.began, self.fetched_at))
        self.fetched_at = now
        points = self.group.stages[pending.index].points
        real = slice(len(points))
        trained = _means(sums["loss"], sums["steps"], sums["correct"], sums["images"])
        self._report_deaths(points, sums["diverged_at"][real])
        alive = sums["diverged_at"][real] < 0
        done = self._steps_at(pending.index, pending.last)
        self.progress.update(done, trained["loss"][real], trained["accuracy"][real], alive)
        if measured is None:
            return
        nonzero = measured["test"]["nonzero"]
        sparsity = {"sparsity": 1 - nonzero / self.trainer.size, "alive": alive}
        splits = {"train": trained} | {k: _set_means(v) for k, v in measured.items()}
        rows = [
            self._row(i, pending.index, pending.last, split, values | sparsity)
            for i in range(len(points))
            for split, values in splits.items()
        ]
        self.to.metrics.append(rows)
        if self.tensorboard:
            self.tensorboard.append(rows)

    def _row(self, i: int, index: int, at: int, split: str, values) -> dict[str, Any]:
        stage = self.group.stages[index]
        point, phase = stage.points[i], stage.phase
        return {
            "realization": config.identity(self.c, point),
            "seed": point.seed,
            "sparsity": None if phase.shared else point.sparsity,
            "learning_rate": point.learning_rate,
            "weight_decay": point.weight_decay,
            "phase": phase.name,
            "epoch": self._steps_at(index, at) / self.trainer.steps_per_epoch,
            "step": self._steps_at(index, at),
            "split": split,
            "loss": values["loss"][i],
            "accuracy": values["accuracy"][i],
            "realised_sparsity": plain(values["sparsity"][i]),
            "lr": point.learning_rate * float(phase.rate[at - 1]),
            "alive": bool(values["alive"][i]),
        }

    def _report_deaths(self, points: list[Point], diverged_at: np.ndarray) -> None:
        for point, step in zip(points, diverged_at, strict=True):
            if step >= 0 and point not in self.dead:
                self.dead.add(point)
                name = folder.file_name(self.c, point)
                self.to.log.say(f"{name} diverged at step {step}: frozen, the others go on")

    def _report_collapse(self, point: Point, layers: list[str]) -> None:
        if layers:
            name = folder.file_name(self.c, point)
            may = " or ".join(["a lower sparsity", *_against_collapse(self.c)])
            self.to.log.say(
                f"{name}: no weight is left in {', '.join(layers)} (layer collapse); {may} may avoid it"
            )

    def deliver(self, points: list[Point]) -> None:
        """Write the cards of these points as they are at the end of this phase, each with what it measured."""
        cards = self.trainer.finish(self.state, self.group, self.index)
        measures = {"sets": self.trainer.evaluate_cards(cards), "sums": train.report(self.state)}
        if self.c.evaluate.recalibrate:
            measures["before"] = measures["sets"]["test"]
            cards, measures["shift"] = self.trainer.recalibrate(cards, self.c.evaluate.recalibrate)
            measures["sets"] = self.trainer.evaluate_cards(cards)
        cards, measures = realizations.fetch((cards, measures))
        for point in points:
            i = self.group.row(self.index, point)
            card, result = tree.take(cards, i), self._result(point, tree.take(measures, i))
            self._report_collapse(point, emptied := masks.emptied(card.mask))
            result["emptied_layers"] = " ".join(emptied) or None
            path = folder.card_path(self.c, point)
            if self.first_process:
                path.parent.mkdir(exist_ok=True)
                meta = {"result": result, **self.about}
                origin = self.trainer.origin(point)
                pack.save(path, card, self.trainer.spec, meta, origin=origin)
                result = result | folder.sizes(path)
            self.results[point] = result

    def _result(self, point: Point, measured: dict[str, Any]) -> dict[str, Any]:
        total, sums, sets = self.trainer.size, measured["sums"], measured["sets"]
        trained = _means(sums["loss"], sums["steps"], sums["correct"], sums["images"])
        diverged_at = int(sums["diverged_at"])
        found = {"train": trained} | {name: _set_means(s) for name, s in sets.items()}
        if diverged_at < 0 and not np.isfinite(found["test"]["loss"]):
            diverged_at = self.phases[self.index].last - 1  # in the last step: none came to see it
        result = {
            "id": config.identity(self.c, point),
            "seed": point.seed,
            "method": self.c.method,
            "scope": self.c.scope,
            "model": self.trainer.spec.name,
            "width": self.trainer.spec.width,
            "data": self.c.data.name,
            "train_images": self.trainer.train_images,
            "sparsity": point.sparsity,
            "realised_sparsity": 1 - int(sets["test"]["nonzero"]) / total,
            "learning_rate": point.learning_rate,
            "weight_decay": point.weight_decay,
            "steps": sum(self.phases[i].steps for i in passed(self.phases, self.index)),
            **{
                f"{name}_{what}": plain(found[name][what])
                for name in ("test", "train", "holdout")
                if name in found
                for what in ("accuracy", "loss")
            },
            "parameters": total,
            "diverged_at": None if diverged_at < 0 else diverged_at,
        }
        if "shift" in measured:
            before = _set_means(measured["before"])
            result["batchnorm_shift"] = plain(measured["shift"])
            result["test_accuracy_before_recalibration"] = plain(before["accuracy"])
        return result


def _means(loss, losses, correct, images) -> dict[str, np.ndarray]:
    """Sums and their counts as means, NaN where nothing was counted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"loss": loss / losses, "accuracy": correct / images}


def _set_means(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return _means(sums["loss"], sums["count"], sums["correct"], sums["count"])
