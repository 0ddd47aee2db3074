"""Masks that another run found, trained again: as they are, shuffled, or under fresh weights."""

import dataclasses
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import cards
import jax
import numpy as np
import pytest
import runs
import small
import walk

from cards_jax import config, folder, masks, pack, realizations, train
from cards_jax.config import ConfigError
from cards_jax.trainer import Trainer, spec_of
from cards_jax.tree import flatten, only_prunable


def source(path, points=((0, 0.5), (1, 0.5)), scope="layerwise", by="lth", **changes):
    """The folder of a run that left such cards."""
    spec = dataclasses.replace(
        spec_of(small.tiny(method="lth", sparsity=(0.0,)), small.data()), **changes
    )
    (path / "cards").mkdir(parents=True)
    for i, (seed, sparsity) in enumerate(points):
        result = {"seed": seed, "sparsity": sparsity, "scope": scope, "method": by}
        card = cards.sampled(spec, sparsity, False)
        pack.save(path / "cards" / f"{i}.card", card, spec, {"result": result})
    return path


def ticket(path, **changes):
    fields = {"seeds": (0, 1), "sparsity": (0.5,), "epochs": 1, **changes}
    return small.tiny(method="ticket", ticket__source=str(path), **fields)


def dealt(c):
    """{path: weights}, {path: mask} of the first realization, before training."""
    points = config.points(c)
    t = Trainer(c, small.data(), realizations.layout(len(points), 1, c.batch_size, 1))
    card = jax.tree.map(lambda x: x[0], realizations.fetch(t.deal(t.group(points)).card))
    return flatten(only_prunable(card.params)), flatten(card.mask), t


def drawn(t, seed=0):
    """The dense initialisation of a seed."""
    params, _ = t.recipe.model.init(train.stream(np.uint32(seed), train.INIT))
    return flatten(only_prunable(params))


def test_reading_the_source_leaves_the_choice_of_devices_open(tmp_path):
    """A run takes one device for each core after its config was read; as long as nothing has been computed."""
    config = f"{Path(__file__).resolve().parents[1]}/configs/quickstart.py"
    fields = {"method": "ticket", "ticket.source": source(tmp_path), "seeds": "0,1"}
    arguments = [f"--config={config}", *(f"--config.{k}={v}" for k, v in fields.items())]
    arguments += ["--config.sparsity=0.5,", "--config.baseline=None"]
    program = "\n".join(
        (
            "import sys, jax",
            "from cards_jax import main",
            "assert main.parse(sys.argv)[1].method == 'ticket'",
            "jax.config.update('jax_num_cpu_devices', 3)",
            "assert jax.device_count() == 3",
        )
    )
    line = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_original_weights_under_the_mask_that_was_found(tmp_path):
    path = source(tmp_path)
    weights, mask, t = dealt(ticket(path))
    wanted = flatten(pack.load(path / "cards" / "0.card").card.mask)
    for layer, w in drawn(t).items():
        np.testing.assert_array_equal(mask[layer], wanted[layer])
        np.testing.assert_allclose(weights[layer], np.where(wanted[layer], w, 0), rtol=1e-6)


def test_fresh_weights_keep_the_pattern_and_are_another_draw(tmp_path):
    path = source(tmp_path)
    weights, mask, t = dealt(ticket(path, ticket__weights="fresh"))
    wanted = flatten(pack.load(path / "cards" / "0.card").card.mask)
    for layer, w in drawn(t).items():
        np.testing.assert_array_equal(mask[layer], wanted[layer])
        kept = weights[layer][mask[layer]]
        assert not np.isclose(kept, np.asarray(w)[mask[layer]]).mean() > 0.1
        assert kept.std() == pytest.approx(np.std(w), rel=0.5)
        assert not weights[layer][~mask[layer]].any()


