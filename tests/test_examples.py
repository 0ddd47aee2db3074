"""The parts that docs/examples shows are found from outside of the package, and work."""

import importlib
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from cards_jax import api, augment, config, corruptions, methods, models, pack
from cards_jax.models import Spec

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "taylor.py"
PARTS = {methods: "taylor", models: "lenet", augment: "negative", corruptions: "stripes"}


@pytest.fixture(autouse=True)
def forgotten():
    """What the example adds is gone after each test."""
    before = {package: list(package.__path__) for package in PARTS}
    yield
    for package, path in before.items():
        package.__path__[:] = path


def test_without_the_config_nothing_of_it_is_there():
    assert "taylor" not in methods.names() and "negative" not in augment.names()
    assert "lenet" not in models.families() and "stripes" not in corruptions.names()


@pytest.mark.slow
def test_a_run_of_two_steps(tmp_path):
    """One dense step, a prune, one step: cards of both sparsities, and their corruption table."""
    changes = {"workdir": str(tmp_path), "data.subset": 64, "batch_size": 32, "epochs": 1}
    small = {"model.width": 2, "data.image_size": 8, "seeds": 0, "compute.devices": 1}
    found = api.train_cards(str(EXAMPLE), {**changes, **small, "evaluate.corruption_images": 8})
    assert [r["steps"] for r in found.results] == [2, 2]
    assert [r["method"] for r in found.results] == ["taylor", "taylor"]
    for path, sparsity in zip(found.cards, (0.5, 0.8), strict=True):
        card = pack.load(path).card
        kept = np.concatenate([np.ravel(m) for m in jax.tree.leaves(card.mask)])
        assert abs(1 - kept.mean() - sparsity) < 0.01
    assert "stripes" in (found.folder / "tables" / "corruptions.md").read_text()


def test_the_parts_do_what_they_say(key):
    runpy.run_path(str(EXAMPLE))
    image = np.full((8, 8, 3), 200, np.uint8)
    spec = Spec("lenet", 2, 10, (8, 8, 3))
    params, _ = models.shapes(spec)
    assert params["linear1"]["kernel"].shape[0] == 2 * 2 * 4
    views = augment.views("negative", p=1.0)(key, image / np.float32(255))
    np.testing.assert_allclose(views, 1 - image[None] / 255, atol=1e-6)
    for severity, distance in enumerate((12, 9, 7, 5, 4), start=1):
        made = np.asarray(corruptions.corrupt(key, image[None], "stripes", severity)[0])
        black = np.flatnonzero((made == 0).all((1, 2)))
        assert set(np.diff(black)) <= {distance} and set(np.unique(made)) <= {0, 200}
    assert "negative.p" in config.flat(config.defaults())
    assert importlib.import_module("cards_jax.methods.taylor").__file__.startswith(
        str(EXAMPLE.parent)
    )
