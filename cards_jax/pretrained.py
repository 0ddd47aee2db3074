"""Given weights: a finished card that every realization begins with, in the place of a random initialisation.

Seeds then differ in the order of images and in augmentation. The network keeps the constants that normalised the
images of the given weights.
"""

import dataclasses
import hashlib
from pathlib import Path

from ml_collections import ConfigDict

from cards_jax import card, methods, models, pack
from cards_jax.config import ConfigError
from cards_jax.models import Spec
from cards_jax.tree import Tree

FIELDS = {  # {field of a spec: the config's that decides it}
    "name": "model.name",
    "width": "model.width",
    "num_classes": "model.num_classes",
    "image_HWC": "data.image_size",
    "affine": "model.affine",
    "bias": "model.bias",
}


def check(c: ConfigDict) -> None:
    """Raise ConfigError unless `model.weights` is None or a readable card, for a method that trains weights.

    The path becomes absolute, and `model.weights_hash` the file's SHA-256, by which a run knows its weights.
    """
    if c.model.weights is None:
        if c.model.weights_hash is not None:
            raise ConfigError(
                f"model.weights_hash={c.model.weights_hash!r}: allowed without model.weights is None"
            )
        return
    given = f"model.weights={c.model.weights!r}"
    if hasattr(methods.method(c.method), "weight_init"):
        raise ConfigError(
            f"{given}: method {c.method!r} chooses among random weights; allowed is None, or a method that trains them"
        )
    path = Path(c.model.weights).expanduser().absolute()
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        pack.about(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{given}: must be a card file ({error})") from None
    if c.model.weights_hash not in (None, digest):
        raise ConfigError(
            f"{given}: other weights (hash {digest}) than those that the run was begun with "
            f"(model.weights_hash={c.model.weights_hash!r})"
        )
    with c.unlocked():
        c.model.weights, c.model.weights_hash = str(path), digest


def normalised(c: ConfigDict, spec: Spec) -> Spec:
    """The spec with the constants that the given weights normalise images with; as it is where none are given."""
    if c.model.weights is None:
        return spec
    own, _ = pack.about(c.model.weights)
    if len(own.mean) != spec.image_HWC[-1]:
        return spec  # `load` says what does not fit
    return dataclasses.replace(spec, mean=own.mean, std=own.std)


def load(c: ConfigDict, spec: Spec) -> tuple[Tree, Tree] | tuple[()]:
    """(effective weights, BatchNorm averages) to begin with, () where none are given.

    Raises ConfigError for a damaged file and for weights of another network than `spec`.
    """
    if c.model.weights is None:
        return ()
    given = f"model.weights={c.model.weights!r}"
    try:
        file = pack.load(c.model.weights)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{given}: {error}") from None
    for name, field in FIELDS.items():
        own, wanted = getattr(file.spec, name), getattr(spec, name)
        if own != wanted:
            raise ConfigError(f"{given}: has {field} of {own}, the config {wanted}; allowed is one")
    weights = models.named(models.unnamed(card.weights(file.card)), spec)
    return weights, file.card.stats
