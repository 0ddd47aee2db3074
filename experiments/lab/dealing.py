"""Decks and cards that holdout images choose within a memory budget, and what they get right of the test images."""

import collections
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cards_jax import deal, files
from cards_jax.config import ConfigError
from cards_jax.evaluate import bootstrap
from cards_jax.evaluate.bootstrap import Estimate
from lab import decks, verdict
from lab.collect import Card, Findings
from lab.decks import ADAPTIVE, AGNOSTIC, Kind

DECK, CARD = "best deck", "best card"
VERSION = 1  # of what is kept


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """What was chosen among the cards of a seed, within a share of a dense card's bytes.

    gated: whether a gate picks among its cards. score: on holdout images, None of what nobody chose. true_bytes: of its
    file, gate and all. clean (M,), corrupted (N,): what it gets right of the test images, once it is measured.
    """

    share: float
    what: str
    seed: int
    cards: tuple[Card, ...]
    gated: bool
    score: float | None
    true_bytes: int
    clean: np.ndarray | None = None
    corrupted: np.ndarray | None = None

    @property
    def way(self) -> str:
        """How its cards answer together."""
        return ADAPTIVE if self.gated else AGNOSTIC if len(self.cards) > 1 else ""


def given(card: Card, what: str) -> Choice:
    """A card that is held against others."""
    return Choice(1.0, what, card.result["seed"], (card,), False, None, card.result["true_bytes"])


def chosen(
    findings: Findings, seeds: Sequence[int], whole: int, shares: Sequence[float], out: Path
) -> Iterator[Choice]:
    """For every seed and budget the best deck, which may be one card, and the best card; none where no card fits.

    whole: the bytes of which the budgets are shares. What was dealt before, for whichever experiment, is read.
    """
    hands = collections.defaultdict(list)
    for card in findings.cards:
        if card.alive:
            hands[card.result["seed"]].append(card)
    for seed in seeds:
        hand = hands[seed]
        references, budgets = findings.scale.references, [int(share * whole) for share in shares]
        about = [VERSION, [files.sha256(card.path) for card in hand], references, budgets]
        place = out.parents[1] / "decks" / f"dealt-{decks.digest(about)}.json"
        try:
            rows = json.loads(place.read_text())
        except (OSError, ValueError):
            rows = _dealt(seed, hand, references, budgets)
            place.parent.mkdir(parents=True, exist_ok=True)
            files.write_atomically(place, json.dumps(rows))
        for row in rows:
            cards = tuple(hand[i] for i in row["cards"])
            share = shares[budgets.index(row["budget"])]
            about = (row[k] for k in ("gated", "score", "true_bytes"))
            yield Choice(share, row["what"], seed, cards, *about)


def _dealt(seed: int, hand: Sequence[Card], references: int, budgets: Sequence[int]) -> list[dict]:
    """A row for the best deck and one for the best card of every budget that a card fits."""
    deck, data = decks.of_cards(hand, references)
    print(f"seed {seed}: {len(hand)} cards answer {len(data.holdout_images):,} holdout images")
    answers, rows = deal.extras(deck, data), []
    for budget in budgets:
        try:
            dealt = deal.search(deck, answers, budget)
        except ConfigError:
            continue
        single = next(d for d in dealt if len(d.cards) == 1)
        rows += [
            {"budget": budget, "what": what, **dataclasses.asdict(best)}
            for what, best in ((DECK, dealt[0]), (CARD, single))
        ]
    return rows


def measured(findings: Findings, choices: Sequence[Choice], out: Path) -> list[Choice]:
    """The same, with what they get right; what was measured before is read."""
    kinds = [Kind(c.what, len(c.cards), c.way, [list(c.cards)]) for c in choices]
    keep, references = out.parents[1], findings.scale.references
    found = decks.measured(kinds, findings.wanted, references, keep, print)
    return [
        dataclasses.replace(c, clean=d.clean[0], corrupted=d.corrupted[0])
        for c, d in zip(choices, found, strict=True)
    ]


def of(choices: Sequence[Choice], what: str, share: float = 1.0) -> list[Choice]:
    """Those of one kind and budget, by seed."""
    return [c for c in choices if (c.what, c.share) == (what, share)]


def difference(a: Sequence[Choice], b: Sequence[Choice], measure: str) -> Estimate | None:
    """Of two kinds in points, paired by seed; None where no seed has both."""
    sides = [{c.seed: 100 * getattr(c, measure).astype(float) for c in side} for side in (a, b)]
    seeds = [seed for seed in sides[0] if seed in sides[1]]
    if not seeds:
        return None
    rights = [np.stack([side[seed] for seed in seeds]) for side in sides]
    return bootstrap.difference(*rights, verdict.weights_of(rights[0].shape[1]), paired=True)
