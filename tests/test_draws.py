"""Numbers that are drawn in a row are those that are drawn in a shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from cards_jax.draws import shaped
from cards_jax.models import layers

DRAWS = {
    "bits": jax.random.bits,
    "bernoulli": lambda key, shape: jax.random.bernoulli(key, 0.3, shape),
    "normal": jax.random.normal,
    "rademacher": jax.random.rademacher,
    "randint": lambda key, shape: jax.random.randint(key, shape, -3, 1000),
    "split": lambda key, shape: jax.random.key_data(jax.random.split(key, shape)),
    "uniform": jax.random.uniform,
}


@pytest.mark.parametrize("name", DRAWS)
@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple))
def test_the_same_numbers(name, seed, shape):
    draw, key = DRAWS[name], jax.random.key(seed)
    wanted = draw(key, shape)
    if name == "split":
        found = jax.random.key_data(shaped(jax.random.split, key, shape))
    else:
        found = shaped(draw, key, shape)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("shape", [(3, 3, 16, 32), (5, 5, 3, 7), (64, 10)])
def test_kernels_begin_as_those_of_the_library(shape):
    keys = jax.random.split(jax.random.key(3), 2)
    for ours, mode in ((layers.kaiming_normal, "fan_in"), (layers.kaiming_normal_out, "fan_out")):
        theirs = nn.initializers.variance_scaling(2.0, mode, "normal")
        for draw in (
            lambda f: f(keys[0], shape),
            lambda f: jax.jit(jax.vmap(lambda k: f(k, shape)))(keys),
        ):
            np.testing.assert_array_equal(draw(ours), draw(theirs))
    assert ours(keys[0], shape).dtype == jnp.float32
