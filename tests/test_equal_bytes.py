"""The small dense control weighs at most what its card weighs, and is as wide as that permits."""

import dataclasses

import cards
import jax
import numpy as np
import pytest

from cards_jax import config, equal_bytes, main, models, pack, size, tree
from cards_jax.card import Card
from cards_jax.config import ConfigError


def dense_file(spec: models.Spec, width: int, meta: dict) -> bytes:
    """The packed file of a dense network of that width, with learnable BatchNorm where it has one."""
    affine = models.family(spec.name).NORMALISED
    spec = dataclasses.replace(spec, width=width, affine=affine, bias=affine)
    rng = np.random.default_rng(0)
    draw = lambda x: rng.standard_normal(x.shape).astype(np.float32)
    params, stats = jax.tree.map(draw, models.shapes(spec))
    nothing = tree.map_leaves(lambda _: None, params)
    return pack.encode(Card(params, nothing, nothing, stats), spec, meta)


def without_header(content: bytes) -> int:
    rows = size.table(content).rows
    return rows[-1].true - next(row.true for row in rows if row.name == "header")


@pytest.mark.parametrize("spec", [cards.SMALL, cards.NORMALISED])
@pytest.mark.parametrize(("sparsity", "binary"), [(0.5, False), (0.8, True)])
def test_of_a_file(tmp_path, spec, sparsity, binary):
    """Its file is no larger than the card's; one channel more would be."""
    spec = dataclasses.replace(spec, width=16)
    # As cards of runs say it: what is no default, `data.name` and the batches among the defaults here.
    meta = {"config": {"epochs": 3, "popup.ties": "strict", "data.dir": "/gone"}}
    path = tmp_path / "a.card"
    pack.save(path, cards.sampled(spec, sparsity, binary), spec, meta)
    model, width, fields = equal_bytes.network(str(path))
    plain = config.defaults()
    assert model == spec.name and fields["epochs"] == 3 and "data.dir" not in fields
    assert (fields["data.name"], fields["batch_size"]) == (plain.data.name, plain.batch_size)
    mine = dense_file(spec, width, meta)
    assert len(mine) <= path.stat().st_size
    assert without_header(mine) <= without_header(path.read_bytes())
    assert without_header(dense_file(spec, width + 1, meta)) > without_header(path.read_bytes())
    c = main.parse(["x", f"--config=configs/small_dense.py:{path}"])[1]
    assert (c.method, c.model.width, c.epochs, c.data.name) == ("dense", width, 3, "digits")
    assert (c.batch_size, c.schedule.per) == (plain.batch_size, plain.schedule.per)
    assert c.popup.ties == config.defaults().popup.ties


@pytest.mark.parametrize(("sparsity", "bits"), [(0.5, 32), (0.9, 32), (0.9, 1), (0.9, 0)])
def test_numbers_give_what_a_file_takes(sparsity, bits):
    """The masks of a file are at most 5% above their entropy, and bytes are whole."""
    spec = dataclasses.replace(cards.NORMALISED, width=16, image_HWC=(32, 32, 3))
    card = cards.sampled(spec, sparsity, bits < 32)
    form = {32: "float32", 1: "signs", 0: "key"}[bits]
    whole = pack.encode(card, spec, {}, form, cards.origin())
    estimate = equal_bytes.card_bytes(spec, sparsity, bits)
    masks = size.table(whole).total.mask
    assert estimate <= without_header(whole) <= estimate + 0.05 * masks + 8 * len(card.params)


def test_every_width_that_a_budget_permits():
    spec = dataclasses.replace(cards.SMALL, width=1)
    of = lambda width: equal_bytes.dense_bytes(dataclasses.replace(spec, width=width))
    for width in (1, 2, 3, 7, 8, 20):
        assert equal_bytes.widest(spec, of(width)) == width
        assert equal_bytes.widest(spec, of(width + 1) - 1) == width
    with pytest.raises(ValueError, match="of width 1 takes more than"):
        equal_bytes.widest(spec, of(1) - 1)


@pytest.mark.parametrize(
    ("like", "reason"),
    [
        ("nowhere.card", "no such file"),
        ("resnet18,0.95", "not three values"),
        ("resnet18,much,1", "could not convert"),
        ("resnet18,1,1", "sparsity must be from 0 to below 1"),
        ("resnet18,nan,1", "sparsity must be from 0 to below 1"),
        ("resnet18,0.5,16", "bits one of 0, 1, 32"),
        ("resnet19,0.5,1", "no architecture 'resnet19': nearest is 'resnet"),
        (__file__, "damaged, or not a card file"),
    ],
)
def test_what_is_no_card(like, reason):
    with pytest.raises(ConfigError, match=reason) as error:
        equal_bytes.network(like)
    assert "\n" not in str(error.value) and "allowed is MODEL,SPARSITY,BITS" in str(error.value)
