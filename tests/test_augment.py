"""What every training augmentation promises, and what Gaussian noise is."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cards_jax import augment
from cards_jax.augment import _mixture
from cards_jax.data import digits


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Real scans, resized to 32 x 32, made coloured."""
    grey = digits.load("test")[0][:24]
    tint = np.array([1.0, 0.8, 0.6])
    return np.float32(np.uint8(grey * tint)) / np.float32(255)


def computed(f, *arguments):
    """f(*arguments), compiled in half the usual time."""
    program = jax.jit(f).lower(*arguments).compile({"xla_backend_optimization_level": 0})
    return np.asarray(program(*arguments))


def each(views, key, images):
    return jax.vmap(views)(jax.random.split(key, len(images)), images)


@pytest.mark.parametrize("name", augment.names())
def test_contract(name, images):
    """Floats in [0, 1], one image and one key at a time; the same alone and beside other images and realizations."""
    views = augment.views(name)
    assert views == augment.views(name) and hash(views) == hash(augment.views(name))
    keys = jax.random.split(jax.random.key(5), 3)
    found = computed(jax.vmap(partial(each, views), (0, None)), keys, images)
    count = 3 if hasattr(views, "consistency") else 1
    assert found.shape == (3, len(images), count, 32, 32, 3) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    alone = computed(views, jax.random.split(keys[2], len(images))[3], images[3])
    np.testing.assert_allclose(alone, found[2, 3], atol=1e-5)
    if name != "plain":
        assert (found[0] != found[1]).mean() > 0.05


@pytest.mark.parametrize("name", ["augmix", "prime"])
def test_mixtures_begin_with_the_image_itself(name, key, images):
    found = computed(partial(each, augment.views(name, first="plain")), key, images)
    np.testing.assert_array_equal(found[:, 0], images)
    distance = np.abs(found[:, 1:] - images[:, None]).mean((2, 3, 4))
    assert (distance > 0).mean() > 0.9
    assert (found[:, 1] != found[:, 2]).any((1, 2, 3)).mean() > 0.9


@pytest.mark.parametrize("name", ["augmix", "prime"])
def test_without_consistency_there_is_one_mixture(name, key, images):
    single = augment.views(name, first="plain", consistency=0.0)
    found = computed(partial(each, single), key, images)
    assert found.shape[1] == 1 and (found[:, 0] != images).any((1, 2, 3)).mean() > 0.9


@pytest.mark.parametrize("first", ["plain", "crop", "standard"])
def test_the_first_augmentation_is_a_setting(first, key, images):
    found = computed(partial(each, augment.views("gaussian", first=first, p=0.0)), key, images)
    scans = {x.tobytes() for x in images}
    same = np.mean([x.tobytes() in scans for x in found[:, 0]])
    assert same == 1 if first == "plain" else same < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["augmix", "prime"])
def test_accelerators_compute_the_same(name, key, images, monkeypatch):
    """All operations of all images at once, instead of a loop over images."""
    looped = computed(partial(each, augment.views(name)), key, images[:6])
    monkeypatch.setattr(_mixture, "sequential_vmap", lambda chain: chain)
    at_once = computed(partial(each, augment.views(name)), key, images[:6])
    np.testing.assert_allclose(at_once, looped, atol=2e-5)


def test_settings_have_defaults():
    assert augment.settings("standard") == {}
    assert augment.settings("gaussian") == {"sigma": 0.1, "p": 0.5, "first": "standard"}
    augmix = augment.settings("augmix")
    assert (augmix["severity"], augmix["width"], augmix["depth"], augmix["alpha"]) == (3, 3, 0, 1)
    with pytest.raises(TypeError, match="severty"):
        augment.views("augmix", severty=1)


@pytest.mark.parametrize(
    "name, values",
    [
        ("gaussian", {"sigma": (0.05, 0.2), "p": (0.9, 0.4)}),
        ("augmix", {"severity": (1.0, 5.0), "alpha": (0.5, 2.0)}),
        pytest.param(
            "prime",
            {"sigma": (1.0, 4.0), "temperature": (0.001, 0.02), "deformation": (0.1, 1.0)},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_strength_may_vary_along_an_axis(name, values, key, images):
    """A traced setting gives what the same static setting gives."""
    views = augment.views(name)

    def of(values, key):
        return each(dataclasses.replace(views, **values), key, images[:6])

    many = jax.tree.map(jnp.float32, values, is_leaf=lambda x: isinstance(x, tuple))
    together = computed(jax.vmap(of, (0, None)), many, key)
    alone = computed(partial(of, {field: value[1] for field, value in values.items()}), key)
    np.testing.assert_allclose(together[1], alone, atol=2e-5)
    assert (together[0] != together[1]).any()


# --- Gaussian noise


def test_gaussian_noise_falls_on_half_of_the_images(key):
    grey = np.full((400, 16, 16, 3), 0.5, np.float32)
    change = (
        computed(partial(each, augment.views("gaussian", first="plain")), key, grey)[:, 0] - 0.5
    )
    noisy = (change != 0).any((1, 2, 3))
    assert abs(noisy.mean() - 0.5) < 0.08
    assert (change[noisy] != 0).mean() > 0.999
    assert abs(change[noisy].std() - 0.1) < 0.001 and abs(change[noisy].mean()) < 0.001


def test_gaussian_noise_is_clamped(key):
    black = np.zeros((50, 8, 8, 3), np.float32)
    found = computed(partial(each, augment.views("gaussian", p=1.0, first="plain")), key, black)
    assert abs((found == 0).mean() - 0.5) < 0.02 and found.max() < 0.6
