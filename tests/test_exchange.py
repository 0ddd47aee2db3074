"""Dynamic sparse training: how much is exchanged, what goes, what comes, and that it trains."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import walk
from hypothesis import given, settings
from hypothesis import strategies as st

from cards_jax import exchange, masks, methods, pruning
from cards_jax.card import Card
from cards_jax.config import ConfigError
from cards_jax.phase import Entry, Uniform
from cards_jax.tree import flatten

SHAPES = [(10, 10), (4, 5)]


def counts(scope, share=0.3, updates=4, final=0.5):
    return exchange.ExchangeCounts(Uniform(scope), share, updates)(SHAPES, final)


def test_the_share_falls_along_a_cosine():
    first, *rows = counts("global", updates=2)
    np.testing.assert_array_equal(first, [60, 60])
    np.testing.assert_array_equal(rows, [[60, 60 - 18], [60, 60 - 9]])
    rows = np.array(counts("layerwise"))
    np.testing.assert_array_equal(rows[:, exchange.KEPT], [[50, 10]] * 5)
    # 30% times (1 + cos) / 2 at 0, 1/4, 1/2 and 3/4, of 50 and of 10, rounded down.
    np.testing.assert_array_equal(rows[1:, exchange.STAY], [[35, 7], [38, 8], [43, 9], [48, 10]])


def test_no_more_come_than_are_pruned():
    _, row, *_ = counts("global", final=0.1)
    np.testing.assert_array_equal(row, [108, 108 - 12])
    assert all((a == b).all() for a, b in counts("layerwise", final=0.0))


@settings(deadline=None)
@given(
    st.floats(0, 0.999),
    st.floats(0, 0.999),
    st.integers(0, 9),
    st.sampled_from(["global", "layerwise"]),
)
def test_counts_are_possible(final, share, updates, scope):
    rows = counts(scope, share, updates, final)
    assert len(rows) == updates + 1
    sizes = np.array([100, 20]) if scope == "layerwise" else 120
    for row in rows:
        assert row.dtype == np.int32
        kept, stay = row
        assert ((stay >= (kept > 0)) & (stay <= kept) & (kept - stay <= sizes - kept)).all()


def a_card(weights, mask):
    return Card({"k": jnp.array(weights)}, {"k": None}, {"k": jnp.array(mask)}, {})


def test_small_weights_go_and_the_largest_scores_come_as_zeros():
    weights = [0.5, -0.1, 0.2, 9.0, 8.0, -0.9]
    before = [True, True, True, False, False, True]
    scores = {"k": jnp.array([0.0, 5.0, -0.2, 0.1, -3.0, 7.0])}
    entry = Entry(jnp.array([4, 2]), None, None)
    after = exchange.Exchange(lambda card, entry: scores, None)(a_card(weights, before), entry)
    # 0.2 goes; -0.1 goes and comes back as it was; what was pruned comes from zero, whatever it had been.
    np.testing.assert_array_equal(after.mask["k"], [True, True, False, False, True, True])
    np.testing.assert_array_equal(after.params["k"], np.float32([0.5, -0.1, 0, 0, 0, -0.9]))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(0, 64), st.integers(0, 64))
def test_growing_is_exact_even_among_zeros(seed, kept, more):
    rng = np.random.RandomState(seed)
    scores = rng.choice([0.0, -0.0, 0.5, -0.5, 1.0], 64).astype(np.float32)
    mask = np.zeros(64, bool)
    mask[rng.permutation(64)[:kept]] = True
    more = min(more, 64 - kept)
    out = np.asarray(jax.jit(masks.grow)({"k": scores}, {"k": mask}, jnp.int32(more))["k"])
    assert out.sum() == kept + more and not (mask & ~out).any()
    if 0 < more < 64 - kept:
        assert np.abs(scores[out & ~mask]).min() >= np.abs(scores[~out]).max()


def tiny(method, **changes):
    base = {"sparsity": (0.8,), "epochs": 3, "pruning__every": 2, "pruning__end": 0.6}
    return small.tiny(method=method, **{**base, **changes})


@pytest.mark.parametrize("method", ["rigl", pytest.param("set", marks=pytest.mark.slow)])
def test_masks_move_until_the_end_and_never_change_their_size(method):
    seen = []
    found, t, _ = walk.walk(
        tiny(method, scope="layerwise", pruning__distribution="erk"),
        on_enter=lambda index, state: seen.append(state.card),
        on_update=lambda index, at, state: seen.append(state.card),
    )
    start, first, second, third = seen  # 6 steps an epoch; the last exchange is at 10 of 18
    wanted = masks.erk_counts(t.shapes, 0.8)
    for card in seen:
        np.testing.assert_array_equal([m.sum() for m in jax.tree.leaves(card.mask)], wanted)
        for path, mask in flatten(pruning.view(card, None)).items():
            if path in flatten(card.mask):
                assert not np.asarray(mask)[~flatten(card.mask)[path]].any()
    moved = lambda a, b: sum(
        int((x != y).sum())
        for x, y in zip(jax.tree.leaves(a.mask), jax.tree.leaves(b.mask), strict=True)
    )
    assert moved(start, first) > 0 and moved(first, second) > 0 and moved(second, third) == 0
    ((card, _),) = found.values()
    assert (
        moved(card, dataclasses.replace(third, mask=jax.tree.map(lambda m: m[0], third.mask))) == 0
    )


def test_without_an_exchange_it_is_a_random_mask():
    """The same first mask, the same data: equal up to the rounding of two programs."""
    (still, _), (control, _) = (
        next(iter(walk.walk(tiny(method, **more))[0].values()))
        for method, more in (("rigl", {"pruning__exchange": 0.0}), ("random", {}))
    )
    for a, b in zip(jax.tree.leaves(still.mask), jax.tree.leaves(control.mask), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(jax.tree.leaves(still), jax.tree.leaves(control), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_first_exchange_brings_the_largest_gradients_of_all_weights():
    """Against the gradient of the loss, taken outside of the training loop, in the weights before that step."""
    from cards_jax import train

    c = tiny("rigl", scope="global", pruning__end=0.3)
    t, group, state = small.trainer(c)
    every = group.phases[0].updates[1]
    state, _ = t.chunk(state, group, 0, 0, every, True)
    before = jax.tree.map(lambda x: np.asarray(x)[0], state.card)
    state, _ = t.chunk(state, group, 0, every, every + 1, True)
    after = jax.tree.map(lambda x: np.asarray(x)[0], state.card.mask)
    data = small.data()
    images, labels = jnp.asarray(data.train_images), jnp.asarray(data.train_labels)
    seed, phase = c.seeds[0], group.phases[0].number
    key = train.stream(seed, train.UPDATE, phase, every)
    gradient = train.entry_of(before, None, key, images, labels, t.recipe).gradient
    slope = flatten(gradient(pruning.view(before, None), 1))
    rows = group.phases[0].keep(t.shapes, 0.8)
    kept, stay = rows[1]
    stays = flatten(masks.prune(before.params, before.mask, jnp.asarray(stay)))
    came, left = [], []
    for path, mask in flatten(after).items():
        held = np.asarray(stays[path])
        assert not (held & ~mask).any()
        came.append(np.abs(slope[path])[mask & ~held])
        left.append(np.abs(slope[path])[~mask])
    came, left = np.concatenate(came), np.concatenate(left)
    assert len(came) == kept - stay > 0
    # Rounding inside and outside of the loop may differ where two gradients are all but equal.
    assert came.min() >= left.max() * (1 - 1e-3)


@pytest.mark.slow
def test_devices_that_share_a_batch_exchange_the_same_weights():
    """The gradient of an update is that of whole batches, on every device alike."""
    c = tiny("rigl", scope="global", pruning__every=1, pruning__end=0.5)
    found = []
    for devices in (1, 4):
        t, group, state = small.trainer(c, devices, split=devices)
        state, _ = t.chunk(state, group, 0, 0, 3, True)
        found.append(jax.tree.map(np.asarray, state.card))
    one, four = found
    for a, b in zip(jax.tree.leaves(one.mask), jax.tree.leaves(four.mask), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(four.params), strict=True):
        assert np.abs(a - b).max() < 1e-4 * np.abs(a).max()


def test_fields_out_of_range():
    with pytest.raises(ConfigError, match="pruning.exchange=1.0: allowed is from 0 to below 1"):
        tiny("rigl", pruning__exchange=1.0)
    with pytest.raises(ConfigError, match="a distribution over layers needs scope='layerwise'"):
        tiny("set", scope="global", pruning__distribution="erk")


def test_a_training_too_short_for_an_exchange_is_one_without():
    c = tiny("set", pruning__end=0.0)
    (phase,) = methods.method("set").phases(c, 6)
    assert len(phase.keep(SHAPES, 0.5)) == len(phase.updates) == 1
