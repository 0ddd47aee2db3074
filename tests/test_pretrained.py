"""Weights that are given: every realization begins with them, and a run knows them by what they are."""

import dataclasses

import cards
import jax
import numpy as np
import pytest
import runs
import small
import walk

from cards_jax import card as card_module
from cards_jax import config, experiment, folder, pack, realizations, run, train, validation
from cards_jax.config import ConfigError
from cards_jax.trainer import Trainer, spec_of
from cards_jax.tree import flatten

KINDS = {  # {method: what it needs beside}
    "dense": {"sparsity": (0.0,)},
    "ft": {"finetune__epochs": 1},
    "gmp": {},
    "lth": {"sparsity": (0.2,), "pruning__rewind_steps": 2},
    "lrr": {"sparsity": (0.2,)},
    "random": {},
}


def written(path, name="conv2", **changes):
    """A card whose images were normalised in another way than those of `small`; its effective weights and averages."""
    c = small.tiny(method="dense", sparsity=(0.0,), model__name=name)
    spec = dataclasses.replace(spec_of(c, small.data()), **{"mean": (0.1, 0.2, 0.3), **changes})
    card = cards.sampled(spec, 0.5, False)
    pack.save(path, card, spec, {})
    return card_module.weights(card), card.stats


def dealt(c):
    """The cards that a config begins with, stacked on the host."""
    points = config.points(c)
    t = Trainer(c, small.data(), realizations.layout(len(points), 1, c.batch_size, 1))
    return realizations.fetch(t.deal(t.group(points))), t


QUICK = ("gmp", "lth")


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=[pytest.mark.slow] * (m not in QUICK)) for m in KINDS]
)
def test_every_realization_begins_with_them(tmp_path, method):
    weights, _ = written(tmp_path / "a.card")
    fields = {"method": method, "seeds": (0, 1), "model__weights": str(tmp_path / "a.card")}
    state, t = dealt(small.tiny(**{**fields, **KINDS[method]}))
    assert t.recipe.spec.mean == (0.1, 0.2, 0.3)
    for found in (state.card, *state.saved.values()):
        for path, w in flatten(weights).items():
            for row in flatten(found.params)[path]:
                np.testing.assert_array_equal(row, w)


def test_fine_tuning_alone_prunes_them_as_they_are(tmp_path):
    weights, _ = written(tmp_path / "a.card")
    fields = {"method": "ft", "epochs": 0, "sparsity": (0.25, 0.75), "finetune__epochs": 1}
    c = small.tiny(**fields, model__weights=str(tmp_path / "a.card"), scope="global")
    entered = []
    found, t, group = walk.walk(c, on_enter=lambda index, state: entered.append(state))
    assert [phase.name for phase in group.phases] == ["finetune"] and len(found) == 2
    sizes = np.concatenate([np.abs(w).ravel() for w in jax.tree.leaves(weights)])
    for i, (point, (_, nonzero)) in enumerate(found.items()):
        keep = round((1 - point.sparsity) * t.size)
        least = np.sort(sizes)[-keep]
        for path, w in flatten(weights).items():
            pruned = np.where(np.abs(w) >= least, w, 0)
            if point.sparsity == 0.75:  # half of the given weights are zeros already
                np.testing.assert_array_equal(flatten(entered[0].card.params)[path][i], pruned)
        assert nonzero <= keep
    with pytest.raises(ConfigError, match="epochs=0: allowed is 1 to 1000000, or 0 of method ft"):
        small.tiny(method="ft", epochs=0)


def test_averages_of_batchnorm_come_along(tmp_path):
    _, stats = written(tmp_path / "a.card", "resnet20", affine=True, bias=True)
    fields = {"method": "dense", "sparsity": (0.0,), "model__name": "resnet20"}
    state, _ = dealt(small.tiny(**fields, model__weights=str(tmp_path / "a.card")))
    for path, x in flatten(stats).items():
        np.testing.assert_array_equal(flatten(state.card.stats)[path][0], x)
    assert any(np.any(np.asarray(x) != 0) for x in jax.tree.leaves(stats))


@pytest.mark.slow
def test_a_run_goes_on_from_a_card_of_another(tmp_path):
    """A baseline "auto" begins with it too."""
    first = runs.tiny(tmp_path, method="dense", sparsity=(0.0,), epochs=2)
    experiment.complete(first)
    card = sorted(folder.path_of(first).glob("cards/*.card"))[0]
    fields = {"method": "gmp", "epochs": 1, "model__weights": str(card), "baseline": "auto"}
    c = runs.tiny(tmp_path, name="on", learning_rate=(1e-8,), weight_decay=(0.0,), **fields)
    experiment.complete(c)
    begun = flatten(pack.load(card).card.params)
    (dense,) = experiment.baseline_folder(c).glob("cards/seed1_*.card")
    for path, w in flatten(pack.load(dense).card.params).items():
        np.testing.assert_allclose(w, begun[path], atol=1e-5)


def test_a_run_is_known_by_the_weights_and_not_by_their_place(tmp_path):
    written(tmp_path / "a.card")
    written(tmp_path / "c.card", mean=(0.3, 0.3, 0.3))
    (tmp_path / "b.card").write_bytes((tmp_path / "a.card").read_bytes())
    of = lambda name: small.tiny(method="gmp", model__weights=str(tmp_path / f"{name}.card"))
    a, b, c = (config.shared_identity(of(name)) for name in "abc")
    assert a == b != c
    assert a != config.shared_identity(small.tiny(method="gmp"))


def refused(match, **fields):
    with pytest.raises(ConfigError, match=match):
        small.tiny(**{"method": "gmp", **fields})


def test_what_does_not_fit_is_refused_before_any_compute(tmp_path):
    path = tmp_path / "a.card"
    written(path)
    refused("method 'ep' chooses among random weights", method="ep", model__weights=str(path))
    refused(r"none\.card.*must be a card file", model__weights=str(tmp_path / "none.card"))
    refused("without model.weights is None", model__weights_hash="0123")
    refused("other weights", model__weights=str(path), model__weights_hash="0123")
    (tmp_path / "no.card").write_bytes(path.read_bytes()[:100])
    refused(r"no\.card.*must be a card file", model__weights=str(tmp_path / "no.card"))
    for fields, match in (
        ({"model__width": 6}, "has model.width of 4, the config 6"),
        ({"model__name": "conv4"}, "has model.name of conv2, the config conv4"),
        ({"model__num_classes": 7}, "has model.num_classes of 4, the config 7"),
    ):
        c = small.tiny(method="gmp", model__weights=str(path), **fields)
        with pytest.raises(ConfigError, match=match):
            run.check(c, small.data())


def test_a_snapshot_of_a_config_finds_other_weights_at_the_place(tmp_path):
    path = tmp_path / "a.card"
    written(path)
    text = config.to_json(small.tiny(method="gmp", model__weights=str(path)))
    written(path, mean=(0.3, 0.3, 0.3))
    with pytest.raises(ConfigError, match="other weights"):
        validation.validate(config.from_json(text))


def test_without_weights_the_seed_draws_them():
    state, t = dealt(small.tiny(method="gmp", seeds=(3,)))
    params, _ = t.recipe.model.init(train.stream(np.uint32(3), train.INIT))
    for path, w in flatten(params).items():
        np.testing.assert_allclose(flatten(state.card.params)[path][0], w, rtol=1e-6)
