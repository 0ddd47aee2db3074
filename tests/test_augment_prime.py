"""PRIME's primitives against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cards_jax import augment
from cards_jax.augment import _bilinear, prime


def drawn(primitive: int = 0, **values) -> prime.Draw:
    numbers = {"cut": 5, "heat": 0.0, "frequencies": 40, "temperature": 0.01, "sigma": 2.0}
    arrays = {k: jnp.asarray(v) for k, v in (numbers | values).items()}
    return prime.Draw(primitive=jnp.int32(primitive), key=jax.random.key(3), **arrays)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).random((32, 32, 3)).astype(np.float32)


@pytest.mark.parametrize("side", [8, 32, 120])
@pytest.mark.parametrize("cut", [2, 7, 30, 31, 45, 100])
def test_folded_modes_make_the_same_random_field(side, cut):
    """Covariances between pixels of the field as it is defined, with every mode up to the cut."""
    k = np.arange(1, cut + 1)
    square = k[:, None] ** 2 + k[None] ** 2
    variance = (square < (cut + 0.5) ** 2) / square
    sines = np.sin(np.pi * np.linspace(0, 1, side)[:, None] * k[None])
    spread, waves = prime._spread(side)
    a, b, c, d = np.random.default_rng(0).integers(0, side, (4, 300))  # pixels (a, b) and (c, d)
    wanted = np.einsum("pi,pj,ij->p", sines[a] * sines[c], sines[b] * sines[d], variance)
    found = np.einsum("pi,pj,ij->p", waves[a] * waves[c], waves[b] * waves[d], spread[cut] ** 2)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_heat_as_in_the_original():
    for cut in (2, 10, 20, 21, 100):
        least = 1 / (np.pi * 32**2 * np.log(cut))
        most = max(least, 4 / (np.pi**3 * cut**2 * np.log(cut)))
        for share in (0, 0.3, 1):
            wanted = least + share * (most - least)
            found = prime.deformation_heat(jnp.float32(share), jnp.float32(cut), 1.0, 32)
            np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_no_heat_moves_nothing(image):
    np.testing.assert_allclose(prime.deform(jnp.asarray(image), drawn(heat=0.0)), image, atol=1e-6)


def test_the_least_heat_moves_by_half_a_pixel_in_the_centre():
    ramp = jnp.broadcast_to(jnp.arange(32.0)[None, :, None] / 32, (32, 32, 3))
    heat = prime.deformation_heat(0.0, jnp.float32(5), 1.0, 32)
    move = lambda key: prime.deform(ramp, drawn(cut=5, heat=heat)._replace(key=key))
    moved = jax.jit(jax.vmap(move))(jax.random.split(jax.random.key(0), 60))
    centre = 32 * (moved - ramp[None])[:, 12:20, 12:20, 0]
    assert 0.3 < np.sqrt(np.square(centre).mean()) < 0.8


def test_deformations_need_square_images():
    with pytest.raises(ValueError, match="square images, got 4 x 6"):
        prime.deform(jnp.zeros((4, 6, 3)), drawn())


def test_bilinear_sampling(image):
    rng = np.random.default_rng(1)
    y, x = rng.uniform(0, 31, (2, 20, 10)).astype(np.float32)
    y[0, 0] = x[0, 0] = 31
    wanted = [ndimage.map_coordinates(image[..., c], [y, x], order=1) for c in range(3)]
    found = _bilinear.sample(jnp.asarray(image), y, x)
    np.testing.assert_allclose(found, np.stack(wanted, -1), atol=2e-5)


@pytest.mark.parametrize("frequencies", [1, 13, 100])
def test_colour_curves(image, frequencies):
    draw = drawn(frequencies=frequencies)
    normal = np.asarray(jax.random.normal(draw.key, (prime.MODES, 3)), np.float64)
    k = np.arange(1, frequencies + 1)
    waves = np.sin(np.pi * image[..., None].astype(np.float64) * k)
    wanted = image + np.einsum("hwck,kc->hwc", waves, 0.1 * normal[:frequencies])
    found = prime.colour(jnp.asarray(image), draw)
    np.testing.assert_allclose(found, wanted.clip(0, 1), atol=1e-4)


def test_filters(image):
    draw = drawn(sigma=1.3)
    kernel = 1.3 * np.asarray(jax.random.normal(draw.key, (3, 3)))
    kernel[1, 1] += 1
    wanted = [ndimage.correlate(image[..., c], kernel, mode="constant") for c in range(3)]
    found = prime.filtered(jnp.asarray(image), draw)
    np.testing.assert_allclose(found, np.stack(wanted, -1).clip(0, 1), atol=1e-5)
    np.testing.assert_array_equal(prime.filtered(jnp.asarray(image), drawn(sigma=0.0)), image)


def test_a_step_is_the_primitive_that_was_drawn(image):
    for i, primitive in enumerate(prime.PRIMITIVES):
        draw = drawn(i, heat=1e-3)
        found = jax.jit(prime.step)(image, draw)
        np.testing.assert_allclose(found, primitive(jnp.asarray(image), draw), atol=1e-5)


def test_draws(key):
    draw = jax.jit(lambda k: augment.views("prime").draw(k, (20000,), 32))(key)
    assert np.abs(np.bincount(draw.primitive, minlength=3) / 20000 - 1 / 3).max() < 0.02
    assert draw.cut.min() == 2 and draw.cut.max() <= 100
    assert draw.frequencies.min() == 1 and draw.frequencies.max() == 100
    assert abs(draw.temperature.mean() - 0.005) < 1e-4 and abs(draw.sigma.mean() - 2) < 0.05
    assert len(np.unique(jax.random.key_data(draw.key), axis=0)) == 20000
