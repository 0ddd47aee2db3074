"""The settings of a gate, chosen on holdout images: the way in which `gate.OURS` came about.

Tried are all combinations of CHOICES, on the holdout images: clean, under the augmentations of the deck's own groups,
and under the four corruptions that are published beside the fifteen of the benchmark. The fifteen, and the test set,
are never looked at. The best mean accuracy of the adaptive deck wins; of equals the first.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from cards_jax import gate, spectrum, trials
from cards_jax.corruptions import EXTRA
from cards_jax.data import Data
from cards_jax.deck import BATCH, Deck
from cards_jax.gate import Settings
from cards_jax.spectrum import Spectrum
from cards_jax.trials import Answers, Trial

NOISES = (1.0, 0.5)
CHOICES = tuple(itertools.product(NOISES, spectrum.COLOURS, spectrum.BINNINGS, ("side", "corner")))


def candidates(side: int, references: int, seed: int) -> list[Settings]:
    """All that are tried for images of a side: radii up to the Nyquist frequency, or up to the corner."""
    corner = int(np.hypot(side // 2, side // 2))
    return [
        Settings(
            noise,
            Spectrum(colour, binning, corner if last == "corner" else 0),
            references,
            seed=seed,
        )
        for noise, colour, binning, last in CHOICES
    ]


def sets(deck: Deck, images: np.ndarray, seed: int = 0) -> Iterator[Trial]:
    """Clean images, the four corruptions, and what every group's augmentation makes of the images."""
    yield from trials.corrupted(images, EXTRA, seed=seed)
    for group in deck.groups:
        if group.name != "plain":
            yield Trial(group.label, 0, trials.augmented(images, group, 1.0, seed))


def tune(
    deck: Deck, data: Data, references: int = 5000, batch: int = BATCH, seed: int = 0
) -> dict[str, Any]:
    """The choice and how it was made, as JSON: what `--gate=FILE` reads.

    Raises ConfigError where the cards have no, or other, holdout images.
    """
    trials.check_holdout(deck.members, data)
    images, labels = data.holdout_images, data.holdout_labels
    tried = list(sets(deck, images, seed))
    known = trials.answers(Deck(deck.members), tried, labels, batch)
    found = []
    for settings in candidates(images.shape[1], references, seed):
        built = gate.build(settings, deck.groups, data.train_images)
        score = _score(Deck(deck.members, built), known, tried, batch)
        found.append({"settings": settings.written(), **score})
    best = max(found, key=lambda x: x["score"])  # the first of equals
    return {
        "settings": best["settings"],
        "score": best["score"],
        "agnostic": float(np.mean(list(_means(deck, known).values()))),
        "sets": list(dict.fromkeys(known.names)),
        "images": len(images),
        "holdout_hash": data.holdout_hash,
        "cards": [[m.name, m.augmentation.label] for m in deck.members],
        "tried": found,
    }


def _score(deck: Deck, known: Answers, tried: list[Trial], batch: int) -> dict[str, Any]:
    distances = [np.asarray(deck.choose(t.images, batch).distances) for t in tried]
    answers = dataclasses.replace(known, distances_CBA=np.stack(distances))
    each = _means(deck, answers)
    return {"score": float(np.mean(list(each.values()))), "accuracy": each}


def _means(deck: Deck, answers: Answers) -> dict[str, float]:
    """{set: accuracy of the whole deck}, means over severities."""
    groups_R = [deck.groups.index(m.augmentation) for m in deck.members]
    accuracy_C = answers.accuracy(np.ones((1, len(deck)), np.float32), groups_R)[0]
    return trials.by_name(answers.names, accuracy_C)
