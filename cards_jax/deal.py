"""Dealing a winning hand: of these cards, the deck with the best validation score that a memory budget allows.

Cards are scored on their holdout images: clean, and under the four corruptions that are published beside the fifteen of
the benchmark. Neither the test set nor the fifteen are ever looked at. Cards of several augmentations are tried with
the gate, whose references take bytes, and without it, where all of them answer.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np

from cards_jax import deck_file, gate, size, tabular, trials
from cards_jax.config import ConfigError
from cards_jax.corruptions import EXTRA
from cards_jax.deck import BATCH, Deck
from cards_jax.trials import CLEAN, Answers

EXHAUSTIVE = 4096  # decks: all of them where there are no more, else greedily
DECKS = 64  # that are scored by one call


@dataclasses.dataclass(frozen=True)
class Dealt:
    """A deck and what it is worth.

    cards: places of its members. gated: whether a gate picks among them. accuracy: on clean images; robustness: mean
    over the four corruptions; score: mean of the five. paper_bytes: the paper's formula; true_bytes: its file, gate and
    all.
    """

    cards: tuple[int, ...]
    gated: bool
    accuracy: float
    robustness: float
    score: float
    paper_bytes: float
    true_bytes: int


def sub_deck(deck: Deck, cards: Sequence[int], gated: bool = True) -> Deck:
    """A deck of some of the cards: with the gate, if wanted and there is one, for those of several groups."""
    members = tuple(deck.members[i] for i in cards)
    groups = {m.augmentation for m in members}
    known = gate.part_of(deck.gate, groups) if gated and deck.gate and len(groups) > 1 else None
    return Deck(members, known, deck.meta)


def score(
    deck: Deck, answers: Answers, decks: Sequence[tuple[int, ...]], gated: bool = True
) -> list[Dealt]:
    """What these decks are worth, with the gate or all without, from the answers of all cards."""
    if not decks:
        return []
    if not gated:  # without a distance all cards answer
        nowhere = np.full_like(answers.distances_CBA, np.nan)
        answers = dataclasses.replace(answers, distances_CBA=nowhere)
    members_DR = np.zeros((-(-len(decks) // DECKS) * DECKS, len(deck)), np.float32)
    for row, cards in zip(members_DR, decks, strict=False):
        row[list(cards)] = 1
    members_DR[len(decks) :, 0] = 1  # fill the last call
    groups_R = [deck.groups.index(m.augmentation) for m in deck.members]
    temperature = deck.gate.settings.temperature if deck.gate else 0.0
    accuracy_DC = np.concatenate(
        [
            answers.accuracy(part, groups_R, temperature)
            for part in np.split(members_DR, len(members_DR) // DECKS)
        ]
    )
    paper_R = [size.table(m.content).total.paper for m in deck.members]
    found = []
    for cards, accuracy_C in zip(decks, accuracy_DC, strict=False):
        each = trials.by_name(answers.names, accuracy_C)
        some = sub_deck(deck, cards, gated)
        found.append(
            Dealt(
                cards=cards,
                gated=some.gate is not None,
                accuracy=each[CLEAN],
                robustness=float(np.mean([x for name, x in each.items() if name != CLEAN])),
                score=float(np.mean(list(each.values()))),
                paper_bytes=sum(paper_R[i] for i in cards),
                true_bytes=deck_file.true_bytes(some),
            )
        )
    return found


def search(deck: Deck, answers: Answers, budget: int, most: int = 6) -> list[Dealt]:
    """Decks of one to `most` of the cards, gated or not, that fit the budget (true bytes), the best score first.

    All of them where they are few; else the best deck of n + 1 is looked for among those that extend the best of n.
    Raises ConfigError where no card fits.
    """
    R, most = len(deck), min(most, len(deck))
    several = lambda cards: len({deck.members[i].augmentation for i in cards}) > 1

    def dealt(hands: Iterable[tuple[int, ...]]) -> list[Dealt]:
        """Those of these that fit, in both ways."""
        hands, found = list(hands), []
        for gated in (False, True) if deck.gate else (False,):
            bytes_of = lambda cards, g=gated: deck_file.true_bytes(sub_deck(deck, cards, g))
            wanted = [cards for cards in hands if several(cards) or not gated]
            fitting = [cards for cards in wanted if bytes_of(cards) <= budget]
            found += score(deck, answers, fitting, gated)
        return _sorted(found)

    single = [(i,) for i in range(R)]
    if sum(math.comb(R, n) for n in range(1, most + 1)) <= EXHAUSTIVE:
        longer = (itertools.combinations(range(R), n) for n in range(2, most + 1))
        found = dealt(itertools.chain(single, *longer))
    else:
        found = best = dealt(single)
        while best and len(best[0].cards) < most:
            held = best[0].cards
            best = dealt(tuple(sorted((*held, i))) for i in range(R) if i not in held)
            found = found + best
    if not found:
        least = min(deck_file.true_bytes(sub_deck(deck, cards)) for cards in single)
        raise ConfigError(
            f"budget={budget}: allowed is {least:,} bytes, the smallest card, or more"
        )
    return _sorted(found)


def _sorted(dealt: list[Dealt]) -> list[Dealt]:
    return sorted(dealt, key=lambda d: (-d.score, d.true_bytes, d.cards))


def front(dealt: Sequence[Dealt]) -> list[Dealt]:
    """The Pareto front: decks of which no other is as accurate, as robust and as small; the smallest first."""
    values = lambda d: np.array([d.accuracy, d.robustness, -d.true_bytes])
    table = np.array([values(d) for d in dealt])
    best = [
        d
        for d, v in zip(dealt, table, strict=True)
        if not ((table >= v).all(1) & (table > v).any(1)).any()
    ]
    unique = {(d.accuracy, d.robustness, d.true_bytes): d for d in reversed(best)}
    return sorted(unique.values(), key=lambda d: (d.true_bytes, -d.score))


def extras(deck: Deck, data, batch: int = BATCH) -> Answers:
    """What the cards answer on their holdout images; ConfigError where these are not theirs, or there are none."""
    trials.check_holdout(deck.members, data)
    sets = trials.corrupted(data.holdout_images, EXTRA)
    return trials.answers(deck, sets, data.holdout_labels, batch)


COLUMNS = (
    "cards",
    "n",
    "gate",
    "accuracy (%)",
    "robustness (%)",
    "score (%)",
    "paper bytes",
    "true bytes",
)


def table(deck: Deck, dealt: Sequence[Dealt]) -> str:
    """Decks as markdown; a deck is named by the numbers of its cards."""
    percent = lambda x: f"{100 * x:.2f}"
    body = [
        [
            " ".join(map(str, d.cards)),
            str(len(d.cards)),
            "yes" if d.gated else "no",
            *map(percent, (d.accuracy, d.robustness, d.score)),
            f"{d.paper_bytes:,.0f}",
            f"{d.true_bytes:,}",
        ]
        for d in dealt
    ]
    names = [f"{i}: {m.name} ({m.augmentation.label})" for i, m in enumerate(deck.members)]
    shown = tabular.aligned(COLUMNS, body, [True, False, True, *[False] * 5])
    return "\n".join(names) + "\n\n" + shown


def rows(dealt: Sequence[Dealt]) -> list[dict]:
    """Decks as rows of a csv."""
    return [
        dataclasses.asdict(d) | {"cards": " ".join(map(str, d.cards)), "n": len(d.cards)}
        for d in dealt
    ]
