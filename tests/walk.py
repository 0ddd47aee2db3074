"""Walks all phases of a small config by hand, without a folder."""

import jax
import numpy as np
import small

from cards_jax import config, realizations
from cards_jax.realizations import fetch
from cards_jax.trainer import Trainer


def walk(c, on_enter=None, on_update=None, devices: int = 1, change=lambda index, state: state):
    """{point: (card, nonzero)} of every delivered card, on the host.

    on_enter(index, state) and on_update(index, at, state) see the state on the host after entering a phase and after
    every epoch. change(index, state) -> state: what enters in place of it.
    """
    points = config.points(c)
    t = Trainer(c, small.data(), realizations.layout(len(points), 1, c.batch_size, devices))
    group = t.group(points)
    state, found = t.deal(group), {}
    for index, phase in enumerate(group.phases):
        state = change(index, t.enter(state, group, index))
        if on_enter:
            on_enter(index, fetch(state))
        at = phase.first
        while at < phase.last:
            last = min(phase.last, (at // t.steps_per_epoch + 1) * t.steps_per_epoch)
            state, _ = t.chunk(state, group, index, at, last, True)
            at = last
            if on_update:
                on_update(index, at, fetch(state))
        cards = t.finish(state, group, index)
        nonzero = t.evaluate_cards(cards)["test"]["nonzero"]
        cards, nonzero = fetch((cards, nonzero))
        for point in group.delivered(index):
            row = group.row(index, point)
            found[point] = jax.tree.map(lambda x, row=row: x[row], cards), int(nonzero[row])
    return found, t, group


def sizes(t) -> list[int]:
    """Weights of each prunable layer."""
    return [int(np.prod(shape)) for shape in t.shapes]
