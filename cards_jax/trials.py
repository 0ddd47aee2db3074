"""What cards and decks are tried on, and what they answer: sets of images, probabilities, distances to a gate's groups.

Every set of one trial holds the same images in the same order. What a card answers is computed once; what any deck of
these cards under any gate makes of it follows from the answers alone.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cards_jax import corruptions, gate
from cards_jax.config import ConfigError
from cards_jax.corruptions import dataset
from cards_jax.data import Data
from cards_jax.deck import BATCH, Deck, Member
from cards_jax.gate import Augmentation

CLEAN = "clean"


class Trial(NamedTuple):
    """A set of images, uint8 (N, H, W, C): a corruption at a severity, or `clean` at 0."""

    name: str
    severity: int
    images: np.ndarray


def corrupted(
    images: np.ndarray,
    names: Sequence[str],
    severities: Sequence[int] = corruptions.SEVERITIES,
    seed: int = 0,
) -> Iterator[Trial]:
    """The clean images, then these corruptions of them, made on the device one after another."""
    yield Trial(CLEAN, 0, images)
    for name in names:
        for severity in severities:
            key = dataset.key_of(jax.random.key(seed), name, severity)
            yield Trial(name, severity, dataset.spread(key, images, name, severity))


def augmented(images: np.ndarray, group: Augmentation, noise: float, seed: int = 0) -> np.ndarray:
    """What a group's augmentation makes of the images, uint8 as all that is tried; noise: as in gate.Settings."""
    return np.asarray(_augmented(jnp.asarray(images), group, noise, seed))


@functools.partial(jax.jit, static_argnames=("group", "noise"))
def _augmented(images_NHWC: Array, group: Augmentation, noise: float, seed: int) -> Array:
    keys = jax.random.split(jax.random.key(seed), len(images_NHWC))
    view = group.view(noise)
    one = lambda x: jnp.round(255 * view(x[0], x[1] / jnp.float32(255))).astype(jnp.uint8)
    return lax.map(one, (keys, images_NHWC), batch_size=gate.PIECE)


@dataclasses.dataclass(frozen=True)
class Answers:
    """C sets: their names, probabilities_CRNK of every card, distances_CBA of batches of `batch` images, labels_N."""

    names: tuple[str, ...]
    probabilities_CRNK: np.ndarray
    distances_CBA: np.ndarray
    labels_N: np.ndarray
    batch: int

    def accuracy(self, members_DR: np.ndarray, groups_R: Sequence[int], temperature: float = 0.0):
        """(D, C): of decks, each a row that says which cards it has; groups_R are the cards' groups."""
        return np.asarray(
            _accuracy(
                jnp.asarray(members_DR, jnp.float32),
                self.probabilities_CRNK,
                self.distances_CBA,
                self.labels_N,
                tuple(groups_R),
                temperature,
                self.batch,
            )
        )


def answers(deck: Deck, trials: Iterable[Trial], labels: np.ndarray, batch: int = BATCH) -> Answers:
    """What the cards of a deck answer, and how far its gate's groups are (without a gate: not finite)."""
    names, probabilities, distances = [], [], []
    for trial in trials:
        names.append(trial.name)
        probabilities.append(deck.each(trial.images))
        if deck.gate:
            distances.append(np.asarray(deck.choose(trial.images, batch).distances))
    batch = deck.batch(batch)
    if not deck.gate:
        shape = (len(names), -(-len(labels) // batch), len(deck.groups))
        distances = np.full(shape, np.nan, np.float32)
    args = np.stack(probabilities), np.stack(distances), np.asarray(labels)
    return Answers(tuple(names), *args, batch)


@functools.partial(jax.jit, static_argnames=("groups_R", "temperature", "batch"))
def _accuracy(
    members_DR, probabilities_CRNK, distances_CBA, labels_N, groups_R, temperature, batch
) -> Array:
    places = jnp.asarray(groups_R)
    A, N = distances_CBA.shape[-1], len(labels_N)

    def one(members_R: Array) -> Array:
        cards_A = jnp.zeros(A).at[places].add(members_R)
        there = jnp.where((cards_A > 0)[None, None], distances_CBA, jnp.inf)
        weigh = lambda d: gate.weigh(d, cards_A, temperature).weights
        weights_CBR = jax.vmap(jax.vmap(weigh))(there)[..., places] * members_R[None, None]
        weights_CNR = jnp.repeat(weights_CBR, batch, axis=1)[:, :N]
        exact = lax.Precision.HIGHEST
        mean_CNK = jnp.einsum("crnk,cnr->cnk", probabilities_CRNK, weights_CNR, precision=exact)
        return jnp.mean(jnp.argmax(mean_CNK, -1) == labels_N[None], axis=1)

    return lax.map(one, members_DR)


def by_name(names: Sequence[str], values_C: np.ndarray) -> dict[str, float]:
    """{name: mean over its severities}, in the order of the names."""
    found = {name: [] for name in names}
    for name, value in zip(names, values_C, strict=True):
        found[name].append(float(value))
    return {name: float(np.mean(values)) for name, values in found.items()}


def check_holdout(members: Sequence[Member], data: Data | None = None) -> None:
    """Raise ConfigError unless all cards, and the data, have one list of holdout images."""
    hashes = [(m.name, m.file.meta.get("holdout_hash")) for m in members]
    for name, found in hashes:
        if not found:
            raise ConfigError(
                f"{name}: trained without holdout images; allowed are cards of runs with holdout above 0"
            )
    wanted = data.holdout_hash if data else hashes[0][1]
    of = "the data's" if data else f"that of {members[0].name}"
    for name, found in hashes:
        if found != wanted:
            raise ConfigError(f"{name}: holdout hash {found}; allowed is {of}, {wanted}")
