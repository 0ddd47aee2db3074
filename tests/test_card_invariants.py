"""What holds for every finished card: nested masks, exact sparsity, three values per binary layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cards_jax import masks, popup
from cards_jax.card import Card

SHAPES = {"a": (3, 3, 2, 5), "b": (7, 4), "c": (3, 2, 1, 3)}
SIZES = [90, 28, 18]
thousandths = st.integers(0, 1000).map(lambda n: n / 1000)
SCORES = {
    "distinct": lambda rng, shape: rng.normal(size=shape),
    "tied": lambda rng, shape: rng.integers(-2, 3, shape),
    "equal": lambda rng, shape: np.ones(shape),
}


def popup_card(seed: int, kind: str) -> Card:
    """Scores and random weights, none of them zero, and something that is never pruned."""
    rng = np.random.default_rng(seed)
    floats = lambda f: {k: jnp.asarray(f(shape), jnp.float32) for k, shape in SHAPES.items()}
    scores = floats(lambda shape: SCORES[kind](rng, shape))
    weights = floats(lambda shape: rng.choice([-1, 1], shape) * rng.uniform(0.1, 2, shape))
    return Card({**scores, "d": jnp.ones(3)}, {**weights, "d": None}, None, {})


mask_of = jax.jit(popup.View(True).mask)
finished = {binary: jax.jit(popup.View(binary).finish) for binary in (True, False)}


def counts(sparsity: float, scope: str) -> jax.Array:
    return jnp.asarray(masks.keep_counts(SIZES, sparsity, scope))


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("scope", masks.SCOPES)
@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), thousandths, thousandths)
def test_masks_of_one_score_vector_nest(scope, kind, seed, one, other):
    card = popup_card(seed, kind)
    low, high = sorted((one, other))
    more, fewer = (mask_of(card, counts(s, scope)) for s in (low, high))
    assert all(
        bool((m >= f).all()) for m, f in zip(*map(jax.tree.leaves, (more, fewer)), strict=True)
    )


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("scope", masks.SCOPES)
@pytest.mark.parametrize("binary", [True, False])
@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), thousandths)
def test_zeros_are_what_was_asked(binary, scope, kind, seed, sparsity):
    card = finished[binary](popup_card(seed, kind), counts(sparsity, scope))
    pruned = [int((~m).sum()) for m in jax.tree.leaves(card.mask)]
    zeros = [int((card.params[k] == 0).sum()) for k in SHAPES]
    exactly = lambda n: n * round(1000 * sparsity) // 1000
    asked = [exactly(n) for n in SIZES]
    assert zeros == pruned
    assert pruned == asked if scope == "layerwise" else sum(pruned) == exactly(sum(SIZES))
    np.testing.assert_array_equal(card.params["d"], np.ones(3))


@pytest.mark.parametrize("scope", masks.SCOPES)
@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), thousandths)
def test_binary_layers_hold_three_values_at_most(scope, seed, sparsity):
    card = finished[True](popup_card(seed, "distinct"), counts(sparsity, scope))
    for name in SHAPES:
        values = np.unique(np.asarray(card.params[name]))
        assert len(values) <= 3 and len(np.unique(np.abs(values[values != 0]))) <= 1
