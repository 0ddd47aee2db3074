"""Whole sets of corrupted images in files: layout, what they depend on, interruption."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from photographs import photographs

from cards_jax import corruptions
from cards_jax.config import ConfigError
from cards_jax.corruptions import dataset

IMAGES = photographs(32, 6)
LABELS = np.array([3, 1, 4, 1, 5, 9])


def quietly(folder, *names, images=IMAGES, labels=LABELS, seed=0):
    return corruptions.make(images, labels, folder, seed, names, progress=False)


def test_layout_is_the_published_one(tmp_path):
    folder = quietly(tmp_path / "made", "contrast", "impulse_noise")
    assert sorted(p.name for p in folder.iterdir()) == [
        *("contrast.npy", "impulse_noise.npy", "labels.npy", "made.json"),
    ]
    labels = np.load(folder / "labels.npy")
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, np.tile(LABELS, 5))
    for name in ("contrast", "impulse_noise"):
        made = np.load(folder / f"{name}.npy")
        assert made.shape == (30, 32, 32, 3) and made.dtype == np.uint8
        for severity in corruptions.SEVERITIES:
            key = dataset.key_of(jax.random.key(0), name, severity)
            block = made[(severity - 1) * 6 : severity * 6]
            np.testing.assert_array_equal(block, corruptions.corrupt(key, IMAGES, name, severity))


def test_an_image_depends_neither_on_other_names_nor_on_other_images(tmp_path):
    both = np.load(quietly(tmp_path / "a", "contrast", "impulse_noise") / "impulse_noise.npy")
    images, labels = IMAGES[:2], LABELS[:2]
    alone = quietly(tmp_path / "b", "impulse_noise", images=images, labels=labels)
    np.testing.assert_array_equal(np.load(alone / "impulse_noise.npy")[:2], both[:2])
    other = quietly(tmp_path / "c", "impulse_noise", seed=1)
    assert not np.array_equal(np.load(other / "impulse_noise.npy"), both)


def test_what_is_complete_is_not_made_again(tmp_path):
    folder = quietly(tmp_path, "contrast")
    before = (folder / "contrast.npy").stat().st_mtime_ns
    (folder / "pixelate.npy").write_bytes((folder / "contrast.npy").read_bytes()[:1000])  # torn
    quietly(tmp_path, "contrast", "pixelate")
    assert (folder / "contrast.npy").stat().st_mtime_ns == before
    assert np.load(folder / "pixelate.npy").shape == (30, 32, 32, 3)


@pytest.mark.parametrize("change", [{"seed": 1}, {"images": IMAGES[::-1]}])
def test_a_folder_made_from_something_else_is_refused(tmp_path, change):
    quietly(tmp_path, "contrast")
    with pytest.raises(ConfigError, match=f"was made with {next(iter(change))} .*another folder"):
        quietly(tmp_path, "contrast", **change)


def test_a_damaged_record_is_named(tmp_path):
    quietly(tmp_path, "contrast")
    (tmp_path / "made.json").write_text("{")
    with pytest.raises(ConfigError, match="made.json.* cannot be read"):
        quietly(tmp_path, "contrast")


def test_record_says_the_flavours(tmp_path):
    record = json.loads((quietly(tmp_path, "contrast") / "made.json").read_text())
    assert record["flavours"] == corruptions.flavours() and record["seed"] == 0


def test_mistakes_are_found_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="nearest is 'contrast'"):
        quietly(tmp_path / "made", "contrast", "contrst")
    for labels in (LABELS[:5], LABELS / 2, LABELS - 5, LABELS[None]):
        with pytest.raises(ValueError, match="labels: got .* allowed are 6 whole numbers"):
            quietly(tmp_path / "made", "contrast", labels=labels)
    with pytest.raises(ValueError, match="images: got float64"):
        quietly(tmp_path / "made", "contrast", images=IMAGES / 255)
    assert not (tmp_path / "made").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        quietly(tmp_path / "file" / "made", "contrast")


def test_more_than_256_classes_get_wider_labels(tmp_path):
    folder = quietly(tmp_path, labels=LABELS + 900)
    assert np.load(folder / "labels.npy").dtype == np.uint16


def test_progress_shows_name_and_count(tmp_path, capfd):
    corruptions.make(IMAGES, LABELS, tmp_path, names=["contrast"])
    shown = capfd.readouterr().err
    assert "contrast" in shown and "30/30" in shown


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    """A real process, killed between and within files."""
    names = ["contrast", "gaussian_noise", "pixelate", "jpeg_compression"]
    program = (
        "import numpy as np; from photographs import photographs; from cards_jax import corruptions; "
        f"corruptions.make(photographs(32, 500), np.arange(500) % 10, {str(tmp_path / 'killed')!r}, "
        f"names={names}, progress=False)"
    )
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    for wanted in ("contrast.npy", "gaussian_noise.npy"):
        process = subprocess.Popen([sys.executable, "-c", program], env=environment)
        while process.poll() is None and not (tmp_path / "killed" / wanted).exists():
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in (tmp_path / "killed").glob("*.npy"):
            assert np.load(path).shape[0] == 2500
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    images, labels = photographs(32, 500), np.arange(500) % 10
    whole = quietly(tmp_path / "whole", *names, images=images, labels=labels)
    for name in names:
        assert (tmp_path / "killed" / f"{name}.npy").read_bytes() == (
            whole / f"{name}.npy"
        ).read_bytes()
