"""ticket: train a mask that another run found, as it is or shuffled, from its own initial weights or from fresh ones.

The controls of a winning ticket: with shuffled positions each layer keeps its count and loses its pattern; fresh
weights keep the pattern and lose the luck of the draw (Frankle and Carbin 2019; open_lth's branches).
"""

from pathlib import Path

import jax
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from cards_jax import config, masks, pack, pruning
from cards_jax.card import Card
from cards_jax.config import ConfigError, Point, one_of
from cards_jax.models import Spec
from cards_jax.phase import Phase, Start
from cards_jax.schedules import learning_rate_table
from cards_jax.tree import flatten, only_prunable

AFFINE = True
POPUP = ("ep", "bp")  # draw weights of their own


def found(c: ConfigDict) -> dict[tuple[int, float], list[tuple[Path, str]]]:
    """{(seed, sparsity): (card file, scope) of all such cards} of the run that `ticket.source` names."""
    folder, there = Path(c.ticket.source or "").expanduser() / "cards", {}
    try:
        for path in sorted(folder.iterdir()):
            result = pack.meta(path)["result"]
            at = result["seed"], result["sparsity"]
            there.setdefault(at, []).append((path, result["scope"]))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"ticket.source={c.ticket.source!r}: must be the folder of a finished run ({error})"
        ) from None
    return there


def check(c: ConfigDict) -> None:
    """Raise ConfigError unless the source has one card for every seed and sparsity asked for, found in the same scope.

    The source becomes an absolute path, so that a resume finds it from anywhere.
    """
    pruning.check_uniform(c)
    one_of(c, "ticket.weights", ("original", "fresh"))
    if not c.ticket.source:
        raise ConfigError("ticket.source=None: must be the folder of a finished run")
    there, source = found(c), f"ticket.source={c.ticket.source!r}"
    for seed, sparsity in dict.fromkeys((p.seed, p.sparsity) for p in config.points(c)):
        of = there.get((seed, sparsity), [])
        if not of:
            has = ", ".join(f"seed {a} at {b:g}" for a, b in sorted(there)) or "none"
            raise ConfigError(
                f"{source}: no card of seed {seed} at sparsity {sparsity:g}; it has {has}"
            )
        if len(of) > 1:
            raise ConfigError(
                f"{source}: {len(of)} cards of seed {seed} at sparsity {sparsity:g}; allowed is a run "
                "with one learning rate and weight decay"
            )
        result = pack.meta(of[0][0])["result"]
        if result.get("diverged_at") is not None:
            raise ConfigError(
                f"{source}: its card of seed {seed} at sparsity {sparsity:g} diverged; allowed are cards that did not"
            )
        method = result.get("method")
        if method in POPUP and c.ticket.weights == "original":
            raise ConfigError(
                f"ticket.weights='original': {source} are masks of {method}, whose random weights no other method "
                "begins with; allowed is 'fresh'"
            )
        if of[0][1] != c.scope:
            raise ConfigError(
                f"scope={c.scope!r}: the masks of {source} were found with scope={of[0][1]!r}; allowed is that"
            )
    with c.unlocked():
        c.ticket.source = str(Path(c.ticket.source).expanduser().absolute())


NETWORK = (
    "name",
    "width",
    "num_classes",
    "image_HWC",
    "unpruned",
)  # fields of a spec that decide a mask's shapes


def given(c: ConfigDict, spec: Spec, points: list[Point]) -> dict[str, np.ndarray]:
    """{path: bool (R, ...)}: the mask that each point's seed and sparsity found."""
    there, rows = found(c), []
    network = lambda spec: ", ".join(f"{field} {getattr(spec, field)}" for field in NETWORK)
    for point in points:
        ((path, _),) = there[point.seed, point.sparsity]
        card = pack.load(path)
        if network(card.spec) != network(spec):
            raise ConfigError(
                f"ticket.source={c.ticket.source!r}: {path.name} is a network of {network(card.spec)}; "
                f"allowed is {network(spec)}"
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
