"""The gate beside an oracle, and the theory beside what can be measured of it.

    python -m cards_jax.deck theory DECK --save=PATH

Diffenderfer et al. (2021), section 4: how much the robustness of a network may change between two distributions of
images (the *shift*: of the mean distance to its decision boundary) is bounded by how far the distributions are apart,
class by class (Theorem 3). Here one is a group's own augmentation of the test images, the other a corruption of them.
The shift is measured by an attack, which finds no smallest distances but small ones; the distances of distributions
by a bound and by an estimate (evaluate/transport.py). So nothing is proved or refuted: what is claimed are rank
correlations, of the two sides with each other and with what the gate does. Theorem 1 and Corollary 2 are not tested.

The oracle sends every batch to the group that answers it best, by the labels.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from cards_jax import figures, tabular, trials
from cards_jax.deck import BATCH, Deck, averaged
from cards_jax.evaluate import attack, transport
from cards_jax.trials import Trial

ALL = "all"  # the group of rows about all of them
EXCESS = "excess"  # the Sinkhorn estimate above its null
PAIRS = (
    ("shift", "coupled"),
    ("shift", EXCESS),
    ("coupled", EXCESS),
    ("gate distance", "coupled"),
    ("gate distance", EXCESS),
    ("gate distance", "shift"),
    ("weight", "coupled"),
    ("weight", EXCESS),
    ("weight", "shift"),
)
DRAWS = 2000
Row = dict[str, Any]
Pieces = Callable[[Sequence[Any], Callable[[], Sequence[Row]]], list[Row]]


def measure(
    deck: Deck,
    sets: Sequence[Trial],
    labels_N: np.ndarray,
    pieces: Pieces,
    batch: int = BATCH,
    attacked: int = 200,
    steps: int = attack.STEPS,
) -> list[Row]:
    """For every set a row about the oracle (group ALL), and one for every group.

    sets: of the same images, the clean ones first. pieces(key, measure): as `Ledger.rows`. attacked: so many images are
    attacked, the first ones. Of a group: `weight`, its mean share of the gate's choices; `gate distance`, the mean
    d_ss; `radius` and `source`, mean distances to the boundary under the corruption and under its own augmentation,
    over its cards and the images for which the attack found something (the others are `missed`); `shift`, the
    difference; `coupled`, `sinkhorn`, `null`, `excess`: of transport.by_class, in the unit of pixels in [0, 1].
    """
    noise = deck.gate.settings.noise
    clean = sets[0].images
    own = [trials.augmented(clean, group, noise) for group in deck.groups]
    radii = _radii(deck, labels_N[:attacked], steps)
    sources = []
    for i, group in enumerate(deck.groups):
        measured = lambda i=i: [radii(i, own[i][:attacked])]
        sources += pieces(["own augmentation", group.label], measured)
    rows = []
    for trial in sets:
        measured = lambda trial=trial: [
            _oracle_row(deck, trial, labels_N, batch),
            *_group_rows(
                deck, trial, labels_N, own, batch, lambda i: radii(i, trial.images[:attacked])
            ),
        ]
        rows += pieces([trial.name, trial.severity], measured)
    source = {g.label: s for g, s in zip(deck.groups, sources, strict=True)}
    return [row if row["group"] == ALL else _with_shift(row, source[row["group"]]) for row in rows]


def _with_shift(row: Row, source: Row) -> Row:
    known = row["radius"] is not None and source["radius"] is not None
    shift = abs(row["radius"] - source["radius"]) if known else None
    return {**row, "source": source["radius"], "shift": shift}


def _radii(deck: Deck, labels_N: np.ndarray, steps: int) -> Callable[[int, np.ndarray], Row]:
    """(group, uint8 images) -> radius and missed, over the group's cards; compiled once for every stack of cards."""
    f = lambda predict, images, labels: attack.distances(predict, images, labels, steps)
    programs = [(part.group, part.hand.map(f, shared=2)) for part in deck.parts]

    def of_group(group: int, images: np.ndarray) -> Row:
        floats = images / np.float32(255)
        found = [np.asarray(run(floats, labels_N)) for g, run in programs if g == group]
        if not found:
            return {"radius": np.nan, "missed": 0}
        radius_RN = np.concatenate(found)
        fine = np.isfinite(radius_RN)
        return {
            "radius": radius_RN[fine].mean() if fine.any() else np.nan,
            "missed": int((~fine).sum()),
        }

    return of_group


def _oracle_row(deck: Deck, trial: Trial, labels_N: np.ndarray, batch: int) -> Row:
    about = {"corruption": trial.name, "severity": trial.severity, "group": ALL}
    choice = deck.choose(trial.images, batch)
    weights_NR = deck.weights(choice, len(labels_N), batch)
    return {
        **about,
        **oracle(deck, deck.each(trial.images), weights_NR, labels_N, deck.batch(batch)),
    }


