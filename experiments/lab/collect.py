"""What the finished runs of an experiment found: a tidy row for every card, and what pictures and verdicts ask for."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from cards_jax import config, folder, masks, pack, robust_summary
from cards_jax.data import corrupted
from cards_jax.data.corrupted import Source
from cards_jax.evaluate.fourier import unevenness_by_image
from cards_jax.fourier import radius
from cards_jax.heat import Heat
from cards_jax.heat_report import RINGS
from cards_jax.marks import CLEAN
from cards_jax.scores import Score
from lab import measure, sweep
from lab.measure import Wanted
from lab.plan import TUNE, Place, Run, cards_of
from lab.scales import Scale

Row = dict[str, Any]
VERSIONS = ("commit", "cards_jax", "python", "jax", "jaxlib", "flax", "numpy", "device")
HEAD = (
    *("experiment", "scale", "run", "label", "role", "network", "width", "method", "scope"),
    *("augment", "train_images", "epochs", "batch_size", "seed", "sparsity", "realised_sparsity"),
    *("learning_rate", "weight_decay", "test_accuracy", "holdout_accuracy", "corrupted_accuracy"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Card:
    """A finished card: its run, what it measured, and what was measured of it since.

    clean: on all test images. score: on the corruptions.
    """

    run: Run
    config: ConfigDict
    path: Path
    result: Row
    clean: Score | None = None
    score: Score | None = None
    heat: Heat | None = None

    @property
    def alive(self) -> bool:
        return self.result.get("diverged_at") is None

    @functools.cached_property
    def emptied(self) -> list[str]:
        """Layers of which it has nothing left."""
        return masks.emptied(pack.load(self.path).card.mask)

    @property
    def right_of_clean(self) -> np.ndarray:
        """(N,): whether it is right about each test image."""
        return self.clean.marks[CLEAN].correct[0]

    def right(self, names: Sequence[str]) -> np.ndarray:
        """(N,): the share of the cells of these corruptions in which it is right about an image."""
        return np.mean([self.score.marks[name].correct.mean(0) for name in names], 0)


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """All finished cards of an experiment's runs, those of its grids aside.

    title: of the data. source: of the corruptions, None where none were asked for. missing: runs that are not finished.
    """

    experiment: str
    scale: Scale
    title: str
    cards: tuple[Card, ...]
    source: Source | None
    wanted: Wanted
    missing: tuple[str, ...]

    @functools.cached_property
    def groups(self) -> dict[tuple[str, float], list[Card]]:
        """{(run, sparsity): cards that did not diverge, by seed}: what differs in its seed alone."""
        found: dict[tuple[str, float], list[Card]] = collections.defaultdict(list)
        for card in self.cards:
            if card.alive:
                found[card.run.name, card.result["sparsity"]].append(card)
        return {key: sorted(cards, key=lambda c: c.result["seed"]) for key, cards in found.items()}

    def group(self, run: str, sparsity: float | None = None) -> list[Card]:
        """The cards of a run at a sparsity (None: its only one); [] where there are none."""
        keys = [k for k in self.groups if k[0] == run and sparsity in (None, k[1])]
        return self.groups[keys[0]] if len(keys) == 1 else []

    def sparsities(self, run: str) -> list[float]:
        """Of a run, from the smallest."""
        return sorted(s for name, s in self.groups if name == run)

    def runs(self, *roles: str) -> list[Run]:
        """Runs that have cards, in the order of their declaration."""
        found = dict.fromkeys(card.run.name for card in self.cards)
        named = {card.run.name: card.run for card in self.cards}
        return [named[name] for name in found if not roles or named[name].role in roles]

    @property
    def absent(self) -> list[str]:
        """Runs without a card yet, grids aside."""
        there = {card.run.name for card in self.cards}
        return [name for name in self.missing if name not in there and not name.startswith(TUNE)]

    @property
    def corrupted(self) -> tuple[str, ...]:
        """Names of the corruptions."""
        return self.source.names if self.source else ()

    def clean_of(self, cards: Sequence[Card]) -> np.ndarray:
        """Test accuracies, (R,)."""
        return np.array([card.result["test_accuracy"] for card in cards])

    def robust_of(self, cards: Sequence[Card]) -> np.ndarray:
        """Mean accuracies over the cells of the benchmark, (R,)."""
        return np.array([card.right(self.corrupted).mean() for card in cards])


def gather(
    experiment: str,
    runs: Sequence[Run],
    scale: Scale,
    place: Place,
    wanted: Wanted,
    say: Callable[[str], None],
) -> Findings:
    """Every card that is finished, though its run is not; what was not measured yet of it is measured here."""
    named, cards, missing = {run.name: run for run in runs}, [], []
    for run in runs:
        step = sweep.known(run, named, place)
        if step is None or step.state != sweep.DONE:
            missing.append(run.name)
        if step and step.config and run.role != TUNE:
            cards += _cards(run, step.config)
    paths = list(dict.fromkeys(card.path for card in cards))
    title, source = "", None
    if cards:
        c = cards[0].config
        measure.same_data(paths, c)
        title = corrupted.title_of(c.data.name, c.data.title)
        clean, scores, heats = {}, {}, {}
        if wanted.robust:
            clean = {score.path: score for score in measure.clean(paths, c, say)}
            source, found = measure.robust(paths, c, wanted, say)
            scores = {score.path: score for score in found}
        if wanted.decks:
            source = measure.source_of(c, wanted)[1]
        if wanted.heat:
            heats = {h.path: h for h in measure.heatmaps(paths, c, wanted, say)}
        cards = [
            dataclasses.replace(
                x, clean=clean.get(x.path), score=scores.get(x.path), heat=heats.get(x.path)
            )
            for x in cards
        ]
    return Findings(experiment, scale, title, tuple(cards), source, wanted, tuple(missing))


def _cards(run: Run, c: ConfigDict) -> list[Card]:
    """Those of a run that are there."""
    points = zip(config.points(c), cards_of(c), strict=True)
    found = [Card(run, c, path, folder.result_of(c, point)) for point, path in points]
    return [card for card in found if card.result is not None]


def collapsed(name: str, cards: Sequence[Card]) -> str:
    """What is to be said of cards that lost a whole layer, whose answers are constant; "" where none did."""
    lost = [card.emptied for card in cards if card.emptied]
    layers = ", ".join(dict.fromkeys(layer for each in lost for layer in each))
    return (
        f"{name}: {len(lost)} of {len(cards)} cards have nothing left of {layers}." if lost else ""
    )


# --- the tidy table


def table(findings: Findings) -> list[Row]:
    """One row for every card, with its hash, commit and versions; accuracies and sparsities are fractions."""
    sets = robust_summary.subsets(findings.corrupted) if findings.source else {}
    rows = []
    for card in findings.cards:
        c, result = card.config, card.result
        row: Row = dict.fromkeys(HEAD) | {k: result.get(k) for k in HEAD if k in result}
        row |= {
            "experiment": findings.experiment,
            "scale": findings.scale.name,
            "run": card.run.name,
            "label": card.run.label,
            "role": card.run.role,
            "network": result["model"],
            "augment": c.augment,
            "epochs": c.epochs,
            "batch_size": c.batch_size,
        }
        if card.score:
            names = {k: v for k, v in sets.items() if k != CLEAN}
            means = {k: float(card.right(members).mean()) for k, members in names.items()}
            row["corrupted_accuracy"] = means.pop("benchmark", None)
            row |= {f"{k}_accuracy": v for k, v in means.items()}
        row |= rings(card, findings.wanted.eps) if card.heat else {}
        row |= {k: result.get(k) for k in ("paper_bytes", "true_bytes", "steps", "diverged_at")}
        row["emptied_layers"] = " ".join(card.emptied)
        row |= {"id": result["id"], "config_hash": config.shared_identity(c)}
        versions = (
            pack.meta(card.path).get("versions") or {}
        )  # its run may have gone on since, elsewhere
        row |= {k: versions.get(k) for k in VERSIONS}
        row |= {"data": findings.title, "holdout": c.holdout}
        row["corruptions"] = findings.source.name if findings.source else None
        row["corruption_images"] = len(findings.source.labels) if findings.source else None
        rows.append(row)
    return rows


def rings(card: Card, eps: Sequence[float]) -> Row:
    """Mean errors of a heatmap over rings of frequencies, and how uneven it is: its standard deviation over cells, as
    it would be over many images."""
    row: Row = {}
    H, W = card.heat.errors.shape[1:]
    distance = radius(H, W)
    for norm, errors, wrong in zip(eps, card.heat.errors, card.heat.wrong, strict=True):
        for name, (low, high) in RINGS.items():
            row[f"heat_{norm:g}_{name}"] = float(
                errors[(distance >= low) & (distance < high)].mean()
            )
        row[f"heat_{norm:g}_std"] = float(unevenness_by_image(wrong, H, W).mean())
    return row
