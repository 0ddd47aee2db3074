"""Every corruption keeps its contract, whatever it does to the image."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from photographs import photographs

from cards_jax import corruptions
from cards_jax.config import ConfigError
from cards_jax.corruptions import program

RANDOM = [name for name in corruptions.names() if corruptions.find(name).draw]
ALL = corruptions.BENCHMARK + corruptions.EXTRA + corruptions.BAR


def test_the_published_sets_are_what_the_modules_hold():
    assert sorted(ALL) == corruptions.names()
    assert (len(corruptions.BENCHMARK), len(corruptions.EXTRA), len(corruptions.BAR)) == (15, 4, 10)
    assert corruptions.names("bar") == sorted(corruptions.BAR)
    families = {name: corruptions.find(name).family for name in corruptions.BENCHMARK}
    assert (
        list(families.values()) == ["noise"] * 3 + ["blur"] * 4 + ["weather"] * 4 + ["digital"] * 4
    )


def test_deterministic_ones_take_no_key():
    assert {name for name in ALL if name not in RANDOM} == {
        *("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"),
        *("gaussian_blur", "saturate", "circular_motion_blur"),
    }


@pytest.mark.parametrize("name", ["fogg", "", None])
def test_an_unknown_name_gets_the_nearest_and_all(key, name):
    with pytest.raises(ConfigError, match="corruption: .* not known; the nearest is '") as error:
        corruptions.corrupt(key, photographs(32, 1), name, 1)
    assert all(each in str(error.value) for each in ALL)
    assert name != "fogg" or "nearest is 'fog'" in str(error.value)


@pytest.mark.parametrize("severity", [0, 6, -1, 2.5, "3", None])
def test_an_unknown_severity_is_refused(key, severity):
    with pytest.raises(ConfigError, match="severity: got .*; allowed are 1, 2, 3, 4, 5"):
        corruptions.corrupt(key, photographs(32, 1), "contrast", severity)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 32, 32, 3), np.float32),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((2, 32, 30, 3), np.uint8),
        np.zeros((2, 32, 32, 1), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((0, 32, 32, 3), np.uint8),
        [[1, 2], [3, 4]],
    ],
)
def test_images_of_another_kind_are_refused(key, images):
    with pytest.raises(ValueError, match="images: got .*; allowed are uint8"):
        corruptions.corrupt(key, images, "contrast", 1)


@pytest.mark.parametrize("name", ALL)
def test_images_keep_their_kind_and_change_more_or_less(key, name):
    """One compilation for all severities, given as a number or traced."""
    images = photographs(32, 6)
    made = [corruptions.corrupt(key, images, name, severity) for severity in (1, 3, 5)]
    for each in made:
        assert each.shape == images.shape and each.dtype == jnp.uint8
        assert not np.array_equal(each, images)
    again = corruptions.corrupt(key, jnp.asarray(images), name, jnp.int32(3))
    np.testing.assert_array_equal(again, made[1])


@pytest.mark.parametrize("name", RANDOM)
def test_draws_differ_between_keys_and_not_with_the_same(key, name):
    draw = jax.jit(lambda key: corruptions.find(name).draw(key, 4, (32, 32, 3)))
    first, again, other = (jax.tree.leaves(draw(k)) for k in (key, key, jax.random.key(1)))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    # Few-valued draws (a permutation, nine signs) may agree by chance, all of 20 keys do not.
    others = [jax.tree.leaves(draw(jax.random.key(k))) for k in range(2, 22)]
    assert any(
        not np.array_equal(a, b) for o in [other, *others] for a, b in zip(first, o, strict=True)
    )


@pytest.mark.parametrize("name", ["jpeg_compression", "glass_blur"])
def test_a_sweep_over_severities_is_one_program(key, name):
    images = photographs(32, 3)
    sweep = jax.jit(jax.vmap(lambda s: corruptions.corrupt(key, images, name, s)))
    alone = [corruptions.corrupt(key, images, name, s) for s in corruptions.SEVERITIES]
    np.testing.assert_array_equal(sweep(jnp.arange(1, 6)), np.stack(alone))


PIECED = ["impulse_noise", "glass_blur", "zoom_blur", "gaussian_blur", "circular_motion_blur"]


def assert_same(name, a, b):
    if name != "circular_motion_blur":
        np.testing.assert_array_equal(a, b)
        return
    apart = np.abs(np.asarray(a, int) - b)  # rounding of a matrix product, by the number of images
    assert apart.max() <= 1 and apart.mean() <= 1e-3


@pytest.mark.parametrize("name", PIECED)
def test_pieces_give_what_the_whole_gives(key, name, monkeypatch):
    images = photographs(32, 7)
    images[:, :16] = images[
        :, :1, :1
    ]  # an even area, where a blur changes nothing but for rounding
    whole = corruptions.corrupt(key, images, name, 5)
    pieces = [corruptions.corrupt(key, images[i : i + 3], name, 5, i) for i in (0, 3, 6)]
    assert_same(name, whole, np.concatenate(pieces))
    monkeypatch.setitem(program.PIECE, "cpu", 2)  # four pieces, the last of them filled up
    program._corrupted.clear_cache()
    assert_same(name, whole, corruptions.corrupt(key, images, name, 5))
    program._corrupted.clear_cache()


def test_equal_images_are_corrupted_differently(key):
    images = np.repeat(photographs(32, 1), 2, 0)
    first, second = corruptions.corrupt(key, images, "spatter", 3)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("size", [28, 64])
@pytest.mark.parametrize("name", ["fog", "jpeg_compression", "checkerboard_cutout", "lines"])
def test_other_sides(key, name, size):
    images = photographs(size, 2)
    made = corruptions.corrupt(key, images, name, 3)
    assert made.shape == images.shape and not np.array_equal(made, images)


@pytest.mark.slow
@pytest.mark.parametrize("size", [27, 48, 96])
@pytest.mark.parametrize("name", ALL)
def test_all_other_sides(key, name, size):
    """Sides for which nothing was published, odd ones too."""
    images = photographs(size, 2)
    if name == "circular_motion_blur" and size > 64:
        with pytest.raises(ValueError, match="circular_motion_blur: images of 96 .* up to 64"):
            corruptions.corrupt(key, images, name, 3)
        return
    made = corruptions.corrupt(key, images, name, 5)
    assert made.shape == images.shape and not np.array_equal(made, images)


def test_a_new_file_is_a_new_corruption(tmp_path, key, monkeypatch):
    (tmp_path / "inversion.py").write_text(
        "def apply_inverted(image, severity):\n    return 255 - image\n"
    )
    monkeypatch.setattr(corruptions, "__path__", [*corruptions.__path__, str(tmp_path)])
    try:
        images = photographs(32, 2)
        np.testing.assert_array_equal(corruptions.corrupt(key, images, "inverted", 1), 255 - images)
        assert corruptions.find("inverted").family == "inversion"
    finally:
        sys.modules.pop("cards_jax.corruptions.inversion", None)


@pytest.mark.parametrize("most", [3, 50, 500])
def test_shot_noise_follows_the_poisson_distribution(most):
    """Of every clean value, the mean and variance of its distribution, and 200,000 samples of one value."""
    from cards_jax.corruptions import noise

    probabilities = noise._shot_probabilities(most)
    level = (np.minimum(np.arange(4000) / most, 1) * 255).astype(np.uint8)
    rng = np.random.default_rng(0)
    for value in (0, 1, 100, 255):
        sampled = level[rng.poisson(most * value / 255, 200_000)]
        expected = probabilities[value] @ np.arange(256)
        assert abs(sampled.mean() - expected) < 5 * sampled.std() / 200_000**0.5 + 1e-9
    table = noise._shot_tables((most,) * 5)[0].reshape(256, 256)
    share = (table >> 8) / 2**24
    kept = np.where(table & 0xFF == np.arange(256), 1, share)
    rebuilt = np.zeros((256, 256))
    np.add.at(rebuilt, (np.arange(256)[:, None], np.arange(256)[None]), kept / 256)
    np.add.at(rebuilt, (np.arange(256)[:, None], (table & 0xFF).astype(int)), (1 - kept) / 256)
    np.testing.assert_allclose(rebuilt, probabilities, atol=1e-7)
