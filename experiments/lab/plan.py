"""Runs as data: a config of configs/ with overrides, where its values come from, and how it becomes a real config."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from cards_jax import config, folder, main
from cards_jax.config import ConfigError
from lab.scales import Scale

Fields = Mapping[str, Any]
TUNE, MAIN, CONTROL = "tune", "main", "control"
FREE = ("seeds",)  # may be overridden though runs differ in them
NAMED = ("name", "method", "scope", "model.name", "sparsity")  # what runs and claims are called by


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of `python -m cards_jax.main`: all its seeds and sparsities are trained side by side.

    name: of its folder, so that experiments that ask for the same run share it. label: for people, in figures.
    config: FILE[:args]. fields: overrides by dotted name. role: what it is for.
    tuned_by: the run on whose holdout images learning rate and weight decay are chosen.
    source: the run whose masks it trains.
    fixed: fields that were worked out from those of other runs, which a command line does not override.
    """

    name: str
    label: str
    config: str
    fields: Fields
    role: str = MAIN
    tuned_by: str | None = None
    source: str | None = None
    fixed: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the runs that come first."""
        return tuple(name for name in (self.tuned_by, self.source) if name)


@dataclasses.dataclass(frozen=True)
class Place:
    """What does not belong to an experiment: where it runs, on which data, what else the command line says.

    chosen: by runs that tune, of choices that were made elsewhere and are not written down here (yet).
    """

    workdir: Path
    fields: Fields = dataclasses.field(default_factory=dict)
    chosen: Mapping[str, Fields] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A question, the runs that answer it, and the pictures and tables of the answer.

    runs: of a scale. draw: (Findings, Path) -> the files that it wrote. rules: claims, fixed before any run.
    robust, heat: whether corruptions and heatmaps of its cards are measured; norms: heatmaps at every norm of the
    scale, not at the largest alone; decks: whether decks are measured, when it draws.
    """

    name: str
    question: str
    runs: Callable[[Scale], Sequence[Run]]
    draw: Callable[..., list[Path]]
    rules: Callable[[Scale], Sequence[Any]] = lambda scale: ()
    robust: bool = True
    heat: bool = False
    norms: bool = False
    decks: bool = False
    data: str = "cifar10"


def flag(field: str, value: Any) -> str:
    """An override as it stands on a command line."""
    if isinstance(value, list | tuple):
        # One value is written as a tuple too: a flag would else take text for its characters.
        value = ",".join(map(str, value)) + "," * (len(value) == 1)
    return f"--config.{field}={value}"


def arguments(run: Run, place: Place, more: Fields = ()) -> list[str]:
    """The arguments of `python -m cards_jax.main` for a run; `more` is what other runs decided.

    A grid keeps its own seeds.
    """
    kept = run.fixed + FREE * (run.role == TUNE)
    over = {k: v for k, v in place.fields.items() if k not in kept}
    fields = {"name": run.name, **run.fields, **over, **dict(more)}
    return [
        f"--config={run.config}",
        f"--workdir={place.workdir}",
        *(flag(k, v) for k, v in fields.items()),
    ]


def resolved(run: Run, place: Place, more: Fields = ()) -> ConfigDict:
    """The validated config, through the door of the command line; ConfigError names the run."""
    try:
        return _parsed(tuple(arguments(run, place, more)))
    except ConfigError as error:
        raise ConfigError(f"run {run.name}: {error}") from None


@functools.cache
def _parsed(command: tuple[str, ...]) -> ConfigDict:
    return main.parse(["cards_jax", *command])[1]


def overridable(experiment: Experiment, runs: Sequence[Run], fields: Fields) -> None:
    """Raise ConfigError for overrides that would undo what runs are compared for: of fields in which they differ, or by
    which they are called."""
    for field, value in fields.items():
        if field in FREE:
            continue
        if field in NAMED:
            raise ConfigError(
                f"config.{field}={value}: runs and claims of {experiment.name} are named by it; allowed are another "
                "--scale, fields that all runs share, and seeds"
            )
        theirs = {r.name: str(value_of(r, field)) for r in runs if field not in r.fixed}
        kinds = {v: name for name, v in reversed(theirs.items())}
        if len(kinds) > 1:
            (a, one), (b, other) = list(kinds.items())[-1], list(kinds.items())[0]
            raise ConfigError(
                f"config.{field}={value}: runs of {experiment.name} differ in it ({one}: {a}, {other}: {b}); "
                "allowed are fields that all of them share, and seeds"
            )


def value_of(run: Run, field: str) -> Any:
    """Of a field of a run, as it stands without overrides."""
    if field in run.fields:
        return run.fields[field]
    found: Any = base(run.config)
    for name in field.split("."):
        found = found.get(name) if isinstance(found, ConfigDict) else None
    return found


def ordered(runs: Sequence[Run]) -> list[Run]:
    """Every run once, after those that it needs; ConfigError for two that share nothing but their name."""
    named: dict[str, Run] = {}
    for run in runs:
        if named.setdefault(run.name, run) != run:
            raise ConfigError(f"run {run.name}: declared twice, in two ways")
    found: dict[str, Run] = {}

    def add(run: Run) -> None:
        for name in run.needs:
            if name not in named:
                raise ConfigError(f"run {run.name}: needs {name}, which is not declared")
            add(named[name])
        found.setdefault(run.name, run)

    for run in named.values():
        add(run)
    return list(found.values())


def chains(runs: Sequence[Run]) -> list[list[Run]]:
    """Groups of runs of which none needs one of another group, so that each can go to a machine of its own."""
    leader = {run.name: run.name for run in runs}

    def root(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for run in runs:
        for name in run.needs:
            leader[root(run.name)] = root(name)
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(root(run.name), []).append(run)
    return list(groups.values())


def cards_of(c: ConfigDict) -> list[Path]:
    """The files of all cards that a config asks for, whether they are there or not."""
    return [folder.card_path(c, point) for point in config.points(c)]


@functools.cache
def base(file: str) -> ConfigDict:
    """A shipped config without overrides: what it says about lengths of training."""
    return main.load_config(file)
