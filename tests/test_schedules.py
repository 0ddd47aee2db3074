"""Learning-rate factors and progressive sparsities against hand-computed tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cards_jax import schedules


def test_cosine_per_epoch_is_the_originals():
    factors = schedules.learning_rate_factors("cosine", 100, 3, per="epoch")
    epoch = np.arange(100).repeat(3)
    np.testing.assert_allclose(factors, 0.5 * (1 + np.cos(np.pi * epoch / 100)), atol=1e-7)
    assert factors.dtype == np.float32 and factors.shape == (300,)


def test_cosine_per_step_starts_at_one_and_falls():
    factors = schedules.learning_rate_factors("cosine", 4, 25)
    assert factors[0] == 1 and np.all(np.diff(factors) < 0) and factors[-1] > 0


def test_drops():
    factors = schedules.learning_rate_factors("step", 160, 2, drops=(80, 120))
    np.testing.assert_allclose(factors[[0, 159, 160, 239, 240, 319]], [1, 1, 0.1, 0.1, 0.01, 0.01])


def test_warmup_is_linear_from_zero():
    factors = schedules.learning_rate_factors("constant", 4, 10, warmup_epochs=2)
    np.testing.assert_allclose(factors[:21], [*np.arange(20) / 20, 1], atol=1e-7)


def test_progressive_sparsity_of_biprop():
    density = [1 - s for s in schedules.progressive_sparsities(0.95, 10)]
    expected = [0.5, 0.378, 0.280, 0.204, 0.147, 0.106, 0.079, 0.062, 0.054, 0.050, 0.05]
    np.testing.assert_allclose(density, expected, atol=5e-4)


@given(st.floats(0, 0.999), st.integers(0, 30))
def test_progressive_sparsity_rises_to_the_target(final, epochs):
    values = schedules.progressive_sparsities(final, epochs)
    assert len(values) == epochs + 1 and values[-1] == final
    assert all(a <= b + 1e-12 for a, b in zip(values, values[1:], strict=False))


def test_unknown_kind():
    with pytest.raises(ValueError, match="cosine, step, constant"):
        schedules.learning_rate_factors("linear", 1, 1)
