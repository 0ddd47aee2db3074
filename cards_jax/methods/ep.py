"""ep: edge-popup. Random weights stay frozen; scores are trained, and those with the largest |score| pop up."""

from collections.abc import Callable

from ml_collections import ConfigDict

from cards_jax import models, popup, pruning
from cards_jax.card import Card
from cards_jax.config import ConfigError, one_of
from cards_jax.phase import Phase, Rules, Start, Uniform
from cards_jax.schedules import learning_rate_table, progressive_sparsities

AFFINE = False


def weight_scale(c: ConfigDict) -> str:
    """As configured; by default sqrt(1/k) where no BatchNorm restores the variance and every layer keeps k.

    Under global scope most layers keep nearly all, and the one or two with the largest fan-in pay for it: a factor
    for all of them would amplify layer after layer. Conv4 at 75%: logits of standard deviation 111 at the start,
    without the factor 0.9.
    """
    even = c.scope == "layerwise" and not models.family(c.model.name).NORMALISED
    return c.popup.weight_scale or ("inv_keep" if even else "none")


def weight_init(c: ConfigDict, default: str = "signed_constant") -> str:
    """As configured, else the method's own."""
    return c.popup.weight_init or default


def init(c: ConfigDict, card: Card, start: Start, weight_init: Callable = weight_init) -> Card:
    """Frozen random weights and fresh scores in the place of the dense card's weights."""
    return popup.start(card, start.key, start.density, weight_init(c), weight_scale(c))


def check(c: ConfigDict) -> None:
    """Raise ConfigError for popup fields out of range."""
    pruning.check_uniform(c)
    if c.popup.weight_init is not None:
        one_of(c, "popup.weight_init", popup.WEIGHT_INITS)
    if c.popup.weight_scale is not None:
        one_of(c, "popup.weight_scale", popup.WEIGHT_SCALES)
    one_of(c, "popup.ties", ("index", "strict"))
    if weight_scale(c) == "legacy" and 0 in c.sparsity:
        raise ConfigError(
            "popup.weight_scale='legacy': infinite at sparsity 0; allowed: none, inv_keep"
        )
    if c.scope == "global" and not 0 <= c.popup.progressive_epochs < c.epochs:
        raise ConfigError(
            f"popup.progressive_epochs={c.popup.progressive_epochs}: allowed with epochs={c.epochs} and "
            f"scope='global': 0 to {c.epochs - 1}"
        )


def phases(c: ConfigDict, steps_per_epoch: int, binary: bool = False) -> list[Phase]:
    """One phase. Global scope nears its sparsity over the first epochs: scores may grow before a layer is emptied."""
    view = popup.View(binary, c.popup.ties, c.compute.selection)
    rate = learning_rate_table(c, steps_per_epoch)
    rules = Rules(view, view.finish)
    epochs = c.popup.progressive_epochs if c.scope == "global" else 0
    return [
        Phase(
            name="train",
            rules=rules,
            rate=rate,
            keep=Uniform(c.scope, lambda final: progressive_sparsities(final, epochs)),
            updates=tuple(e * steps_per_epoch for e in range(epochs + 1)),
        )
    ]
