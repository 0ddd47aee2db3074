"""The sources by name, and what becomes of their images: holdout, subset, statistics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from cards_jax import data
from cards_jax.config import ConfigError
from cards_jax.data import partition, pixels, store


def config(**fields) -> ConfigDict:
    c = ConfigDict(
        {
            "holdout": 0,
            "data": {
                "name": "digits",
                "dir": None,
                "subset": 0,
                "subset_per_class": 0,
                "image_size": None,
                "download": False,
                "cache_dir": None,
            },
        }
    )
    for field, value in fields.items():
        (c if field == "holdout" else c.data)[field] = value
    return c


def test_names_are_the_modules_with_a_load():
    assert {"cifar10", "cifar100", "digits", "folder", "tfds"} <= set(data.names())
    assert not {"cifar", "store", "trees", "download", "pickles"} & set(data.names())


def test_unknown_name_is_told_with_the_nearest():
    with pytest.raises(
        ConfigError, match="data.name: 'cifr10' .*digits.* nearest name is 'cifar10'"
    ):
        data.load("cifr10", "train")
    with pytest.raises(ConfigError, match="data.name: 'store' is not known"):
        data.load("store", "train")


def test_unknown_split():
    with pytest.raises(ValueError, match="split .*'valid'"):
        data.load("digits", "valid")


def test_digits_are_split_by_class_and_resized():
    train_images, train_labels = data.load("digits", "train")
    test_images, test_labels = data.load("digits", "test")
    assert train_images.shape == (1437, 32, 32, 3) and test_images.shape == (360, 32, 32, 3)
    assert train_images.dtype == np.uint8 and train_labels.dtype == np.int32
    assert train_images.max() > 250 and train_images.min() == 0
    assert np.array_equal(train_images[..., 0], train_images[..., 2])
    share = np.bincount(test_labels) / (np.bincount(test_labels) + np.bincount(train_labels))
    assert np.abs(share - 360 / 1797).max() < 0.005


def test_digits_partition_the_scans_of_scikit_learn():
    from sklearn.datasets import load_digits

    scans = load_digits().images
    images = np.concatenate([data.load("digits", s, image_size=8)[0] for s in data.SPLITS])
    ours = sorted(image[..., 0].tobytes() for image in images)
    assert ours == sorted(np.rint(scan * 255 / 16).astype(np.uint8).tobytes() for scan in scans)


def test_image_size_resizes_and_is_checked():
    assert data.load("digits", "test", image_size=16)[0].shape == (360, 16, 16, 3)
    for size in (0, -1, 5000):
        with pytest.raises(ConfigError, match=f"data.image_size: got {size}"):
            data.load("digits", "test", image_size=size)


def test_resizing_averages_over_areas():
    checkers = np.indices((32, 32)).sum(0) % 2 * np.uint8(255)
    images = np.repeat(checkers.astype(np.uint8)[None, ..., None], 3, axis=-1)
    assert np.abs(pixels.resized(images, 8).astype(int) - 127).max() <= 6
    assert pixels.resized(images, 32) is images


def test_mean_and_std_are_those_of_all_pixels():
    images = np.random.default_rng(0).integers(0, 256, (2100, 3, 5, 3), np.uint8)
    mean, std = pixels.mean_and_std(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), atol=1e-6)


def test_constant_channel_has_a_positive_std():
    assert min(pixels.mean_and_std(np.zeros((2, 4, 4, 3), np.uint8))[1]) > 0


def test_describe():
    about = data.describe("cifar10")
    assert about.classes[0] == "airplane" and about.classes[9] == "truck"
    assert about.mean == (0.491, 0.482, 0.447) and about.std == (0.247, 0.243, 0.262)
    about = data.describe("cifar100")
    assert len(set(about.classes)) == 100 and about.mean == (0.5071, 0.4865, 0.4409)
    about = data.describe("digits")
    images = data.load("digits", "train")[0] / 255
    np.testing.assert_allclose(about.mean, images.mean((0, 1, 2)), atol=1e-6)
    assert about.classes == tuple("0123456789")


def test_prepare_without_anything_is_the_whole_data_set():
    d = data.prepare(config())
    assert np.array_equal(d.train_images, data.load("digits", "train")[0])
    assert d.holdout_images.shape == (0, 32, 32, 3) and d.holdout_hash is None
    assert d.mean == data.describe("digits").mean and len(d.fingerprint) == 16


def test_holdout_is_the_same_list_whatever_the_subset():
    whole = data.prepare(config(holdout=103))
    part = data.prepare(config(holdout=103, subset=200))
    assert whole.holdout_hash == part.holdout_hash and len(whole.holdout_hash) == 16
    assert np.array_equal(whole.holdout_images, part.holdout_images)
    for other in (config(holdout=104), config(holdout=103, image_size=16)):
        assert whole.holdout_hash != data.prepare(other).holdout_hash
    assert np.bincount(whole.holdout_labels).tolist() == [11, 11, 11, *[10] * 7]
    assert len(whole.train_images) == 1437 - 103
    assert len(part.train_images) == 200
    held = {image.tobytes() for image in whole.holdout_images}
    assert not held & {image.tobytes() for image in whole.train_images}


def test_statistics_and_fingerprint_belong_to_the_whole_data_set():
    a, b = data.prepare(config()), data.prepare(config(holdout=100, subset_per_class=5))
    assert (a.mean, a.std, a.fingerprint) == (b.mean, b.std, b.fingerprint)
    assert a.fingerprint != data.prepare(config(image_size=16)).fingerprint


def test_fingerprint_sees_one_label_and_one_pixel():
    images, labels = data.load("digits", "test")
    prints = {data.digest(images, labels)}
    for array in (images, labels):
        changed = array.copy()
        changed.flat[7] += 1
        prints.add(data.digest(*(changed if a is array else a for a in (images, labels))))
    prints.add(data.digest(images, labels, words=("a",)))
    assert len(prints) == 4


def test_subset_is_the_first_images():
    images, labels = data.load("digits", "train")
    d = data.prepare(config(subset=50))
    assert np.array_equal(d.train_images, images[:50])
    assert np.array_equal(d.train_labels, labels[:50])
    assert len(d.test_images) == 360


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"holdout": -1}, "holdout: got -1"),
        ({"subset": -5}, "data.subset: got -5"),
        ({"subset_per_class": -5}, "data.subset_per_class: got -5"),
        ({"subset": 10, "subset_per_class": 1}, "data.subset: got 10 while"),
        ({"subset": 1438}, r"data.subset: got 1438; allowed are 0 \(all\) to 1437"),
        ({"holdout": 100, "subset": 1338}, r"data.subset: got 1338; .* to 1337"),
        ({"subset_per_class": 1000}, "data.subset_per_class: got 1000"),
        ({"holdout": 1437}, "holdout: got 1437; allowed are 0 to 1[0-9]{3},"),
        ({"image_size": 0}, "data.image_size: got 0"),
    ],
)
def test_impossible_numbers(fields, message):
    with pytest.raises(ConfigError, match=message):
        data.prepare(config(**fields))


def test_largest_holdout_leaves_an_image_of_each_class():
    _, labels = data.load("digits", "train")
    most = (np.bincount(labels).min() - 1) * 10
    assert len(np.unique(data.prepare(config(holdout=int(most))).train_labels)) == 10
    with pytest.raises(ConfigError, match=f"0 to {most}"):
        data.prepare(config(holdout=int(most) + 1))


labelings = st.lists(st.integers(0, 3), min_size=1, max_size=60).map(
    lambda drawn: np.array([*range(4), *range(4), *drawn], np.int32)
)


@settings(max_examples=60, deadline=None)
@given(labels=labelings, share=st.floats(0, 1))
def test_holdout_is_balanced_nested_and_indifferent_to_order_of_classes(labels, share):
    most = (np.bincount(labels).min() - 1) * 4
    count = round(share * most)
    held = partition.holdout(labels, count, 4)
    counts = np.bincount(labels[held], minlength=4)
    assert len(set(held)) == count and np.array_equal(held, np.sort(held))
    assert counts.max() - counts.min() <= 1
    if count < most:
        assert set(held) < set(partition.holdout(labels, count + 1, 4))


@settings(max_examples=60, deadline=None)
@given(labels=labelings, n=st.integers(1, 20))
def test_subset_per_class_takes_the_first_of_each(labels, n):
    n = min(n, np.bincount(labels).min())
    kept = partition.subset(labels, 0, n)
    for k in range(4):
        assert np.array_equal(kept[labels[kept] == k], np.flatnonzero(labels == k)[:n])


def test_holdout_list_never_changes():
    """Cards record the hash of this list: another list would be another experiment."""
    held = partition.holdout(np.arange(40) % 4, 6, 4)
    assert held.tolist() == [4, 7, 17, 24, 33, 38]


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("CARDS_JAX_CACHE", raising=False)
    assert store.cache_folder(None).parts[-2:] == (".cache", "cards_jax")
    monkeypatch.setenv("CARDS_JAX_CACHE", str(tmp_path))
    assert store.cache_folder(None) == tmp_path
    assert store.cache_folder(str(tmp_path / "x")) == tmp_path / "x"
