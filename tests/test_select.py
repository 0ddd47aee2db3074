"""Exactly the k largest, against a stable sort of numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cards_jax import select

FORMULATIONS = select.FORMULATIONS


def by_sorting(x: np.ndarray, k: int) -> np.ndarray:
    """Mask of the k largest |x|, lower index first among equals."""
    order = np.argsort(-np.abs(x).ravel(), kind="stable")
    mask = np.zeros(x.size, bool)
    mask[order[:k]] = True
    return mask.reshape(x.shape)


@pytest.fixture(scope="module", params=FORMULATIONS)
def largest(request):
    """Compiled once for arrays of one shape; k is traced."""
    return jax.jit(lambda xs, k: select.largest(xs, k, formulation=request.param))


floats = hnp.arrays(
    np.float32, 60, elements=st.floats(-3, 3, width=32) | st.sampled_from([0.0, 1, -1])
)


@settings(max_examples=60, deadline=None)
@given(x=floats, k=st.integers(0, 60))
def test_equals_a_stable_sort(largest, x, k):
    (mask,) = largest([x], k)
    np.testing.assert_array_equal(mask, by_sorting(x, k))


@settings(max_examples=40, deadline=None)
@given(x=floats, k=st.integers(0, 60))
def test_arrays_are_ranked_jointly(largest, x, k):
    parts = [x[:7], x[7:37].reshape(5, 6), x[37:]]
    masks = np.concatenate([np.ravel(m) for m in largest(parts, k)])
    np.testing.assert_array_equal(masks, by_sorting(x, k))


@settings(max_examples=30, deadline=None)
@given(x=floats, k=st.integers(0, 59))
def test_masks_nest(largest, x, k):
    (small,), (large,) = largest([x], k), largest([x], k + 1)
    assert np.all(np.asarray(large)[np.asarray(small)])


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("k", [0, 1, 2047, 2048, 2049, 5000, 9999, 10000])
def test_constant_scores_keep_exactly_k_by_index(formulation, k):
    (mask,) = select.largest([jnp.full(10000, 0.5)], k, formulation=formulation)
    np.testing.assert_array_equal(mask, np.arange(10000) < k)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_a_million_values_with_ties(formulation):
    x = np.round(np.random.default_rng(0).standard_normal(1_000_003).astype(np.float32), 3)
    (mask,) = select.largest([x], 123_456, formulation=formulation)
    np.testing.assert_array_equal(mask, by_sorting(x, 123_456))
    t = select.threshold([x], 123_456, formulation)
    assert t == np.sort(np.abs(x))[-123_456]


def test_strict_ties_are_dropped():
    x = jnp.array([3.0, -2.0, 2.0, 1.0])
    (mask,) = select.largest([x], 2, ties="strict")
    np.testing.assert_array_equal(mask, [True, False, False, False])
    (mask,) = select.largest([x], 3, ties="strict")
    np.testing.assert_array_equal(mask, [True, True, True, False])


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_vmap_equals_a_loop(formulation):
    x = np.random.default_rng(1).standard_normal((3, 5000)).astype(np.float32)
    k = jnp.array([1, 2500, 4999])
    one = lambda x, k: select.largest([x], k, formulation=formulation)[0]
    masks = jax.jit(jax.vmap(one))(x, k)
    for i in range(3):
        np.testing.assert_array_equal(masks[i], by_sorting(x[i], int(k[i])))


@pytest.mark.parametrize("kind", ["periodic", "sorted", "tiny and huge", "few values", "zeros"])
def test_samples_that_mislead_still_end_exact(kind):
    """Arrays whose sample says little about the rest, in two leaves that no piece divides."""
    n = select.SAMPLED_FROM + 77
    rng, run = np.random.default_rng(0), np.arange(n) // select.RUN
    x = {
        "periodic": np.where(run % select.STRIDE == 0, 1e-3, rng.random(n)),
        "sorted": np.linspace(0, 1, n),
        "tiny and huge": np.where(rng.random(n) < 0.5, 1e-38, 1e38) * rng.random(n),
        "few values": rng.integers(0, 3, n) / 2,
        "zeros": np.zeros(n),
    }[kind].astype(np.float32)
    parts = [x[:100_003], x[100_003:]]
    find = jax.jit(lambda parts, k: select.largest(parts, k, formulation="histogram"))
    order = np.argsort(-x, kind="stable")
    for k in (1, 400_000, n - 1):
        mask = np.concatenate(find(parts, k))
        assert mask.sum() == k and mask[order[:k]].all()


@pytest.fixture(scope="module")
def narrow():
    """The value at a rank, how many lie below it and how many equal it, from any bracket."""
    return jax.jit(lambda x, rank, low, high: select._narrow([x], rank, low, high, bits=6))


@settings(max_examples=80, deadline=None)
@given(
    x=hnp.arrays(np.float32, 50, elements=st.floats(width=32, allow_nan=False) | st.just(0.0)),
    rank=st.integers(0, 49),
    bracket=st.tuples(st.integers(0, select.TOP), st.integers(0, 200)),
    near=st.integers(-200, 200),
)
def test_brackets_that_miss_still_end_exact(narrow, x, rank, bracket, near):
    bits = np.sort(np.asarray(select.magnitude_bits(jnp.asarray(x))))
    wanted, below = int(bits[rank]), int(np.sum(bits < bits[rank]))
    for low, high in (
        (0, select.TOP),
        (bracket[0], min(bracket[0] + bracket[1], select.TOP)),
        (bracket[0], select.TOP),
        (min(max(wanted + near, 0), select.TOP),) * 2,
    ):
        found = [int(v) for v in narrow(x, rank, np.int32(low), np.int32(high))]
        assert found == [wanted, below, int(np.sum(bits == wanted))]
