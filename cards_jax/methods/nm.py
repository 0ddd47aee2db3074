"""nm: N:M structured pruning by magnitude, and training again (the recipe of Mishra et al. 2021).

Of every M consecutive weights along a layer's inputs, N stay. Layers whose inputs are no multiple of M stay dense,
as the hardware that profits would have it; the realised sparsity says so.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from cards_jax import masks, pruning
from cards_jax.card import Card
from cards_jax.config import ConfigError
from cards_jax.phase import Entry, Phase, Saved, Shapes
from cards_jax.schedules import learning_rate_table
from cards_jax.tree import map_leaves

AFFINE = True
NEAR = 6e-4  # of a sparsity that is written in decimals
init = pruning.init


def kept_of_block(sparsity: float, block: int) -> int | None:
    """N for a fraction removed, of blocks of M weights; None where that is no whole number from 1; 0.333 is 1/3."""
    exact = block * (1 - float(sparsity))
    return (round(exact) or None) if abs(exact - round(exact)) < NEAR * block else None


def check(c: ConfigDict) -> None:
    """Raise ConfigError for sparsities that are no N of M, and for a scope over layers: blocks are within one."""
    pruning.check_uniform(c)
    if c.scope != "layerwise":
        raise ConfigError(f"scope={c.scope!r}: method 'nm' allows 'layerwise'")
    block = c.pruning.block
    for sparsity in c.sparsity:
        if kept_of_block(sparsity, block) is None:
            allowed = ", ".join(f"{1 - n / block:g}" for n in range(block, 0, -1))
            raise ConfigError(
                f"sparsity={sparsity}: with pruning.block={block} allowed are {allowed}"
            )


def block_mask(weights: Array, block: int, keep: Array) -> Array:
    """Mask of the `keep` largest |w| of every `block` consecutive inputs of each output; ties go to the first."""
    inputs, outputs = int(np.prod(weights.shape[:-1])), weights.shape[-1]
    if inputs % block:
        return jnp.ones(weights.shape, bool)
    x = jnp.abs(weights).reshape(inputs // block, block, outputs)
    mine, theirs = x[:, :, None], x[:, None]
    place = jnp.arange(block)
    earlier = (place[:, None] > place[None])[None, :, :, None]
    rank = jnp.sum((theirs > mine) | ((theirs == mine) & earlier), axis=2)
    return (rank < keep).reshape(weights.shape)


@dataclasses.dataclass(frozen=True)
class BlockPrune:
    """Enter a phase by pruning within blocks."""

    block: int

    def __call__(self, card: Card, saved: Saved, entry: Entry) -> Card:
        one = lambda m, w: None if m is None else block_mask(w, self.block, entry.keep)
        mask = map_leaves(one, card.mask, card.params)
        return card.replace(params=masks.apply(card.params, mask), mask=mask)


@dataclasses.dataclass(frozen=True)
class BlockCounts:
    """N, in the place of a count of kept weights."""

    block: int

    def __call__(self, shapes: Shapes, final: float) -> list[np.ndarray]:
        return [np.int32(kept_of_block(final, self.block))]


def phases(c: ConfigDict, steps_per_epoch: int) -> list[Phase]:
    """Dense training, one prune, and the same training again."""
    rate, block = learning_rate_table(c, steps_per_epoch), c.pruning.block
    again = pruning.rules(enter=BlockPrune(block))
    return [
        Phase("train", pruning.rules(), rate, BlockCounts(block), shared=True, delivers=()),
        Phase("retrain", again, rate, BlockCounts(block), number=1),
    ]
