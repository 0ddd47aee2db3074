"""Which cards of a deck are meant for a batch: those whose augmented training images have the nearest spectrum.

Diffenderfer et al. (2021), section 3.2. Cards that were trained with one augmentation are a *group*. For every group
the gate holds the features F / ||F|| (spectrum.py) of P training images so augmented, its *references*; a batch belongs
to the group with the smallest distance d_ss from the batch's mean feature to the nearest reference.
"""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cards_jax import augment, spectrum
from cards_jax.config import ConfigError
from cards_jax.spectrum import Spectrum

PIECE = 256  # images whose features are computed at a time
GRID = 2**16 - 1  # references are multiples of 1 / GRID: two bytes each, off by less than 8e-6
STEP = np.dtype("<u2")  # of such a multiple in a file
UNFOLDED = ("standard", "crop", "plain")  # crops and mirror images are no augmentation to a gate
FREE = ("first", "consistency", "p")  # settings of an augmentation that references replace


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the paper leaves open of the gate, and two options that it does not have.

    noise: the part of the Gaussian references that has noise, p.
    spectrum: the features.
    references: P, images per group.
    per_image: every image is a batch of its own.
    temperature: 0 picks the nearest group; above, every group has a say, by the softmin of distance / temperature.
    seed: of the draws of the references.
    """

    noise: float = 1.0
    spectrum: Spectrum = Spectrum()
    references: int = 5000
    per_image: bool = False
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self):
        checks = (
            ("noise", 0 <= self.noise <= 1, "0 to 1"),
            ("references", 1 <= self.references <= 10**6, "1 to 1000000"),
            ("temperature", 0 <= self.temperature < float("inf"), "0 (the nearest group) or more"),
            ("seed", 0 <= self.seed < 2**32, "0 to 4294967295"),
        )
        for field, fine, allowed in checks:
            if not fine:
                raise ConfigError(f"{field}={getattr(self, field)!r}: allowed are {allowed}")

    def written(self) -> dict[str, Any]:
        """As JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def read(cls, fields: Any) -> Self:
        """From JSON; ConfigError, naming the field, for what are no settings."""
        if not isinstance(fields, dict):
            raise ConfigError(f"gate={fields!r}: allowed is an object of settings")
        kinds = {**inspect.get_annotations(cls), "spectrum": dict}
        for field, value in fields.items():
            kind = kinds.get(field)
            if kind is None:
                raise ConfigError(f"gate: {field!r} is no setting; allowed are {', '.join(kinds)}")
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise ConfigError(f"{field}={value!r}: must be of type {kind.__name__}")
        try:
            return cls(**{**fields, "spectrum": Spectrum(**fields.get("spectrum", {}))})
        except TypeError as error:
            raise ConfigError(f"spectrum={fields['spectrum']!r}: {error}") from None


PAPER = Settings(noise=0.5)  # as the text says; what it leaves open as in Settings
# Noise in every Gaussian reference, as holdout images preferred for three kinds of decks; what else differs from the
# paper's text did not matter there (results/cifar10_jpeg_decks_conv4_w16.md). A deck of one's own: deck choose.
OURS = Settings()
NAMED = {"paper": PAPER, "ours": OURS}