def oracle(
    deck: Deck, each_RNK: np.ndarray, weights_NR: np.ndarray, labels_N: np.ndarray, batch: int
) -> Row:
    """Accuracies of the `adaptive` deck, of the `agnostic` one, of the `oracle`, and how often the gate does as well.

    each_RNK: probabilities of the cards; weights_NR: what the gate gives to them. The oracle takes for each
    batch the group, of those with cards, that is right most often. agreement: share of batches for which a group that
    the gate chooses is right as often as the oracle's; chance: the same for a group drawn at random.
    """
    right = lambda probabilities: np.asarray(probabilities).argmax(-1) == labels_N
    groups_R = np.array([deck.groups.index(m.augmentation) for m in deck.members])
    present = sorted(set(groups_R.tolist()))
    first = np.arange(0, len(labels_N), batch)
    counts_B = np.diff(np.append(first, len(labels_N)))
    right_GN = np.stack([right(each_RNK[groups_R == g].mean(0)) for g in present])
    right_GB = np.add.reduceat(right_GN.astype(int), first, axis=1)
    best_B = right_GB.max(0)
    best_GB = right_GB == best_B
    chosen_GB = np.stack([weights_NR[first][:, groups_R == g].max(1) > 0 for g in present])
    return {
        "batches": len(first),
        "adaptive": right(averaged(each_RNK, weights_NR)).mean(),
        "agnostic": right(each_RNK.mean(0)).mean(),
        "oracle": best_B.sum() / counts_B.sum(),
        "agreement": (best_GB & chosen_GB).any(0).mean(),
        "chance": best_GB.mean(),
    }


def _group_rows(
    deck: Deck,
    trial: Trial,
    labels_N: np.ndarray,
    own: Sequence[np.ndarray],
    batch: int,
    radii: Callable[[int], Row],
) -> list[Row]:
    choice = deck.choose(trial.images, batch)
    share_A = (np.asarray(choice.weights) * np.asarray(deck.cards_A)).mean(0)
    distance_A, rows = np.asarray(choice.distances).mean(0), []
    floats = trial.images / np.float32(255)
    for i, group in enumerate(deck.groups):
        apart = transport.by_class(own[i] / np.float32(255), floats, labels_N)
        rows.append(
            {
                "corruption": trial.name,
                "severity": trial.severity,
                "group": group.label,
                "weight": share_A[i],
                "gate distance": distance_A[i],
                **radii(i),
                **apart,
                EXCESS: apart["sinkhorn"] - apart["null"],
            }
        )
    return rows


# --- what is claimed


def correlations(rows: Sequence[Row], draws: int = DRAWS, seed: int = 0) -> list[Row]:
    """Spearman's rank correlation of each of PAIRS over all rows of groups, with a 95% interval.

    `rho`, `low`, `high`: over all rows. `within`, with its own bounds: of what a group has above the mean of the groups
    under the same corruption and severity, which is what a gate can act on. The interval is that of corruptions drawn
    anew, each with all its severities and groups. None where a correlation does not exist.
    """
    rows = [r for r in rows if r["group"] != ALL]
    names = list(dict.fromkeys(r["corruption"] for r in rows))
    places = [np.array([i for i, r in enumerate(rows) if r["corruption"] == n]) for n in names]
    rng = np.random.default_rng(seed)
    samples = [
        np.concatenate([places[i] for i in rng.integers(0, len(names), len(names))])
        for _ in range(draws)
    ]
    domains = np.unique([f"{r['corruption']} {r['severity']}" for r in rows], return_inverse=True)[
        1
    ]
    found = []
    for pair in PAIRS:
        values = [np.array([_number(r[k]) for r in rows]) for k in pair]
        within = [v - (np.bincount(domains, v) / np.bincount(domains))[domains] for v in values]
        row: Row = {"one": pair[0], "other": pair[1], "rows": len(rows)}
        for name, ends, (x, y) in (
            ("rho", ("low", "high"), values),
            ("within", ("within low", "within high"), within),
        ):
            drawn = np.array([v for s in samples if (v := _spearman(x[s], y[s])) is not None])
            bounds = np.quantile(drawn, (0.025, 0.975)) if len(drawn) else (None, None)
            row |= {name: _spearman(x, y), **dict(zip(ends, bounds, strict=True))}
        found.append(row)
    return found


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _spearman(x: np.ndarray, y: np.ndarray) -> float | None:
    fine = np.isfinite(x) & np.isfinite(y)
    a, b = rankdata(x[fine].round(9)), rankdata(y[fine].round(9))
    if len(a) < 3 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


# --- tables and pictures


