"""What cannot be done is refused before anything is trained, its baseline included."""

import json

import numpy as np
import pytest
import runs
from PIL import Image

from cards_jax import config, corruptions, data, experiment, run
from cards_jax.config import ConfigError
from cards_jax.data import corrupted
from cards_jax.page import chart


@pytest.fixture
def untrained(monkeypatch):
    """No run may begin."""

    def begun(*arguments, **more):
        raise AssertionError("a run was begun")

    monkeypatch.setattr(experiment, "_completed", begun)


def refused(c, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        experiment.complete(c)
    with pytest.raises(ConfigError, match=message):
        experiment.dry_run(c)


def test_a_rewind_step_beyond_the_training(tmp_path, untrained):
    c = runs.tiny(tmp_path, method="lth", sparsity=(0.2,), scope="global", baseline="auto")
    refused(c, "pruning.rewind_steps=1000: allowed is 0 to 32")


def images_folder(path, side: int, classes: int = 3, height: int | None = None):
    """A folder of squares of a colour for each class."""
    for split, count in (("train", 4), ("test", 2)):
        for label in range(classes):
            place = path / split / f"class{label}"
            place.mkdir(parents=True)
            for i in range(count):
                pixels = np.full((height or side, side, 3), 40 * label + i, np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    return path


def test_prime_on_images_that_are_not_square(tmp_path, untrained):
    place = images_folder(tmp_path / "wide", 16, height=12)
    fields = {"data__name": "folder", "data__dir": str(place), "data__image_size": None}
    c = runs.tiny(tmp_path, augment="prime", batch_size=4, compute__group_size=2, **fields)
    with pytest.raises(ConfigError, match="augment='prime': deforms square images, .* 12 x 16"):
        run.check(c, data.prepare(c))


def made(path, side: int, labels: int):
    """A folder of corrupted images, as published ones lie."""
    path.mkdir()
    for name in corruptions.BENCHMARK:
        np.save(path / f"{name}.npy", np.zeros((50, side, side, 3), np.uint8))
    np.save(path / "labels.npy", np.tile([*range(9), labels - 1], 5))
    return path


@pytest.mark.parametrize(
    "side, labels, message",
    [
        (16, 10, "holds images of 16 x 16 x 3; allowed are those of the data, 8 x 8 x 3"),
        (8, 12, "has label 11; allowed are 0 to 9, as the network's"),
    ],
)
def test_corrupted_images_that_do_not_fit(tmp_path, untrained, side, labels, message):
    place = made(tmp_path / "made", side, labels)
    c = runs.tiny(tmp_path, evaluate__corruptions=("benchmark",), data__title="digits")
    config.assign(c, "evaluate.corruptions_dir", str(place))
    refused(c, message)


def test_a_folder_of_corruptions_that_is_not_there(tmp_path, untrained):
    c = runs.tiny(tmp_path, evaluate__corruptions=("benchmark",), data__title="digits")
    config.assign(c, "evaluate.corruptions_dir", str(tmp_path / "absent"))
    refused(c, "absent")


def test_a_corruption_that_large_images_cannot_have():
    images = np.zeros((2, 65, 65, 3), np.uint8)
    clean = corrupted.Clean(images, np.zeros(2, np.int32), "folder", "large")
    with pytest.raises(
        ConfigError, match="circular_motion_blur of images of 65 pixels .* up to 64"
    ):
        corrupted.find(clean, ("bar",), None, 2)


def test_a_baseline_of_other_images(tmp_path, untrained):
    c = runs.tiny(tmp_path)
    config.assign(c, "baseline", runs.dense_run(tmp_path / "dense", c, fingerprint="other"))
    refused(c, "trained on other images .fingerprint other. than those of the config")


def test_a_baseline_of_two_kinds_beside_heatmaps(tmp_path, untrained):
    c = runs.tiny(tmp_path, evaluate__heatmap=(3.0,))
    config.assign(c, "baseline", runs.dense_run(tmp_path / "dense", c, rates=(0.1, 0.2)))
    refused(c, "holds 2 kinds of dense cards; allowed with evaluate.heatmap is one")


def test_a_damaged_card_of_a_baseline_beside_measurements(tmp_path, untrained):
    c = runs.tiny(tmp_path, evaluate__heatmap=(3.0,))
    config.assign(c, "baseline", runs.dense_run(tmp_path / "dense", c))
    (tmp_path / "dense" / "cards").mkdir()
    (tmp_path / "dense" / "cards" / "seed0_0.1.card").write_bytes(b"cards_jax no card")
    refused(c, "baseline='.*dense': .*seed0_0.1.card")


def test_digits_lie_nowhere(tmp_path):
    c = runs.tiny(tmp_path)
    config.assign(c, "data.dir", str(tmp_path))
    refused(c, "data.dir=.*: data.name='digits' comes with scikit-learn")


@pytest.mark.parametrize("field, value", [("corruptions", ("fog",)), ("heatmap", (3.0,))])
def test_a_baseline_without_its_cards_beside_what_measures_them(tmp_path, untrained, field, value):
    c = runs.tiny(tmp_path, data__title="digits", **{f"evaluate__{field}": value})
    config.assign(c, "baseline", runs.dense_run(tmp_path / "dense", c))
    refused(c, "lacks the cards of 0.1; allowed with evaluate.corruptions and evaluate.heatmap is")


def test_what_was_measured_before_stays_in_the_results(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({"corruptions": {"rows": [1]}}))
    assert experiment._measured_before(tmp_path) == {"corruptions": {"rows": [1]}}
    (tmp_path / "results.json").write_text("{")
    assert experiment._measured_before(tmp_path) == {}


@pytest.mark.parametrize("low, high", [(2.1, 4.9), (2.05, 2.3), (0.51, 0.98), (0.01, 30.0)])
def test_every_logarithmic_axis_has_numbers(low, high):
    found = chart.decades(low, high)
    assert len(found) > 1 and all(0.99 * low <= x <= 1.01 * high for x in found)
