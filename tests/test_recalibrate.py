"""BatchNorm averages that are estimated anew with the final mask: by one rule, and the shift is reported."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
import small

from cards_jax import folder, pack, realizations
from cards_jax.card import weights
from cards_jax.models import layers
from cards_jax.tree import flatten, map_leaves, unflatten

NET = {
    "model__name": "resnet20",
    "model__width": 2,
    "method": "ft",
    "sparsity": (0.5,),
    "seeds": (0, 1),
}


@pytest.fixture(scope="module")
def finished():
    """(trainer, stacked cards), not trained: their averages are still 0 and 1."""
    t, group, state = small.trainer(small.tiny(**NET))
    return t, realizations.fetch(t.finish(state, group, 0))


@pytest.mark.slow
def test_averages_are_those_of_the_batches_one_by_one(finished):
    """Against a loop over whole batches of training images, unaugmented and in order, for each realization."""
    t, cards = finished
    found, shift = realizations.fetch(t.recalibrate(cards, 3 * t.recipe.batch_size + 5))
    images = small.data().train_images
    for i in range(2):
        card = jax.tree.map(lambda x, i=i: x[i], cards)
        seen = []
        for at in range(3):
            rows = images[at * t.recipe.batch_size : (at + 1) * t.recipe.batch_size]
            _, moved = t.recipe.model.apply(weights(card), card.stats, rows, True)
            old, new = flatten(card.stats), flatten(moved)
            batch = {k: (new[k] - layers.MOMENTUM * old[k]) / (1 - layers.MOMENTUM) for k in new}
            seen.append(batch)
        shifts = []
        for path, value in flatten(found.stats).items():
            wanted = np.mean([batch[path] for batch in seen], axis=0)
            np.testing.assert_allclose(value[i], wanted, rtol=1e-3, atol=1e-4)
            if path.endswith("mean"):
                shifts.append(np.abs(wanted) / np.sqrt(1 + layers.EPSILON))  # from 0 and 1
        assert shift[i] == pytest.approx(np.max(np.concatenate(shifts)), rel=1e-3)


def test_the_first_layer_is_the_mean_and_variance_of_its_convolution(finished):
    t, cards = finished
    found, _ = realizations.fetch(t.recalibrate(cards, t.recipe.batch_size))
    card = jax.tree.map(lambda x: x[0], cards)
    images = small.data().train_images[: t.recipe.batch_size] / np.float32(255)
    x = (images - np.float32(t.spec.mean)) / np.float32(t.spec.std)
    out = jax.lax.conv_general_dilated(
        jnp.asarray(x), weights(card)["conv1"]["kernel"], (1, 1), "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    ).reshape(-1, t.spec.width)  # fmt: skip
    stats = jax.tree.map(lambda x: x[0], found.stats)["bn1"]
    np.testing.assert_allclose(stats["mean"], out.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats["var"], np.var(out, axis=0, ddof=1), rtol=1e-4)


def test_shift_is_in_standard_deviations_and_zero_the_second_time(finished):
    t, cards = finished
    once, _ = t.recalibrate(cards, 64)
    again, shift = realizations.fetch(t.recalibrate(once, 64))
    np.testing.assert_allclose(shift, 0, atol=1e-5)
    flat = flatten(again.stats)
    flat["bn1/mean"] = flat["bn1/mean"] + np.sqrt(flat["bn1/var"] + layers.EPSILON) * [[2.0], [0.5]]
    moved = again.replace(stats=map_leaves(np.float32, unflatten(flat)))
    back, shift = realizations.fetch(t.recalibrate(moved, 64))
    np.testing.assert_allclose(shift, [2.0, 0.5], rtol=1e-4)
    np.testing.assert_allclose(
        flatten(back.stats)["bn1/mean"], flatten(again.stats)["bn1/mean"], atol=1e-5
    )


def test_networks_without_averages_do_not_shift():
    t, group, state = small.trainer(small.tiny())
    cards = t.finish(state, group, 0)
    found, shift = realizations.fetch(t.recalibrate(cards, 64))
    assert not shift.any() and runs.same_arrays(found, realizations.fetch(cards))


@pytest.mark.slow
def test_a_run_reports_both_accuracies_and_delivers_the_new_averages(tmp_path):
    net = {"model__name": "resnet20", "model__width": 2, "epochs": 1, "seeds": (0,)}
    plain, anew = (
        runs.tiny(tmp_path / "a", **net),
        runs.tiny(tmp_path / "b", **net, evaluate__recalibrate=300),
    )
    (old,), (new,) = runs.finished(plain), runs.finished(anew)
    assert "batchnorm_shift" not in old and new["batchnorm_shift"] > 0
    assert new["test_accuracy_before_recalibration"] == old["test_accuracy"]
    files = [pack.load(next((folder.path_of(c) / "cards").iterdir())) for c in (plain, anew)]
    assert runs.same_arrays(files[0].card.params, files[1].card.params)
    assert not runs.same_arrays(files[0].card.stats, files[1].card.stats)
    table = (folder.path_of(anew) / "tables" / "realizations.csv").read_text()
    assert "batchnorm_shift" in table.splitlines()[0]
    assert json.loads((folder.path_of(anew) / "results.json").read_text())["results"] == [new]