def markdown(deck: Deck, rows: Sequence[Row], attacked: int) -> str:
    """Oracle, both sides of the theorem, correlations."""
    groups = [r for r in rows if r["group"] != ALL and r["shift"] is not None]
    under = np.mean([r["shift"] <= r["coupled"] for r in groups]) if groups else np.nan
    missed = sum(r["missed"] for r in rows if r["group"] != ALL)
    return "\n\n".join(
        [
            "The gate beside an oracle that sees the labels: accuracy in percent, and the share of batches for which "
            "the gate's group is right as often as the oracle's, beside that of a random group.\n\n"
            + _oracles(rows),
            f"Shift in the mean distance to the boundary (L2, pixels in [0, 1], {attacked} attacked images, an "
            f"estimate from above; {missed} attacks of a card on an image found nothing) and how far the "
            f"distributions are apart: means over severities. Same-image coupling is an upper bound: {under:.0%} of "
            "the shifts lie below it. The Sinkhorn estimate is biased: its null is that of two samples of one "
            "distribution.\n\n" + _sides(deck, rows),
            "Rank correlations (Spearman) with 95% intervals over corruptions drawn anew; `within`: of what groups "
            "have above their mean under one corruption and severity. The gate's weight should fall where distances "
            "grow. Nothing else is claimed: distances are estimates, and Theorem 1 and Corollary 2 are not tested."
            "\n\n" + _correlated(correlations(rows)),
        ]
    )


def _mean_of(rows: Sequence[Row], key: str) -> float:
    values = [r[key] for r in rows if r[key] is not None]
    return float(np.mean(values)) if values else np.nan


def _oracles(rows: Sequence[Row]) -> str:
    shown, keys = [r for r in rows if r["group"] == ALL], ("agnostic", "adaptive", "oracle")
    body = []
    for name in [*dict.fromkeys(r["corruption"] for r in shown), "mean"]:
        mine = [r for r in shown if name in ("mean", r["corruption"])]
        cells = [f"{100 * _mean_of(mine, k):.2f}" for k in (*keys, "agreement", "chance")]
        body.append([name, *cells])
    return tabular.aligned(["", *keys, "agreement", "chance"], body, [True, *[False] * 5])


def _sides(deck: Deck, rows: Sequence[Row]) -> str:
    keys = ("weight", "gate distance", "source", "radius", "shift", "coupled", "sinkhorn", "null")
    body = []
    for name in dict.fromkeys(r["corruption"] for r in rows):
        for group in deck.gate.labels:
            mine = [r for r in rows if (r["corruption"], r["group"]) == (name, group)]
            body.append([name, group, *(f"{_mean_of(mine, k):.3f}" for k in keys)])
    return tabular.aligned(["", "group", *keys], body, [True, True, *[False] * len(keys)])


def _correlated(found: Sequence[Row]) -> str:
    def cell(row: Row, *keys: str) -> str:
        middle, low, high = (row[k] for k in keys)
        if middle is None:
            return "-"
        return f"{middle:+.2f} ({low:+.2f} to {high:+.2f})"

    body = [
        [
            f"{r['one']}, {r['other']}",
            cell(r, "rho", "low", "high"),
            cell(r, "within", "within low", "within high"),
        ]
        for r in found
    ]
    return tabular.aligned(["pair", "all", "within"], body, [True, False, False])


def draw(stem: Path, rows: Sequence[Row]) -> list[Path]:
    """Draws STEM.{png,svg}: shifts against the bound and against the estimate, the gate's weights against the bound."""
    rows = [r for r in rows if r["group"] != ALL and r["shift"] is not None]
    if not rows:
        return []
    groups = list(dict.fromkeys(r["group"] for r in rows))
    panels = (
        ("coupled", "shift", "Same-image coupling (upper bound)", "Shift in robustness"),
        (EXCESS, "shift", "Sinkhorn, above its null", "Shift in robustness"),
        ("coupled", "weight", "Same-image coupling (upper bound)", "Weight from the gate"),
    )
    with figures.figure(8.4, 3.0) as figure:
        for axes, (x, y, across, up) in zip(figure.subplots(1, 3), panels, strict=True):
            for i, (group, colour) in enumerate(
                zip(groups, figures.colours(len(groups)), strict=True)
            ):
                mine = [r for r in rows if r["group"] == group]
                style = {"color": colour, "marker": figures.MARKERS[i % len(figures.MARKERS)]}
                values = ([r[k] for r in mine] for k in (x, y))
                axes.scatter(*values, s=16, alpha=0.7, linewidths=0, label=group, **style)
            axes.set_xlabel(across)
            axes.set_ylabel(up)
            axes.margins(0.08)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), title=None)
        return figures.save(figure, Path(stem))
