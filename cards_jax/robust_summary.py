"""Scores of cards summed up: accuracies with intervals for each point, relative to dense, corruption by corruption.

Everything is a fraction here but what is named in points. A *point* is what cards share that differ in their seed.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cards_jax import corruptions, published
from cards_jax.corruptions import BENCHMARK, SETS
from cards_jax.data.corrupted import Source
from cards_jax.evaluate import bootstrap, effective, exemplars, potential
from cards_jax.evaluate.bootstrap import Estimate
from cards_jax.marks import CLEAN
from cards_jax.scores import Score
from cards_jax.summary import POINT, order, told_apart

Row = dict[str, Any]
Weights = Callable[[int], np.ndarray]
FAMILIES = ("noise", "blur", "weather", "digital")
MEANS = ("clean", *SETS, *FAMILIES, "without_noise", "without_jpeg")


def subsets(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What means are taken over: {name of a mean: its corruptions}, those alone that were evaluated completely.

    Families and what is left without one are those of the benchmark's fifteen; extras are never averaged in.
    """
    family = {name: corruptions.find(name).family for name in BENCHMARK}
    found = {CLEAN: (CLEAN,), **SETS}
    found |= {f: tuple(n for n in BENCHMARK if family[n] == f) for f in FAMILIES}
    found["without_noise"] = tuple(n for n in BENCHMARK if family[n] != "noise")
    found["without_jpeg"] = tuple(n for n in BENCHMARK if n != "jpeg_compression")
    there = {CLEAN, *names}
    return {mean: members for mean, members in found.items() if there.issuperset(members)}


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """The cards of one point that did not diverge, by seed."""

    point: tuple
    scores: list[Score]
    diverged: int

    @property
    def seeds(self) -> list[int | None]:
        return [score.result.get("seed") for score in self.scores]

    def right(self, names: Sequence[str]) -> np.ndarray:
        """(R, N): the share of the cells of these corruptions in which a card is right about an image."""
        cells = [[score.marks[n].correct.mean(0) for n in names] for score in self.scores]
        return np.mean(cells, 1)

    def predicted(self, name: str) -> np.ndarray:
        """(R, S, N)."""
        return np.stack([score.marks[name].predicted for score in self.scores])

    def label(self, keys: Sequence[str]) -> str:
        """Names it by the parts of the point in which groups differ."""
        value = dict(zip(KEYS, self.point, strict=True))
        texts = {
            "sparsity": lambda x: f"{100 * x:.6g}%",
            "learning_rate": lambda x: f"lr {x:.6g}",
            "weight_decay": lambda x: f"wd {x:.6g}",
        }
        if value["method"] == "dense" and not value["sparsity"]:
            value["sparsity"] = None
        parts = [texts.get(k, str)(value[k]) for k in keys if value[k] is not None]
        return " ".join(parts) or "cards"


KEYS = (*POINT, "card")


def grouped(scores: Sequence[Score]) -> list[Group]:
    """Cards by point, in the order of sparsity within a method; those without results of a run stand alone.

    Cards of one point and another config are groups of their own.
    """
    found: dict[tuple, list[Score]] = {}
    results = told_apart([s.result for s in scores], [s.config for s in scores])
    for score, result in zip(scores, results, strict=True):
        point = tuple(result.get(key) for key in POINT)
        found.setdefault((*point, None if score.result else score.name), []).append(score)
    groups = []
    for point in sorted(found, key=order):
        alive = [s for s in found[point] if s.result.get("diverged_at") is None]
        alive.sort(key=lambda s: (s.result.get("seed") is None, s.result.get("seed") or 0, s.name))
        groups.append(Group(point, alive, len(found[point]) - len(alive)))
    return groups


@dataclasses.dataclass(frozen=True, eq=False)
class Summary:
    """What a table, a picture and a JSON file are made of.

    rows: one for each point, which `labels` name. corruptions: one for each corruption. cells: one for each card that
    did not diverge, corruption and severity. baseless: labels of points that no dense baseline fits, or several do.
    curves: {corruption: {label: accuracies (R, 6) on clean images and at each severity}}.
    """

    source: Source
    title: str
    rows: list[Row]
    corruptions: list[Row]
    cells: list[Row]
    labels: list[str]
    curves: dict[str, dict[str, np.ndarray]]
    exemplars: dict[str, Any]
    population: dict[str, Any] | None
    margin: float
    baseless: Sequence[str] = ()


