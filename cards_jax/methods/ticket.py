"""ticket: train a mask that another run found, as it is or shuffled, from its own initial weights or from fresh ones.

The controls of a winning ticket: with shuffled positions each layer keeps its count and loses its pattern; fresh
weights keep the pattern and lose the luck of the draw (Frankle and Carbin 2019; open_lth's branches).
"""

from pathlib import Path

import jax
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from cards_jax import masks, pack, pruning
from cards_jax.card import Card
from cards_jax.config import ConfigError, Point, one_of
from cards_jax.models import Spec
from cards_jax.phase import Phase, Start
from cards_jax.schedules import learning_rate_table
from cards_jax.tree import flatten, only_prunable

AFFINE = True


def found(c: ConfigDict) -> dict[tuple[int, float], Path]:
    """{(seed, sparsity): card file} of the run that `ticket.source` names."""
    folder = Path(c.ticket.source or "") / "cards"
    try:
        metas = {path: pack.load(path).meta for path in sorted(folder.iterdir())}
        results = {path: meta["result"] for path, meta in metas.items()}
        return {(r["seed"], r["sparsity"]): path for path, r in results.items()}
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"ticket.source={c.ticket.source!r}: must be the folder of a finished run ({error})"
        ) from None


def check(c: ConfigDict) -> None:
    """Raise ConfigError unless the source has a card for every seed and sparsity."""
    pruning.check_uniform(c)
    one_of(c, "ticket.weights", ("original", "fresh"))
    if not c.ticket.source:
        raise ConfigError("ticket.source=None: must be the folder of a finished run")
    there = found(c)
    for seed in c.seeds:
        for sparsity in c.sparsity:
            if (seed, sparsity) not in there:
                has = ", ".join(f"seed {a} at {b:g}" for a, b in sorted(there)) or "none"
                raise ConfigError(
                    f"ticket.source={c.ticket.source!r}: no card of seed {seed} at sparsity {sparsity:g}; it has {has}"
                )


def given(c: ConfigDict, spec: Spec, points: list[Point]) -> dict[str, np.ndarray]:
    """{path: bool (R, ...)}: the mask that each point's seed and sparsity found."""
    there, rows = found(c), []
    for point in points:
        path = there[point.seed, point.sparsity]
        card = pack.load(path)
        if card.spec.name != spec.name or card.spec.width != spec.width:
            raise ConfigError(
                f"ticket.source={c.ticket.source!r}: {path.name} is a {card.spec.name} of width {card.spec.width}; "
                f"allowed is {spec.name} of width {spec.width}"
            )
        rows.append(flatten(card.card.mask))
        if not rows[-1]:
            raise ConfigError(f"ticket.source={c.ticket.source!r}: {path.name} has no mask")
    return {k: np.stack([np.asarray(row[k]) for row in rows]) for k in rows[0]}


def shuffled(mask: dict[str, Array], key: Array) -> dict[str, Array]:
    """Every layer's mask at random positions."""
    move = lambda i, m: jax.random.permutation(jax.random.fold_in(key, i), m.ravel()).reshape(
        m.shape
    )
    return {path: move(i, mask[path]) for i, path in enumerate(sorted(mask))}


def init(c: ConfigDict, card: Card, start: Start) -> Card:
    """The initial weights of the seed, or fresh ones, under the mask that was found, or a shuffled one."""
    if c.ticket.weights == "fresh":
        params, stats = start.draw(jax.random.fold_in(start.key, 1))
        card = card.replace(params=params, stats=stats)
    mask = shuffled(start.given, start.key) if c.ticket.shuffle else start.given
    _, treedef = jax.tree.flatten(only_prunable(card.params))
    paths = flatten(only_prunable(card.params)).keys()
    mask = jax.tree.unflatten(treedef, [mask[path] for path in paths])
    return card.replace(params=masks.apply(card.params, mask), mask=mask)


def phases(c: ConfigDict, steps_per_epoch: int) -> list[Phase]:
    """One phase under the given mask."""
    rate = learning_rate_table(c, steps_per_epoch)
    return [Phase("train", pruning.rules(), rate, pruning.counts(c))]
