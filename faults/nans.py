"""NaN in one realization, in every array of its state: its neighbours keep every bit, and it is frozen."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import runs
import small

from cards_jax import config, folder, pack, realizations
from faults.stage import Stage
from faults.trial import LOST, SAME, SILENT, Trial

VALUES = {"NaN": np.nan, "infinity": np.inf}
METHODS = ("bp", "ep", "dense", "gmp")


def total(quick: bool) -> int:
    return 3 if quick else 2 * 3 * len(METHODS) + 2


def trials(place: Path, quick: bool) -> Iterator[Trial]:
    for method in METHODS[: 1 if quick else None]:
        sparsity = (0.0,) if method == "dense" else (0.5,)
        c = small.tiny(seeds=(0, 1, 2), sparsity=sparsity, method=method)
        t, group, _ = small.trainer(c)
        calm = _trained(t, group, None)
        for label, value in list(VALUES.items())[: 1 if quick else None]:
            for victim in range(3):
                found = _trained(t, group, (victim, value))
                yield _judged(
                    f"{label} in one of three realizations ({method})", found, calm, victim
                )
    if not quick:
        yield from _runs(Stage(place))


def _trained(t, group, poison):
    """(cards, step at which each died) after a few steps, with poison in all of one realization's parameters."""
    state = t.enter(t.deal(group), group, 0)
    state, _ = t.chunk(state, group, 0, 0, 3, True)
    if poison:
        row, value = poison
        spoil = lambda x: x.at[row].set(value) if x.dtype == np.float32 else x
        card = state.card.replace(params=jax.tree.map(spoil, state.card.params))
        state = jax.device_put(dataclasses.replace(state, card=card), t.layout.sharded)
    state, sums = t.chunk(state, group, 0, 3, 6, False)
    card, sums = realizations.fetch((state.card, sums))
    return card, np.asarray(sums["diverged_at"])


def _judged(fault: str, found, calm, victim: int) -> Trial:
    others = [i for i in range(3) if i != victim]
    card, died = found
    part = lambda tree: [np.asarray(x)[others].tobytes() for x in jax.tree.leaves(tree)]
    if part(card) != part(calm[0]) or any(died[i] >= 0 for i in others):
        return Trial(fault, LOST, "its neighbours have other bits")
    # Infinite scores rank like others, until the decay of the next step makes NaN of them.
    if died[victim] not in (3, 4):
        return Trial(fault, SILENT, f"died at {died[victim]}")
    return Trial(fault, SAME, f"... diverged at step {died[victim]}: frozen, the others go on")


def _runs(stage: Stage) -> Iterator[Trial]:
    """Whole runs: a learning rate at which one realization overflows, undisturbed and killed."""
    calm, wild, killed = (
        stage.runner(seeds=(0,), learning_rate=rate) for rate in ((0.1, 0.2), *2 * [(0.1, 9e29)])
    )
    killed.kill_when(lambda: any(killed.path.glob("checkpoints/group_0/*/manifest.json")))
    for runner in (calm, wild, killed):
        runner.finish()
    point = config.points(calm.c)[0]
    cards = [pack.load(folder.card_path(r.c, point)) for r in (calm, wild)]
    same = runs.same_arrays(*(card.card for card in cards)) and "frozen" in wild.said()
    said = next((line for line in wild.said().splitlines() if "diverged" in line), "")
    yield Trial("a learning rate of 9e29 in one of two realizations", SAME if same else LOST, said)
    same = runs.outcome(killed.path) == runs.outcome(wild.path)
    yield Trial("the same, killed once", SAME if same else LOST, said)
