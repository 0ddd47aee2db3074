"""Masks as bytes: nothing lost, close to the entropy, and no bytes that break it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cards_jax import codec
from cards_jax.codec import Code

SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)


def random_mask(size: int, sparsity: float, seed: int = 0) -> np.ndarray:
    """Exactly so many weights, anywhere."""
    mask = np.arange(size) >= int(sparsity * size)
    return np.random.default_rng(seed).permutation(mask)


def bits_over_entropy(mask: np.ndarray) -> float:
    _, content = codec.encode(mask)
    return 8 * len(content) / codec.entropy(int(mask.sum()), mask.size)


def test_against_literals():
    """Gaps 1, 0, 6 with m = 3: quotients 0, 0, 2; remainders 1 -> 10, 0 -> 0, 0 -> 0."""
    mask = np.zeros(16, bool)
    mask[[1, 2, 9]] = True
    code, content = codec.encode(mask)
    assert code == Code(marked=3, inverted=0, divisor=3, quotients=5, tails=1)
    assert content == bytes([0b11001000, 0b10000000, 0b00000000])


def test_one_half_is_the_mask_itself():
    mask = np.array([1, 0, 0, 1, 1, 0, 1, 0], bool)
    assert codec.encode(mask) == (Code(4, 0, 1, 7, 0), bytes([0b10011010]))


@given(arrays.arrays(bool, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=9)))
def test_nothing_is_lost(mask):
    code, content = codec.encode(mask)
    assert Code.checked(list(code), mask.size) == code
    assert len(content) == sum(code.bytes) and code.kept(mask.size) == mask.sum()
    np.testing.assert_array_equal(codec.decode(code, content, mask.shape), mask)


@given(st.integers(1, 5000), st.floats(0, 1), st.integers(0, 100))
def test_nothing_is_lost_at_any_density(size, sparsity, seed):
    mask = random_mask(size, sparsity, seed)
    np.testing.assert_array_equal(codec.decode(*codec.encode(mask), mask.shape), mask)


@pytest.mark.parametrize("sparsity", [*SPARSITIES, 0.02, 0.2, 0.4, 0.999])
def test_close_to_the_entropy(sparsity):
    assert bits_over_entropy(random_mask(200_000, sparsity)) < (1.05 if sparsity < 0.7 else 1.012)


@pytest.mark.parametrize("sparsity", [0.8, 0.9, 0.95, 0.98])
def test_no_worse_where_weights_stand_close_together(sparsity):
    """Whole rows and columns are gone, as global pruning leaves them."""
    mask = np.zeros((400, 500), bool)
    mask[100:300, 50:450] = random_mask(80_000, 1 - (1 - sparsity) * 2.5).reshape(200, 400)
    assert bits_over_entropy(mask) < 1.05
    assert bits_over_entropy(mask.T) < 1.05


@pytest.mark.parametrize("density", [0.001, 0.02, 0.05, 0.2, 0.35, 0.5])
def test_the_divisor_is_the_best(density):
    mask = random_mask(50_000, 1 - density)
    gaps = np.diff(np.flatnonzero(mask), prepend=-1) - 1

    def cost(m):
        short = (1 << (m - 1).bit_length()) - m if m > 1 else 1
        return sum(gaps // m + 1 + max((m - 1).bit_length() - 1, 0) + (gaps % m >= short))

    m = codec.best_divisor(len(gaps), mask.size)
    others = [n for n in (m - 2, m - 1, m + 1, m + 2) if n > 0]
    assert cost(m) <= 1.002 * min(map(cost, others))
    code, _ = codec.encode(mask)
    assert cost(m) == code.quotients + code.marked * code.width + code.tails


@given(st.lists(st.integers(-2, 70) | st.integers(0, 2**70), min_size=5, max_size=5), st.data())
def test_any_code_and_bytes_give_a_mask_or_a_reason(fields, data):
    try:
        code = Code.checked(fields, 60)
        content = data.draw(st.binary(min_size=sum(code.bytes), max_size=sum(code.bytes)))
        mask = codec.decode(code, content, (6, 10))
    except ValueError as error:
        assert str(error)
    else:
        assert mask.shape == (6, 10) and mask.sum() == code.kept(60)


@given(st.data())
def test_damaged_streams_give_a_mask_or_a_reason(data):
    code, content = codec.encode(random_mask(600, 0.9))
    at = data.draw(st.integers(0, 8 * len(content) - 1))
    damaged = bytearray(content)
    damaged[at // 8] ^= 128 >> at % 8
    try:
        assert codec.decode(code, bytes(damaged), (600,)).sum() == 60
    except ValueError as error:
        assert str(error)
    with pytest.raises(ValueError, match="bytes instead of"):
        codec.decode(code, content[: at // 8], (600,))


@pytest.mark.parametrize(
    "fields",
    [[3, 0, 3, 5], [3.0, 0, 3, 5, 1], [True, 0, 3, 5, 1], [3, 2, 3, 5, 1], [9, 0, 3, 9, 1]],
)
def test_codes_of_no_mask_are_refused(fields):
    with pytest.raises((ValueError, TypeError)):
        Code.checked(fields, 16)
