"""Layers that are left unpruned: in every method they stay whole, and a card's file, sizes and exports know them."""

import dataclasses

import cards
import jax
import numpy as np
import pytest
import small
import walk

from cards_jax import interop, masks, models, pack, run, size
from cards_jax.config import ConfigError
from cards_jax.trainer import layer_shapes, spec_of
from cards_jax.tree import UNPRUNED, flatten

KINDS = {  # {method: what it needs beside}
    "bp": {},
    "ep": {"scope": "global", "popup__progressive_epochs": 1},
    "ft": {"finetune__epochs": 1},
    "gmp": {"scope": "global"},
    "lth": {"sparsity": (0.2,), "pruning__rewind_steps": 2},
    "lrr": {"sparsity": (0.2,), "scope": "global"},
    "nm": {},
    "snip": {},
    "rigl": {"pruning__every": 2},
    "random": {"pruning__distribution": "erk"},
}


QUICK = ("gmp", "lrr")


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=[pytest.mark.slow] * (m not in QUICK)) for m in KINDS]
)
def test_they_stay_whole_and_are_trained(method):
    fields = {"sparsity": (0.5,), "epochs": 2, "model__unpruned": ("conv1", "linear*")}
    c = small.tiny(method=method, **{**fields, **KINDS[method]})
    found, t, _ = walk.walk(c)
    ((card, nonzero),) = found.values()
    assert layer_shapes(t.spec).keys() == {"conv2/kernel"}
    assert set(flatten(card.mask)) == {"conv2/kernel"}
    sizes = t.size
    assert masks.kept(card.mask) == sizes - round(c.sparsity[0] * sizes) == nonzero
    begun, _ = t.recipe.model.init(jax.random.key(0))
    for path, w in flatten(card.params).items():
        assert np.all(w != 0) or path == "conv2/kernel"
        if path.endswith(UNPRUNED):
            assert len(np.unique(w)) > w.size // 2  # neither signs nor a constant
            assert w.shape == flatten(begun)[path].shape


def spec(**changes):
    c = small.tiny(method="dense", sparsity=(0.0,), **changes)
    return spec_of(c, small.data())


def test_the_network_is_the_same():
    whole, left = spec(), spec(model__unpruned=("linear*", "conv1"))
    key, images = jax.random.key(0), small.data().test_images
    for one in (whole, left):
        assert len(flatten(models.shapes(one)[0])) == 5
    (a, stats), (b, _) = (models.build(s).init(key) for s in (whole, left))
    assert {p.replace(UNPRUNED, "kernel") for p in flatten(b)} == set(flatten(a))
    one, other = (
        models.build(s).apply(p, stats, images, False)[0] for s, p in ((whole, a), (left, b))
    )
    np.testing.assert_array_equal(one, other)
    assert jax.tree.structure(models.unnamed(b)) == jax.tree.structure(a)


def test_files_sizes_and_torch_keys(tmp_path):
    left = spec(model__unpruned=("linear1",))
    card = cards.sampled(left, 0.5, False)
    pack.save(tmp_path / "a.card", card, left, {})
    read = pack.load(tmp_path / "a.card")
    assert read.spec == left
    for path, x in flatten(read.card.params).items():
        np.testing.assert_array_equal(x, flatten(card.params)[path])
    rows = {row.name: row for row in size.table(tmp_path / "a.card").layers}
    shape = flatten(models.shapes(left)[0])[f"linear1/{UNPRUNED}"].shape
    assert rows["linear1"].kept == rows["linear1"].weights == np.prod(shape)
    assert rows["linear1"].paper == 4 * np.prod(shape)
    assert rows["linear2"].kept == pytest.approx(rows["linear2"].weights / 2, abs=1)
    arrays = interop.export_state_dict(read.card, left)
    plain = interop.import_state_dict(arrays, dataclasses.replace(left, unpruned=()))
    again = interop.import_state_dict(arrays, left, mask="zeros")
    assert again.card.mask["linear1"] == {UNPRUNED: None}
    images = small.data().test_images
    for other in (plain, again):
        np.testing.assert_allclose(other.logits(images), read.logits(images), rtol=1e-5, atol=1e-5)
    key = next(k for k, x in arrays.items() if x.shape[:2] == shape[::-1])
    with pytest.raises(ValueError, match="no weight that can be pruned"):
        interop.import_state_dict(arrays, left, mask={key: np.ones_like(arrays[key])})


def test_given_weights_of_a_card_that_left_others_whole(tmp_path):
    other = spec(model__unpruned=("linear1",))
    pack.save(tmp_path / "a.card", cards.sampled(other, 0.5, False), other, {})
    fields = {"model__weights": str(tmp_path / "a.card"), "model__unpruned": ("conv2",)}
    c = small.tiny(method="gmp", epochs=1, **fields)
    run.check(c, small.data())
    found, _, _ = walk.walk(c)
    assert all("conv2/kernel" not in flatten(card.mask) for card, _ in found.values())


def test_what_is_no_layer_is_refused_and_so_are_all():
    for patterns, match in (
        (("fc",), "'fc' is no layer; allowed are conv1, conv2, linear1"),
        (("*",), "allowed are fewer than all layers"),
    ):
        c = small.tiny(method="gmp", model__unpruned=patterns)
        with pytest.raises(ConfigError, match=match):
            run.check(c, small.data())