def summarise(
    source: Source,
    title: str,
    scores: Sequence[Score],
    dense: Sequence[Score] = (),
    population: Sequence[Score] = (),
    margin: float = potential.MARGIN,
) -> Summary:
    """Scores of cards, beside those of their dense baseline.

    population: dense networks through which the line of effective robustness is fitted. margin: of prune potential.
    """
    dense_groups, groups = grouped(dense), grouped(scores)
    shown = [*dense_groups, *groups]
    sets = subsets(source.names)
    weights = functools.cache(
        bootstrap.image_weights
    )  # of as many images: of clean ones there may be fewer
    line = _line(population, sets)
    varies = lambda i: any(len({g.point[i] for g in part}) > 1 for part in (groups, dense_groups))
    keys = [k for i, k in enumerate(KEYS) if k in ("method", "sparsity") or varies(i)]
    rows, labels, baseless = [], [], []
    for group in shown:
        base = None if group in dense_groups else _base(group, dense_groups)
        rows.append(_row(group, base, sets, weights, line))
        labels.append(_unused(group.label(keys), labels))
        if dense_groups and base is None and group not in dense_groups and group.scores:
            baseless.append(labels[-1])
    return Summary(
        source,
        title,
        rows,
        _by_corruption(source, shown, labels, dense_groups, groups, margin),
        _cells(shown, labels, source.names),
        labels,
        {name: _curves(name, shown, labels) for name in source.names},
        _exemplars(source, groups, dense_groups, labels[len(dense_groups) :]),
        line and {"slope": line[0], "intercept": line[1], "n": len(_alive(population))},
        margin,
        baseless,
    )


def _unused(label: str, taken: Sequence[str]) -> str:
    """The label, with a number where it is taken."""
    tries = (label if n == 1 else f"{label} ({n})" for n in itertools.count(1))
    return next(t for t in tries if t not in taken)


def _alive(scores: Sequence[Score]) -> list[Score]:
    return [s for s in scores if s.result.get("diverged_at") is None]


def _line(population: Sequence[Score], sets: Mapping) -> tuple[float, float] | None:
    if "benchmark" not in sets:
        return None
    alive = _alive(population)
    accuracy = lambda s, names: np.mean([s.marks[n].accuracy for n in names])
    clean = [accuracy(s, (CLEAN,)) for s in alive]
    return effective.fit(clean, [accuracy(s, BENCHMARK) for s in alive])


def _base(group: Group, dense: Sequence[Group]) -> Group | None:
    """The dense group to compare with: of the same network, data, learning rate and weight decay, or the only one.

    None where several could be meant.
    """
    value = lambda g, *keys: [dict(zip(KEYS, g.point, strict=True))[k] for k in keys]
    near = [
        d for d in dense if d.scores and value(d, "model", "data") == value(group, "model", "data")
    ]
    rates = ("learning_rate", "weight_decay")
    same = [d for d in near if value(d, *rates) == value(group, *rates)]
    meant = same or near
    return meant[0] if len(meant) == 1 else None


def _row(group: Group, base: Group | None, sets: Mapping, weights: Weights, line) -> Row:
    row: Row = dict(zip(KEYS, group.point, strict=True))
    row |= {"n": len(group.scores), "n_diverged": group.diverged}
    if not group.scores:
        return row
    for name, members in sets.items():
        right = group.right(members)
        row |= _named(
            f"{name}_accuracy", _within(bootstrap.interval(right, weights(right.shape[1])))
        )
        row |= _calibration(name, group, members)
        if base is not None:
            row |= _named(f"{name}_difference", _difference(group, base, members, weights))
    if base is not None:
        row["paired"] = _pairs(group, base) is not None
        row["n_dense"] = len(base.scores)
    if line and "benchmark" in sets:
        means = [group.right(sets[k]).mean(1) for k in (CLEAN, "benchmark")]
        found = effective.residual(line, *means)
        row |= {"effective_robustness": float(found.mean())}
        row |= {"effective_min": float(found.min()), "effective_max": float(found.max())}
    return row


def _calibration(name: str, group: Group, members: Sequence[str]) -> Row:
    """Means over seeds and cells."""
    marks = [score.marks[n] for score in group.scores for n in members]
    return {
        f"{name}_ece": float(np.mean([m.calibration_error for m in marks])),
        f"{name}_nll": float(np.mean([m.loss for m in marks])),
    }


def _within(e: Estimate, least: float = 0.0) -> Estimate:
    """The interval of an accuracy ends at 0 and 1, that of a difference at -1; over few seeds Student's goes beyond."""
    return e._replace(low=max(e.low, least), high=min(e.high, 1.0))


def _named(stem: str, e: Estimate) -> Row:
    """An estimate as columns."""
    return {
        f"{stem}_mean": e.mean,
        f"{stem}_low": e.low,
        f"{stem}_high": e.high,
        f"{stem}_min": e.smallest,
        f"{stem}_max": e.largest,
    }


