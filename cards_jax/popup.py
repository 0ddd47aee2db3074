"""Popup networks: scores in the place of weights. What edge-popup and biprop share."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from cards_jax import binarize, masks
from cards_jax.card import Card
from cards_jax.draws import shaped
from cards_jax.tree import Tree, fill, map_leaves, only_prunable

WEIGHT_INITS = ("signed_constant", "kaiming_normal")
WEIGHT_SCALES = ("none", "inv_keep", "legacy")


def fan_in(shape: tuple[int, ...]) -> int:
    """Inputs of one output: all axes but the last."""
    size = 1
    for n in shape[:-1]:
        size *= n
    return size


def random_weights(key: Array, shape: tuple[int, ...], kind: str, scale: Array) -> Array:
    """Frozen weights of standard deviation scale * sqrt(2 / fan_in).

    signed_constant: that magnitude with a random sign (Ramanujan et al. 2020); kaiming_normal: Gaussian (biprop).
    """
    std = scale * (2 / fan_in(shape)) ** 0.5
    if kind == "signed_constant":
        return shaped(jax.random.rademacher, key, shape, jnp.float32) * std
    # The barrier rounds before the scale comes, else it depends on XLA's version which constants it multiplies first.
    return lax.optimization_barrier(shaped(jax.random.normal, key, shape)) * std


def random_scores(key: Array, shape: tuple[int, ...]) -> Array:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the originals' kaiming_uniform with a = sqrt(5)."""
    bound = fan_in(shape) ** -0.5
    return shaped(jax.random.uniform, key, shape, minval=-bound, maxval=bound)


def weight_scale(kind: str, density: Array) -> Array:
    """Factor on the weights' standard deviation, from the fraction kept.

    inv_keep restores the variance that pruning takes away, sqrt(1 / k); legacy is the originals' sqrt(1 / (1 - k)),
    which is the same at one half only.
    """
    if kind == "none":
        return jnp.ones_like(density)
    return (density if kind == "inv_keep" else 1 - density) ** -0.5


def start(card: Card, key: Array, density: Array, kind: str, scale: str) -> Card:
    """A popup card: frozen random weights, and scores in their place; what is never pruned is trained as it is."""
    factor = weight_scale(scale, density)
    kernels, treedef = jax.tree.flatten(only_prunable(card.params))
    keys = [jax.random.split(jax.random.fold_in(key, i)) for i in range(len(kernels))]
    frozen = [
        random_weights(k[0], w.shape, kind, factor) for k, w in zip(keys, kernels, strict=True)
    ]
    scores = [random_scores(k[1], w.shape) for k, w in zip(keys, kernels, strict=True)]
    frozen, scores = (jax.tree.unflatten(treedef, x) for x in (frozen, scores))
    return card.replace(params=fill(scores, card.params), frozen=frozen)


@dataclasses.dataclass(frozen=True)
class View:
    """Effective weights of a popup card for a count of kept weights; a value, so that equal views compile once."""

    binary: bool
    ties: str = "index"
    selection: str | None = None

    def mask(self, card: Card, keep: Array) -> Tree:
        scores = map_leaves(lambda w, s: None if w is None else s, card.frozen, card.params)
        with jax.named_scope("selection"):
            return masks.keep_largest(scores, keep, self.ties, self.selection)

    def __call__(self, card: Card, keep: Array) -> Tree:
        return self._pop(card, self.mask(card, keep), keep)

    def _pop(self, card: Card, mask: Tree, keep: Array) -> Tree:
        leaves, treedef = jax.tree.flatten(mask)
        # Layerwise, `keep` says how many each layer keeps; else the gain has to count.
        counts = jax.tree.unflatten(
            treedef, [keep[i] if keep.ndim else None for i in range(len(leaves))]
        )
        one = partial(_effective, binary=self.binary)
        return map_leaves(one, card.params, card.frozen, mask, counts)

    def finish(self, card: Card, keep: Array) -> Card:
        """A card of plain weights; the scores are gone, the mask stays."""
        mask = self.mask(card, keep)
        nothing = map_leaves(lambda _: None, card.params)
        return card.replace(params=self._pop(card, mask, keep), frozen=nothing, mask=mask)


def _effective(score, weight: Array | None, mask, count, binary: bool) -> Array:
    return score if weight is None else binarize.popup(score, weight, mask, binary, count)