def test_shuffled_masks_keep_the_count_of_every_layer_and_train(tmp_path):
    """Every seed has its own mask, shuffled its own way; what was pruned stays zero."""
    c = ticket(source(tmp_path), ticket__shuffle=True)
    found, t, _ = walk.walk(c)
    first, second = (flatten(card.mask) for card, _ in found.values())
    wanted = flatten(pack.load(tmp_path / "cards" / "0.card").card.mask)
    for layer in wanted:
        assert first[layer].sum() == wanted[layer].sum() == second[layer].sum()
        if wanted[layer].size > 200:
            assert (first[layer] != wanted[layer]).any() and (first[layer] != second[layer]).any()
    for card, nonzero in found.values():
        assert nonzero == masks.kept(card.mask)
        for layer, mask in flatten(card.mask).items():
            assert not flatten(card.params)[layer][~mask].any()


def test_what_is_no_source(tmp_path):
    """One line before anything is trained."""
    good = source(tmp_path / "good")
    refused = partial(pytest.raises, ConfigError)
    with refused(match=r"must be the folder of a finished run"):
        ticket(tmp_path / "nowhere")
    with refused(match=r"no card of seed 2 at sparsity 0.5; it has seed 0 at 0.5, seed 1 at 0.5"):
        ticket(good, seeds=(2,))
    with refused(match=r"scope='global': the masks of .* were found with scope='layerwise'"):
        ticket(good, scope="global")
    popup = source(tmp_path / "popup", by="bp")
    with refused(match="ticket.weights='original': .* are masks of bp, .*; allowed is 'fresh'"):
        ticket(popup)
    assert ticket(popup, ticket__weights="fresh").ticket.weights == "fresh"
    twice = source(tmp_path / "twice", ((0, 0.5), (0, 0.5)))
    with refused(match=r"2 cards of seed 0 at sparsity 0.5; allowed is a run with one learning"):
        ticket(twice, seeds=(0,))
    for field, value in (("width", 8), ("image_HWC", (16, 16, 3)), ("num_classes", 5)):
        other = source(tmp_path / field, **{field: value})
        with refused(match=f"is a network of .*{field} .*; allowed is name conv2, width 4"):
            dealt(ticket(other))


def test_a_zipped_run_is_a_source_of_its_own_pairs(tmp_path):
    pairs = source(tmp_path / "pairs", ((0, 0.5), (1, 0.75)))
    c = ticket(pairs, sparsity=(0.5, 0.75), combine="zip")
    assert [(p.seed, p.sparsity) for p in config.points(c)] == [(0, 0.5), (1, 0.75)]
    with pytest.raises(ConfigError, match="no card of seed 0 at sparsity 0.75"):
        ticket(pairs, sparsity=(0.5, 0.75))


def test_a_resume_finds_the_source_from_anywhere(tmp_path, monkeypatch):
    source(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert ticket(".").ticket.source == str(tmp_path)


@pytest.mark.slow
def test_tickets_of_a_real_run(tmp_path):
    """Iterative pruning, then its mask from the original weights, whole runs with cards and tables."""
    levels = dict(
        method="lth", scope="global", sparsity=(0.2, 0.36), pruning__rewind_steps=2, epochs=1
    )
    first = runs.tiny(tmp_path, **levels)
    runs.finished(first)
    again = {**levels, "method": "ticket", "ticket__source": str(folder.path_of(first))}
    for weights in ("original", "fresh"):
        c = runs.tiny(tmp_path, **again, ticket__weights=weights)
        results = runs.finished(c)
        rows = json.loads((folder.path_of(first) / "results.json").read_text())["results"]
        assert [r["realised_sparsity"] for r in results] == [r["realised_sparsity"] for r in rows]
        for point in config.points(c):
            mine, other = (pack.load(folder.card_path(x, point)).card.mask for x in (c, first))
            assert runs.same_arrays(mine, other)


def test_the_mask_of_a_card_that_diverged_is_none(tmp_path):
    path = source(tmp_path)
    file = path / "cards" / "0.card"
    card, (spec, meta) = pack.load(file), pack.about(file)
    meta["result"]["diverged_at"] = 3
    pack.save(file, card.card, spec, meta)
    with pytest.raises(ConfigError, match="seed 0 at sparsity 0.5 diverged; allowed are cards"):
        ticket(path)