def _pairs(group: Group, base: Group) -> list[int] | None:
    """For each card the row of the dense one with its seed; None where seeds do not match."""
    rows = {seed: i for i, seed in enumerate(base.seeds)}
    unique = len(rows) == len(base.seeds) and len(set(group.seeds)) == len(group.seeds)
    matched = unique and None not in rows and all(seed in rows for seed in group.seeds)
    return [rows[seed] for seed in group.seeds] if matched else None


def _difference(group: Group, base: Group, members: Sequence[str], weights: Weights) -> Estimate:
    pairs, mine, other = _pairs(group, base), group.right(members), base.right(members)
    if pairs is not None:
        other = other[pairs]
    found = bootstrap.difference(mine, other, weights(mine.shape[1]), pairs is not None)
    return _within(found, -1.0)


def _accuracy(group: Group, name: str) -> float | None:
    """Mean over seeds and severities."""
    if not group.scores:
        return None
    return float(np.mean([score.marks[name].accuracy for score in group.scores]))


def _curves(name: str, groups: Sequence[Group], labels: Sequence[str]) -> dict[str, np.ndarray]:
    accuracy = lambda s: np.concatenate([s.marks[CLEAN].accuracy, s.marks[name].accuracy])
    return {
        label: np.stack([accuracy(score) for score in group.scores])
        for group, label in zip(groups, labels, strict=True)
        if group.scores
    }


def _set_of(name: str) -> str:
    return next((k for k, members in SETS.items() if name in members), "")


def _by_corruption(source, shown, labels, dense, groups, margin) -> list[Row]:
    listed = published.of(source.benchmark)
    rows = []
    for name in (CLEAN, *source.names):
        row: Row = {"corruption": name, "set": _set_of(name)}
        row |= {label: _accuracy(g, name) for g, label in zip(shown, labels, strict=True)}
        row |= _potentials(groups, dense, name, margin)
        if listed and name in BENCHMARK:
            row |= {f"RobustBench {k}": v[name] for k, v in listed.items()}
        rows.append(row)
    return rows


def _potentials(groups, dense, name: str, margin: float) -> Row:
    """{"prune potential <method>": sparsity} of methods that were trained at two sparsities or more."""
    curves: dict[str, dict[float, float]] = {}
    bases: dict[str, Group] = {}
    at = KEYS.index("sparsity")
    alive = [g for g in groups if g.scores and g.point[at] is not None]
    varying = [k for i, k in enumerate(KEYS) if i != at and len({g.point[i] for g in alive}) > 1]
    for group in alive:
        base = _base(group, dense)
        if base is None:
            continue
        method = group.label([k for k in KEYS if k == "method" or k in varying])
        curves.setdefault(method, {})[group.point[at]] = 1 - _accuracy(group, name)
        bases[method] = base
    return {
        f"prune potential {method}": potential.potential(
            errors, 1 - _accuracy(bases[method], name), margin
        )
        for method, errors in curves.items()
        if len(errors) > 1
    }


def _exemplars(source, groups, dense, labels) -> dict[str, Any]:
    """{point: which clean images, and how many of each corruption, the modal class differs on from the dense one}."""
    out = {}
    for group, label in zip(groups, labels, strict=True):
        base = _base(group, dense)
        if base is None or not group.scores:
            continue
        differs = {
            n: exemplars.disagree(group.predicted(n), base.predicted(n))
            for n in (CLEAN, *source.names)
        }
        out[label] = {
            "n": len(group.scores),
            "n_dense": len(base.scores),
            "clean_images": np.flatnonzero(differs[CLEAN][0]).tolist(),
            "fraction": {n: [float(x) for x in d.mean(1)] for n, d in differs.items()},
        }
    return out


def _cells(groups: Sequence[Group], labels: Sequence[str], names: Sequence[str]) -> list[Row]:
    rows = []
    for group, label in zip(groups, labels, strict=True):
        for score in group.scores:
            about = {"card": score.name, "label": label}
            about |= {k: score.result.get(k) for k in ("id", "seed")}
            about |= dict(zip(POINT, group.point, strict=False))
            for name in (CLEAN, *names):
                rows += [{**about, **cell} for cell in _severities(name, score)]
    return rows


def _severities(name: str, score: Score) -> list[Row]:
    """A card on one corruption, severity by severity."""
    one = score.marks[name]
    return [
        {"corruption": name, "severity": 0 if name == CLEAN else i + 1}
        | {"accuracy": float(accuracy), "ece": float(ece)}
        | {"nll": float(nll) if math.isfinite(nll) else None}
        for i, (accuracy, ece, nll) in enumerate(
            zip(one.accuracy, one.calibration_error, one.loss, strict=True)
        )
    ]
