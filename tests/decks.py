"""Decks of finished cards without training, and images that gates tell apart."""

import cards
import numpy as np

from cards_jax import deck, gate
from cards_jax.pack import CardFile

# Smooth images are near the plain references, which take less compiling than mixtures.
KINDS = ("plain", "gaussian", "plain", "gaussian", "gaussian")
SETTINGS = gate.Settings(references=40)


def file(spec=cards.SMALL, sparsity: float = 0.5, augment: str = "plain", **settings) -> CardFile:
    """A card that says what it was trained with."""
    config = {"augment": augment} | {f"{augment}.{k}": v for k, v in settings.items()}
    meta = {"config": config, "classes": [f"class {k}" for k in range(spec.num_classes)]}
    return CardFile(cards.sampled(spec, sparsity, binary=True), spec, meta, cards.origin())


def smooth(count: int, side: int = 8, seed: int = 0) -> np.ndarray:
    """uint8 images with little power at high frequencies."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    a, b, c = rng.uniform(0.5, 2, (3, count, 3, 1, 1))
    waves = 0.5 + 0.4 * np.sin(a * y * 3 + b * x * 3 + 6 * c)
    return np.round(255 * waves.transpose(0, 2, 3, 1)).astype(np.uint8)


def noisy(images: np.ndarray, sigma: float = 0.1, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, images.shape)
    return np.round(255 * np.clip(images / 255 + noise, 0, 1)).astype(np.uint8)


def small(kinds=KINDS, settings=SETTINGS, gated: bool = True) -> deck.Deck:
    """Cards of Conv2, the first of each kind a narrower one, with a gate on smooth images."""
    files = []
    for i, kind in enumerate(kinds):
        spec = cards.SMALL if kind in kinds[:i] else cards.NARROW
        files.append(file(spec, 0.1 * i + 0.2, kind))
    found = deck.of(files)
    known = gate.build(settings, found.groups, smooth(60)) if gated else None
    return deck.Deck(found.members, known)
