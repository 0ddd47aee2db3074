"""What the realization axis promises, on real short trainings."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import walk

from cards_jax import config, losses, masks, models, realizations, train, tree
from cards_jax.realizations import fetch
from cards_jax.trainer import Trainer
from cards_jax.tree import flatten

METHODS = {
    "dense": {"method": "dense", "sparsity": (0.0,)},
    "ep": {"method": "ep", "sparsity": (0.5, 0.8)},
    "bp": {"method": "bp", "sparsity": (0.5, 0.8)},
    "bp global": {
        "method": "bp",
        "scope": "global",
        "sparsity": (0.5, 0.8),
        "popup__progressive_epochs": 2,
    },
}
# With a gradient in the update of the mask.
ALONE = METHODS | {"rigl": {"method": "rigl", "sparsity": (0.5, 0.8), "pruning__every": 1}}
STEPS = 3


def steps(c, count=STEPS, devices=1, split=0, points=None):
    """(stacked state after some steps, stacked finished cards), on the host."""
    t, group, state = small.trainer(c, devices, split, points)
    state, _ = t.chunk(state, group, 0, 0, count, True)
    cards = t.finish(state, group, 0)
    return fetch(state), fetch(cards)


def relative_difference(a, b) -> float:
    """Largest difference of two trees, relative to the largest magnitude of each leaf."""
    worst = 0.0
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        scale = max(np.abs(y).max(), 1e-12)
        worst = max(worst, float(np.abs(x - y).max() / scale))
    return worst


def mask_difference(a, b) -> float:
    """Share of mask entries that differ."""
    pairs = list(zip(jax.tree.leaves(a.mask), jax.tree.leaves(b.mask), strict=True))
    total = sum(x.size for x, _ in pairs)
    return sum(int((x != y).sum()) for x, y in pairs) / max(total, 1)


@pytest.mark.parametrize(
    "method",
    [pytest.param(m, marks=[pytest.mark.slow] * (m not in ("dense", "bp"))) for m in ALONE],
)
def test_each_realization_trains_as_it_would_alone(method):
    c = small.tiny(seeds=(0, 7), learning_rate=(0.1, 0.02), **ALONE[method])
    points = config.points(c)
    many, cards = steps(c)
    for i in (0, len(points) - 1):
        alone, card = steps(c, points=[points[i]])
        take = lambda tree, j: jax.tree.map(lambda x: x[j], tree)
        assert relative_difference(take(many.card.params, i), take(alone.card.params, 0)) < 1e-5
        assert mask_difference(take(cards, i), take(card, 0)) <= 1e-5


@pytest.mark.slow
def test_masks_are_equal_at_the_start():
    c = small.tiny(seeds=(0, 7), sparsity=(0.5, 0.9))
    points = config.points(c)
    _, many = steps(c, count=0)
    for i in (0, len(points) - 1):
        _, alone = steps(c, count=0, points=[points[i]])
        for a, b in zip(jax.tree.leaves(many.mask), jax.tree.leaves(alone.mask), strict=True):
            np.testing.assert_array_equal(a[i], b[0])


def test_seeds_differ_and_equal_seeds_share_their_start():
    c = small.tiny(seeds=(0, 1), sparsity=(0.5, 0.8))
    state, _ = steps(c, count=0)
    scores = state.card.params["conv1"]["kernel"]
    assert (scores[0] == scores[1]).all() and (scores[0] != scores[2]).any()


@pytest.mark.slow
def test_four_devices_equal_one():
    c = small.tiny(seeds=(0, 1, 2), sparsity=(0.5,))
    one, _ = steps(c)
    four, _ = steps(c, devices=4)  # padded to four realizations
    cut = jax.tree.map(lambda x: x[:3], four)
    assert relative_difference(cut.card.params, one.card.params) < 1e-5
    assert (cut.sums.correct == one.sums.correct).all()


@pytest.mark.parametrize("model", ["conv2", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_split_batches_equal_whole_ones(model):
    """Gradients through the custom convolution, and BatchNorm statistics, averaged over a mesh axis."""
    c = small.tiny(method="dense", sparsity=(0.0,), model__name=model, learning_rate=(0.01,))
    whole, _ = steps(c, count=2)
    split, _ = steps(c, count=2, devices=4, split=4)
    assert relative_difference(split.card.params, whole.card.params) < 1e-4
    assert relative_difference(split.card.stats, whole.card.stats) < 1e-4
    np.testing.assert_allclose(split.sums.loss, whole.sums.loss, rtol=1e-4)
    assert (split.sums.correct == whole.sums.correct).all()


def test_split_evaluation_counts_every_image_once():
    c = small.tiny(seeds=(0,))
    t, group, state = small.trainer(c)
    whole = fetch(t.evaluate(state, group, 0, 0)["test"])
    t, group, state = small.trainer(c, devices=4, split=4)
    split = fetch(t.evaluate(state, group, 0, 0)["test"])
    assert whole["count"] == split["count"] == 40 and whole["correct"] == split["correct"]
    np.testing.assert_allclose(split["loss"], whole["loss"], rtol=1e-5)


def test_no_collective_joins_realizations_and_loops_have_canonical_convolutions():
    c = small.tiny(seeds=(0, 1, 2, 3), sparsity=(0.5,))
    t, group, state = small.trainer(c, devices=4)
    t.chunk(state, group, 0, 0, 1, True)
    (program,) = [p for key, p in t._programs.items() if key[0].startswith("chunk")]
    text = program.as_text()
    assert not re.findall(r"all-(?:reduce|gather|to-all)|collective-permute|reduce-scatter", text)
    found = [x for x in text.splitlines() if re.search(r"= \S+ convolution\(", x)]
    assert found
    for line in found:
        assert "dim_labels=b01f_01io->b01f" in line and "group_count" not in line


def test_a_diverged_realization_is_frozen_and_its_neighbours_are_bit_identical():
    calm = small.tiny(seeds=(0, 1), learning_rate=(0.05,))
    points = config.points(calm)
    wild = [points[0], config.Point(1, 0.5, 1e30, 1e-4)]
    good, _ = steps(calm, count=6, points=points)
    bad, _ = steps(calm, count=6, points=wild)
    assert good.diverged_at.tolist() == [-1, -1]
    assert bad.diverged_at[0] == -1 and bad.diverged_at[1] >= 0
    for a, b in zip(jax.tree.leaves(good), jax.tree.leaves(bad), strict=True):
        np.testing.assert_array_equal(a[0], b[0])
    frozen = steps(calm, count=5, points=wild)[0]
    for a, b in zip(jax.tree.leaves(frozen), jax.tree.leaves(bad), strict=True):
        np.testing.assert_array_equal(a[1], b[1])


@pytest.mark.slow
def test_a_mask_is_frozen_where_its_realization_diverged():
    """Updates go on beside it."""
    c = small.tiny(method="rigl", sparsity=(0.5,), pruning__every=1)
    points = [config.Point(0, 0.5, 0.05, 1e-4), config.Point(1, 0.5, 1e30, 1e-4)]
    before, after = (steps(c, count=n, points=points)[0] for n in (4, 5))
    assert before.diverged_at[0] == -1 and 0 <= before.diverged_at[1] < 4
    pairs = list(zip(jax.tree.leaves(before.card), jax.tree.leaves(after.card), strict=True))
    assert any((x[0] != y[0]).any() for x, y in pairs)
    for x, y in pairs:
        np.testing.assert_array_equal(x[1], y[1])


def test_cuts_between_chunks_do_not_change_a_bit():
    c = small.tiny(seeds=(0, 1), augment="standard")
    whole, _ = steps(c, count=6)
    t, group, state = small.trainer(c)
    for first, last in ((0, 1), (1, 4), (4, 6)):
        state, _ = t.chunk(state, group, 0, first, last, first == 0)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(fetch(state)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_is_recompiled_between_epochs_chunks_and_groups():
    c = small.tiny(seeds=(0, 1), sparsity=(0.5, 0.8), scope="global", popup__progressive_epochs=1)
    t, group, state = small.trainer(c)
    others = t.group([config.Point(p.seed + 5, p.sparsity + 0.1, 0.3, 0.0) for p in group.points])
    compiled = []
    for g in (group, others):
        state = t.enter(t.deal(g), g, 0)
        for first, last in ((0, 6), (6, 7), (7, 12), (12, 18)):
            state, _ = t.chunk(state, g, 0, first, last, first % 6 == 0)
            t.evaluate(state, g, 0, last)
        t.finish(state, g, 0)
        compiled.append(t.compilations)
    assert compiled == [5, 5]  # deal, enter, chunk, evaluate, finish


@pytest.mark.parametrize("devices, split", [(1, 0), pytest.param(4, 2, marks=pytest.mark.slow)])
def test_every_set_is_measured_whole_by_one_program(devices, split):
    """Neither fills a batch, and images of one must not count for the other."""
    c = small.tiny(seeds=(0, 1), method="dense", sparsity=(0.0,))
    whole = small.data(train=96, test=59)
    d = dataclasses.replace(
        whole,
        test_images=whole.test_images[:37],
        test_labels=whole.test_labels[:37],
        holdout_images=whole.test_images[37:],
        holdout_labels=whole.test_labels[37:],
    )
    layout = realizations.layout(2, split, c.batch_size, devices)
    t = Trainer(c, d, layout)
    group = t.group(config.points(c))
    cards = t.finish(t.enter(t.deal(group), group, 0), group, 0)
    found, cards = fetch(t.evaluate_cards(cards)), fetch(cards)
    assert t.compilations == 4  # deal, enter, finish, evaluate
    for name, images, labels in (
        ("test", d.test_images, d.test_labels),
        ("holdout", d.holdout_images, d.holdout_labels),
    ):
        np.testing.assert_array_equal(found[name]["count"], len(labels))
        for i in range(2):
            card = tree.take(cards, i)
            logits, _ = t.recipe.model.apply(card.params, card.stats, images, False)
            assert found[name]["correct"][i] == (np.argmax(logits, -1) == labels).sum()
            loss = losses.cross_entropy(logits, jnp.asarray(labels)).sum()
            np.testing.assert_allclose(found[name]["loss"][i], loss, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_contract_of_a_method(method):
    """Sparsity as asked, pruned weights exactly zero, frozen weights untouched, few values in a binary layer."""
    c = small.tiny(seeds=(0,), **METHODS[method])
    t, group, state = small.trainer(c)
    before = fetch(state.card.frozen)
    last = group.phases[0].last
    for first in range(0, last, 6):
        state, _ = t.chunk(state, group, 0, first, min(first + 6, last), True)
    cards = t.finish(state, group, 0)
    kept, cards = fetch(t.evaluate_cards(cards)["test"])["nonzero"], fetch(cards)
    sizes = [int(np.prod(shape)) for shape in t.shapes]
    for a, b in zip(
        jax.tree.leaves(before), jax.tree.leaves(fetch(state.card.frozen)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    for i, point in enumerate(group.points):
        total = sum(sizes)
        if method == "bp global":
            assert kept[i] == total - int(np.float64(point.sparsity) * total)
        else:
            assert kept[i] == sum(n - int(point.sparsity * n) for n in sizes)
        weights, masks = flatten(cards.params), flatten(cards.mask)
        for path, mask in masks.items():
            assert not weights[path][i][~mask[i]].any()
            if method.startswith("bp"):
                assert len(np.unique(weights[path][i])) <= 3


def test_training_learns():
    c = small.tiny(seeds=(0, 1), sparsity=(0.5,), epochs=30, learning_rate=(0.2,), augment="plain")
    t, group, state = small.trainer(c)
    for first in range(0, 180, 6):
        state, _ = t.chunk(state, group, 0, first, first + 6, True)
    sums = fetch(t.evaluate(state, group, 0, 180)["test"])
    assert (sums["correct"] / sums["count"] > 0.8).all()


def test_an_emptied_layer_stays_finite():
    c = small.tiny(scope="global", sparsity=(0.99,), popup__progressive_epochs=0)
    state, cards = steps(c, count=2)
    assert min(int(m.sum()) for m in jax.tree.leaves(cards.mask)) == 0
    assert state.diverged_at.tolist() == [-1] and np.isfinite(state.sums.loss).all()


def test_adam_is_that_of_pytorch():
    """Moments with their corrections, decay in the gradient, epsilon beside the root (Kingma and Ba 2015)."""
    recipe = train.Recipe(models.Spec("conv2", 4, 4), 16, optimizer="adam", momentum=0.8)
    adam = train.optimizer(recipe, 0.01)
    rng = np.random.default_rng(0)
    w = rng.normal(size=7)
    ours, state = w.astype(np.float32), adam.init(w.astype(np.float32))
    m = v = np.zeros(7)
    for t in range(1, 6):
        gradient = rng.normal(size=7)
        moves, state = adam.update(gradient.astype(np.float32), state, ours)
        ours = ours - 0.1 * moves
        g = gradient + 0.01 * w
        m, v = 0.8 * m + 0.2 * g, 0.999 * v + 0.001 * g**2
        w = w - 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(ours, w, rtol=1e-4)


@pytest.mark.parametrize("method", ["gmp", pytest.param("bp", marks=pytest.mark.slow)])
def test_adam_trains_and_leaves_pruned_weights_at_zero(method):
    c = small.tiny(method=method, optimizer__name="adam", learning_rate=(0.01,), epochs=2)
    found, _, _ = walk.walk(c)
    ((card, nonzero),) = found.values()
    for path, mask in flatten(card.mask).items():
        assert not np.any(flatten(card.params)[path][~mask])
    assert nonzero == masks.kept(card.mask)