class Augmentation(NamedTuple):
    """What a card was trained with, as a gate sees it: without crops and mirror images, one view, its own p.

    settings: (name, value) pairs that differ from the augmentation's defaults.
    """

    name: str
    settings: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, name: str, settings: dict[str, Any]) -> Self:
        """ConfigError where there is no such augmentation, or it has no such setting."""
        if name not in augment.names():
            raise ConfigError(f"augment={name!r}: allowed are {', '.join(augment.names())}")
        if name in UNFOLDED:
            return cls("plain")
        known = augment.settings(name)
        if unknown := sorted(settings.keys() - known):
            raise ConfigError(f"augment: {name!r} has no setting {unknown[0]!r}")
        own = {k: v for k, v in settings.items() if k not in FREE and v != known[k]}
        return cls(name, tuple(sorted(own.items())))

    @classmethod
    def of_card(cls, meta: dict[str, Any], name: str = "card") -> Self:
        """What a card's file says that it was trained with; ConfigError where it does not say."""
        changes = meta.get("config")
        if not isinstance(changes, dict):
            raise ConfigError(
                f"{name}: does not say with which augmentation it was trained; allowed is to give it (augment)"
            )
        augmentation = changes.get("augment", "standard")
        prefix = f"{augmentation}."
        settings = {k[len(prefix) :]: v for k, v in changes.items() if k.startswith(prefix)}
        return cls.of(augmentation, settings)

    @property
    def label(self) -> str:
        """`augmix`, or `gaussian(sigma=0.2)`."""
        settings = ", ".join(f"{k}={v}" for k, v in self.settings)
        return f"{self.name}({settings})" if settings else self.name

    def view(self, noise: float) -> Callable[[Array, Array], Array]:
        """(key, image_HWC in [0, 1]) -> one augmented image of its kind."""
        free = {"first": "plain", "consistency": 0.0, "p": noise}
        known = augment.settings(self.name)
        fixed = {k: v for k, v in free.items() if k in known}
        views = augment.views(self.name, **dict(self.settings), **fixed)
        return lambda key, image_HWC: views(key, image_HWC)[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Gate:
    """Settings, and references_APF of each of its groups: float32, F / ||F|| on a grid of 1 / GRID."""

    settings: Settings
    groups: tuple[Augmentation, ...]
    references_APF: np.ndarray

    @property
    def labels(self) -> list[str]:
        """Names of the groups."""
        return [group.label for group in self.groups]


class Choice(NamedTuple):
    """What a gate makes of B batches.

    weights: (B, A) of every card of a group; over all cards they sum to 1. distances: d_ss, (B, A).
    agnostic: (B,) bool, whether the gate could not choose (features not finite, or no cards in the group that it
    picked), so that all cards have the same weight.
    """

    weights: Array
    distances: Array
    agnostic: Array


def part_of(gate: Gate, groups: Sequence[Augmentation]) -> Gate:
    """The gate with these of its groups alone."""
    wanted = [i for i, group in enumerate(gate.groups) if group in groups]
    groups = tuple(gate.groups[i] for i in wanted)
    return Gate(gate.settings, groups, gate.references_APF[wanted])


def build(settings: Settings, groups: Sequence[Augmentation], images_NHWC: Array) -> Gate:
    """The gate of these groups, from training images (uint8): each is used once, or again with other draws.

    All features come from one compiled program. Raises ValueError where every image is of one colour.
    """
    groups = tuple(dict.fromkeys(groups))
    key = jax.random.key(settings.seed)
    count = len(images_NHWC)
    # All images in a random order, then all again: no image is used twice before every one was used once.
    rounds = -(-settings.references // count)
    orders = [jax.random.permutation(jax.random.fold_in(key, r), count) for r in range(rounds)]
    rows = jnp.concatenate(orders)[: settings.references]
    images = jnp.asarray(np.asarray(images_NHWC)[np.asarray(rows)])
    found = np.asarray(_references(key, images, settings.spectrum, settings.noise, groups))
    return Gate(settings, groups, gridded(np.stack([_filled(x) for x in found])))


def reference_bytes(settings: Settings, groups: int, image_HWC: Sequence[int]) -> int:
    """What the references of a gate weigh in a deck's file, without building it."""
    image = jax.ShapeDtypeStruct(tuple(image_HWC), jnp.uint8)
    features = jax.eval_shape(settings.spectrum, image)
    return groups * settings.references * features.size * STEP.itemsize


def _filled(references_PF: np.ndarray) -> np.ndarray:
    """Images of one colour have no features: another reference stands in for them, which changes no distance."""
    fine = np.isfinite(references_PF).all(1)
    if not fine.any():
        raise ValueError("images: every augmented training image is of one colour: no features")
    return np.where(fine[:, None], references_PF, references_PF[fine.argmax()][None])


@partial(jax.jit, static_argnames=("spectrum", "noise", "groups"))
def _references(key, images_PHWC, spectrum: Spectrum, noise: float, groups) -> Array:
    """(A, P, F)."""
    keys = jax.random.split(jax.random.fold_in(key, 2**31), len(images_PHWC))

    def of_group(group: Augmentation) -> Array:
        view = group.view(noise)
        one = lambda x: spectrum(view(x[0], x[1] / jnp.float32(255)))
        return jax.lax.map(one, (keys, images_PHWC), batch_size=PIECE)

    return jnp.stack([of_group(group) for group in groups])


def gridded(references_APF: np.ndarray) -> np.ndarray:
    """References as a file holds them: what is on the disk decides as what is in memory."""
    return ungridded(np.round(references_APF.astype(np.float64) * GRID).astype(STEP))


def ungridded(steps: np.ndarray) -> np.ndarray:
    """float32 of uint16 multiples of 1 / GRID."""
    return (steps / np.float64(GRID)).astype(np.float32)


def distances(references_APF: Array, mean_F: Array) -> Array:
    """d_ss to the references of every group, (A,)."""
    return jax.vmap(spectrum.nearest, (0, None))(references_APF, mean_F[None])


def choose(
    features_MF: Array,
    real_M: Array,
    references_APF: Array,
    cards_A: Sequence[int],
    temperature: float = 0.0,
) -> Choice:
    """The choice for one batch, without the axis B. Rows that are not `real_M` only fill the batch.

    Images without features (of one colour) have no say; where no other is left, all cards are asked.
    cards_A: number of cards of every group. Groups at the same distance are chosen together: their cards count equally.
    """
    heard_M = real_M & jnp.isfinite(features_MF).all(1)
    total_F = jnp.sum(jnp.where(heard_M[:, None], features_MF, 0), axis=0)
    mean_F = jnp.where(heard_M.any(), total_F / jnp.maximum(jnp.sum(heard_M), 1), jnp.nan)
    return weigh(distances(references_APF, mean_F), cards_A, temperature)


def weigh(distances_A: Array, cards_A: Sequence[int] | Array, temperature: float = 0.0) -> Choice:
    """The choice that follows from a batch's distances; a group that does not exist is infinitely far."""
    cards_A = jnp.asarray(cards_A, jnp.float32)
    if temperature:
        share_A = jax.nn.softmax(-distances_A / temperature) / jnp.maximum(cards_A, 1)
    else:
        share_A = (distances_A == jnp.min(distances_A)).astype(jnp.float32)
    total = jnp.sum(share_A * cards_A)
    agnostic = ~(jnp.isfinite(jnp.min(distances_A)) & (total > 0))
    chosen_A = share_A / jnp.where(agnostic, 1.0, total)
    weights_A = jnp.where(agnostic, 1 / jnp.sum(cards_A), chosen_A)
    return Choice(weights_A, distances_A, agnostic)


def choose_all(
    features_NF: Array,
    count: int | Array,
    batch: int,
    references_APF: Array,
    cards_A: Sequence[int],
    temperature: float = 0.0,
) -> Choice:
    """`choose` for batches of consecutive images; of N, a multiple of `batch`, the first `count` are real."""
    real_BM = (jnp.arange(len(features_NF)) < count).reshape(-1, batch)
    features_BMF = features_NF.reshape(-1, batch, features_NF.shape[-1])
    one = lambda x: choose(*x, references_APF, cards_A, temperature)
    return jax.lax.map(one, (features_BMF, real_BM))
