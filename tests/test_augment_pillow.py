"""Pillow's operations in jnp against Pillow, and AugMix against AugMix as the original makes it."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cards_jax import augment
from cards_jax.augment import _pillow, augmix
from cards_jax.data import digits

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.pillow import pillow_step, pillow_views  # noqa: E402

EXACT = ("equalize", "posterize", "solarize", "translate_x", "translate_y")


def differences(found, wanted) -> tuple[float, int]:
    """(fraction of equal values, largest difference)."""
    apart = np.abs(np.asarray(found).astype(int) - wanted)
    return (apart == 0).mean(), apart.max()


def operation(name: str, value: float):
    """A function of one image, from a name in the fixture."""
    moved = np.eye(2, 3, dtype=np.float32)
    entry = {"shear_x": (0, 1), "shear_y": (1, 0), "translate_x": (0, 2), "translate_y": (1, 2)}
    if name in entry:
        moved[entry[name]] = value
        return lambda image: _pillow.affine(image, jnp.asarray(moved))
    if name == "rotate":
        return lambda image: _pillow.affine(image, _pillow.rotation(value, *image.shape[:2]))
    if name in ("posterize", "solarize"):
        return lambda image: getattr(_pillow, name)(image, int(value))
    return getattr(_pillow, name)


def test_golden_images(fixtures_dir):
    """Every operation at fixed parameters, from the original."""
    golden = np.load(fixtures_dir / "augmix_ops_golden.npz")
    clean, seen = jnp.asarray(golden["clean"]), set()
    for case in golden.files:
        name, _, value = case.rpartition("_")
        if case in ("autocontrast", "equalize"):
            name, value = case, 0
        if case == "clean":
            continue
        found = jax.vmap(operation(name, float(value)))(clean)
        equal, largest = differences(found, golden[case])
        seen.add(name)
        assert (equal == 1) if name in EXACT else (equal > 0.995 and largest <= 1), case
    assert seen == set(augmix.OPERATIONS)


# --- beside the installed Pillow, on real images


@pytest.fixture(scope="module")
def scans() -> np.ndarray:
    """Digits of 32 x 32, tinted and on a grey ground, so that every operation has something to do."""
    grey = digits.load("test")[0][:40] / 255
    return np.uint8(25 + grey * np.array([220, 180, 100]))


def drawn(name: str, level, sign) -> augmix.Draw:
    index = augmix.OPERATIONS.index(name)
    return augmix.Draw(jnp.int32(index), jnp.float32(level), jnp.float32(sign))


step = jax.jit(augmix.step)
steps = jax.jit(jax.vmap(augmix.step, (0, None)))


@pytest.mark.parametrize("name", augmix.OPERATIONS)
@pytest.mark.parametrize("level", [0.1, 1.7, 2.95, 9.9])
def test_steps_are_pillows(name, level, scans):
    for sign in (-1, 1):
        found = steps(scans, drawn(name, level, sign))
        index = augmix.OPERATIONS.index(name)
        wanted = [pillow_step(Image.fromarray(x), index, level, sign) for x in scans]
        equal, largest = differences(found, np.stack([np.asarray(x) for x in wanted]))
        assert (equal == 1) if name in EXACT else (equal > 0.98 and largest <= 1)


@pytest.mark.parametrize("shape", [(17, 40), (8, 8), (64, 64)])
def test_images_of_other_sizes(shape):
    image = np.random.default_rng(0).integers(30, 200, (*shape, 3), np.uint8)
    for index, name in enumerate(augmix.OPERATIONS):
        wanted = np.asarray(pillow_step(Image.fromarray(image), index, 2.9, 1))
        equal, largest = differences(step(image, drawn(name, 2.9, 1)), wanted)
        assert equal > 0.98 and largest <= 1, name


@pytest.mark.parametrize("levels", [(0, 0), (255, 255), (7, 7), (0, 255), (100, 101)])
def test_flat_and_two_level_images(levels):
    image = np.full((32, 32, 3), levels[0], np.uint8)
    image[:, 16:, 1] = levels[1]
    for index in range(augmix.COLOURS):
        wanted = np.asarray(pillow_step(Image.fromarray(image), index, 2.0, 1))
        found = step(image, drawn(augmix.OPERATIONS[index], 2.0, 1))
        assert differences(found, wanted)[1] <= (index == 0)


def test_chains_of_three_steps(scans, key):
    """Differences of one level may grow along a chain, but stay rare."""
    draws = augmix.draw(key, (len(scans), 3), 3.0)
    found = jnp.asarray(scans)
    for i in range(3):
        found = jax.jit(jax.vmap(augmix.step))(found, jax.tree.map(lambda d, i=i: d[:, i], draws))
    wanted = []
    for scan, *draw in zip(scans, *map(np.asarray, draws), strict=True):
        image = Image.fromarray(scan)
        for values in zip(*draw, strict=True):
            image = pillow_step(image, *values)
        wanted.append(np.asarray(image))
    assert differences(found, np.stack(wanted))[0] > 0.99


def test_draws_are_uniform(key):
    draw = augmix.draw(key, (20000,), 3.0)
    counts = np.bincount(draw.operation, minlength=9)
    assert len(counts) == 9 and np.abs(counts / 20000 - 1 / 9).max() < 0.01
    assert 0.1 <= draw.level.min() < 0.102 and 2.998 < draw.level.max() <= 3
    assert set(np.unique(draw.sign)) == {-1, 1} and abs(draw.sign.mean()) < 0.03


def _changes(views_NVHWC: np.ndarray) -> tuple[float, float]:
    """How far mixtures lie from the image, and from each other."""
    clean, one, two = np.moveaxis(views_NVHWC, 1, 0)
    return (np.abs(one - clean).mean() + np.abs(two - clean).mean()) / 2, np.abs(one - two).mean()


def compared(images: np.ndarray, severity: float, tolerance: float) -> None:
    ours = jax.jit(jax.vmap(augment.views("augmix", severity=severity, first="plain")))
    keys = jax.random.split(jax.random.key(0), len(images))
    found = _changes(np.asarray(ours(keys, images / np.float32(255))))
    rng = np.random.default_rng(0)
    wanted = [pillow_views(rng, Image.fromarray(x), severity, first=False) for x in images]
    np.testing.assert_allclose(found, _changes(np.stack(wanted)), rtol=tolerance)


# Tolerances are 3.5 standard deviations: single mixtures differ much.


@pytest.mark.slow
def test_mixtures_change_images_as_much_as_the_originals(scans):
    compared(np.tile(scans, (50, 1, 1, 1)), 3.0, 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("severity", [1.0, 3.0, 8.0])
def test_mixtures_of_photographs(data_dir, severity):
    compared(np.load(data_dir / "cifar10_lossless_6k.npz")["train_images"], severity, 0.06)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_depth_and_width(scans, depth, key):
    """A chain of fixed depth is so many steps of its own draws."""
    from cards_jax.augment import _mixture

    draws = augmix.draw(key, (5, depth), 3.0)
    chains = _mixture.chains(key, jnp.asarray(scans[0]), draws, augmix.step, depth)
    for chain, draw in zip(chains, zip(*draws, strict=True), strict=True):
        wanted = jnp.asarray(scans[0])
        for values in zip(*draw, strict=True):
            wanted = step(wanted, augmix.Draw(*values))
        np.testing.assert_array_equal(chain, wanted)


def test_random_depths_are_one_to_three(key):
    """Counted by steps that add one."""
    from cards_jax.augment import _mixture

    draws = jnp.zeros((300, 3))
    chains = _mixture.chains(key, jnp.zeros((1, 1, 1)), draws, lambda x, _: x + 1, 0)
    values, counts = np.unique(chains, return_counts=True)
    assert values.tolist() == [1, 2, 3] and counts.min() > 70


def test_weights_of_a_mixture(key):
    """Means of Dirichlet and Beta weights: the image keeps half, each chain gets a sixth."""
    from cards_jax.augment import _mixture

    chains = jnp.eye(3)[:, None, None]  # each chain has a channel of its own
    mix = jax.vmap(lambda k: _mixture.mixed(k, jnp.zeros((1, 1, 3)), chains, 1.0))
    mixed = np.asarray(mix(jax.random.split(key, 4000)))[:, 0, 0]
    np.testing.assert_allclose(mixed.mean(0), 1 / 6, atol=0.01)
    share = mixed.sum(1)  # uniform
    np.testing.assert_allclose(np.quantile(share, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)
    assert mixed.min() >= 0
