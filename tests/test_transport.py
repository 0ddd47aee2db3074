"""Distances of distributions against exact ones."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance

from cards_jax.evaluate import transport


def sets(columns: int, rows: int = 40):
    rng = np.random.default_rng(columns)
    x, y = rng.normal(0, 1, (2, rows, columns))
    return np.float32(x), np.float32(0.7 + 1.3 * y)


@pytest.mark.parametrize("columns", [1, 5])
def test_sinkhorn_approaches_the_exact_cost(columns):
    x, y = sets(columns)
    costs = transport.costs(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(costs, np.linalg.norm(x[:, None] - y[None], axis=-1), rtol=1e-5)
    rows, places = linear_sum_assignment(np.asarray(costs))
    exact = float(costs[rows, places].mean())
    if columns == 1:
        assert exact == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]), rel=1e-5)
    wide, narrow = (float(transport.sinkhorn(costs, b * costs.mean(), 1000)) for b in (0.1, 0.01))
    assert abs(narrow - exact) < 0.06 * exact < abs(wide - exact)
    debiased = float(transport.divergence(x, y, 0.01))
    assert debiased == pytest.approx(exact, rel=0.15)
    assert float(transport.coupled(x, y)) >= exact


def test_a_set_is_where_it_is():
    x, y = sets(3)
    assert abs(float(transport.divergence(x, x))) < 1e-4
    moved = float(transport.divergence(x, x + np.float32([3, 4, 0])))
    assert moved == pytest.approx(5, rel=0.05)  # a shift costs its length, but for the blur
    assert float(transport.divergence(x, y)) == pytest.approx(
        float(transport.divergence(y, x)), rel=1e-3
    )


def test_by_class():
    rng = np.random.default_rng(0)
    labels = np.array([0] * 9 + [1] * 16)
    images = rng.uniform(0, 1, (25, 2, 2, 3)).astype(np.float32)
    changed = images + np.float32(0.5) * labels[:, None, None, None]
    found = transport.by_class(images, changed, labels)
    assert found["coupled"] == pytest.approx(16 / 25 * 0.5 * 12**0.5, rel=1e-4)
    assert found["sinkhorn"] > found["null"] + 0.3
    same = transport.by_class(images, images, labels)
    assert same["coupled"] == 0 and same["sinkhorn"] == same["null"]
    few = transport.by_class(images[7:11], changed[7:11], labels[7:11])
    assert np.isnan(few["null"]) and few["coupled"] > 0
