"""Realizations that differ in nothing but their seed, as one row.

A *result* is a dict about one trained realization, a *summary row* one about the realizations that
differ in nothing but their seed. Accuracies and sparsities are fractions in dicts, JSON and CSV,
and percent where people read them.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

from cards_jax.plain import plain

Row = dict[str, Any]

# `run` is there where several runs are compared that differ in nothing else that is named here.
POINT = ("method", "scope", "model", "data", "sparsity", "learning_rate", "weight_decay", "run")
MEANS = ("realised_sparsity", "parameters", "paper_bytes", "true_bytes")
MEANS += ("holdout_accuracy", "batchnorm_shift")
SUMMARY = (
    *POINT,
    *MEANS,
    "accuracy_mean",
    "accuracy_min",
    "accuracy_max",
    "accuracy_std",
    "accuracy_low",
    "accuracy_high",
    "n",
    "n_diverged",
    "dense_accuracy",
    "difference_mean",
    "difference_min",
    "difference_max",
)


def summarise(results: Sequence[Row], baseline: Sequence[Row] | None = None) -> list[Row]:
    """Test accuracy over the seeds of each point: one row per point, sorted, with the keys SUMMARY.

    `accuracy_std` is the sample standard deviation, `accuracy_low` and `accuracy_high` bound the
    95% interval of the mean (Student t); they are None for fewer than two and three realizations. Diverged
    realizations count in `n_diverged` alone. `difference_*` are percentage points above
    `dense_accuracy`, the mean of the dense `baseline` of the same data and model, a constant.
    """
    groups = grouped(results, POINT)
    rows = []
    for point in sorted(groups, key=order):
        group = groups[point]
        alive = [result for result in group if _alive(result)]
        row = dict.fromkeys(SUMMARY) | dict(zip(POINT, point, strict=True))
        row |= {"n": len(alive), "n_diverged": len(group) - len(alive)}
        row |= _spread([result["test_accuracy"] for result in alive])
        row |= {key: _mean(alive or group, key) for key in MEANS}
        dense = _dense_accuracy(row, baseline or [])
        if dense is not None and alive:
            row["dense_accuracy"] = dense
            for name in ("mean", "min", "max"):
                row[f"difference_{name}"] = 100 * (row[f"accuracy_{name}"] - dense)
        rows.append(row)
    return rows


def _spread(accuracies: Sequence[float]) -> Row:
    if not accuracies:
        return {}
    values = np.asarray(accuracies, np.float64)
    mean, n = float(values.mean()), len(values)
    row = {
        "accuracy_mean": mean,
        "accuracy_min": float(values.min()),
        "accuracy_max": float(values.max()),
    }
    if n > 1:
        row["accuracy_std"] = std = float(values.std(ddof=1))
    if n > 2:  # of two, it is thirteen standard errors wide
        half = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
        row |= {"accuracy_low": mean - half, "accuracy_high": mean + half}
    return row


def _dense_accuracy(row: Row, baseline: Sequence[Row]) -> float | None:
    """Mean dense accuracy to compare a row with, or None where it is not clear which.

    The dense point with the row's learning rate and weight decay, else the only dense point. Runs that differ in more,
    as in the length of training, are points of their own.
    """
    points = grouped(
        [r for r in baseline if _alive(r) and all(r.get(k) == row[k] for k in ("model", "data"))],
        ("learning_rate", "weight_decay", "run"),
    )
    rates = (row["learning_rate"], row["weight_decay"])
    same = [group for point, group in points.items() if point[:2] == rates]
    meant = same or list(points.values())
    return _mean(meant[0], "test_accuracy") if len(meant) == 1 else None


def told_apart(results: Sequence[Row], configs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The results, with `run` in those whose point cards of several configs share: the fields in which these differ.

    configs: of each result, {field: value} of what is not a default. Cards of another width, augmentation or length of
    training are no seeds of one another.
    """
    kinds: dict[tuple, dict[str, Mapping]] = {}
    keys = [
        (tuple(r.get(k) for k in POINT), json.dumps(dict(c), sort_keys=True))
        for r, c in zip(results, configs, strict=True)
    ]
    for (point, text), own in zip(keys, configs, strict=True):
        kinds.setdefault(point, {})[text] = own
    out = []
    for result, own, (point, _) in zip(results, configs, keys, strict=True):
        there = kinds[point].values()
        fields = sorted({k for other in there for k in other if _differs(k, there)})
        words = [f"{k}={own[k]}" if k in own else f"{k} default" for k in fields]
        out.append({**result, "run": ", ".join(words)} if words else result)
    return out


def _differs(field: str, configs: Iterable[Mapping[str, Any]]) -> bool:
    return len({json.dumps(c.get(field)) for c in configs}) > 1


def grouped(rows: Sequence[Row], keys: Sequence[str]) -> dict[tuple, list[Row]]:
    """{values of the keys: the rows that have them}, in the order in which they first occur."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    return groups


def order(point: tuple) -> list[tuple]:
    # None before numbers before words, as a sort key
    return [(v is not None, isinstance(v, str), 0 if v is None else v) for v in point]


def _alive(result: Row) -> bool:
    accuracy = result["test_accuracy"]
    finite = accuracy is not None and math.isfinite(accuracy)
    return finite and result.get("diverged_at") is None


def _mean(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row.get(key) is not None]
    if not values:
        return None
    same = all(value == values[0] for value in values)
    return plain(values[0]) if same else float(np.mean(values))


def varies(rows: Sequence[Row], key: str) -> bool:
    return len({row.get(key) for row in rows}) > 1
