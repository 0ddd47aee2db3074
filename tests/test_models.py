"""Contracts of every architecture: shapes, counts, pinned names, training statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cards_jax import models
from cards_jax.models import Spec
from cards_jax.models.layers import BatchNorm, max_pool
from cards_jax.tree import flatten, only_prunable, size

COUNTS = {  # conv and linear weights at the original width, 32 x 32 images, 10 classes
    "conv2": 4_300_992,
    "conv4": 2_425_024,
    "conv6": 2_261_184,
    "conv8": 5_275_840,
    "resnet18": 11_164_352,
}


@pytest.mark.parametrize("name", COUNTS)
def test_weight_counts_are_the_originals(name):
    params, _ = models.shapes(Spec(name, models.family(name).WIDTH, 10))
    assert size(only_prunable(params)) == size(params) == COUNTS[name]


def test_resnet18_with_affine_norm_and_bias():
    params, stats = models.shapes(Spec("resnet18", 64, 10, affine=True, bias=True))
    assert size(params) == 11_173_962 and size(stats) == 9_600
    wide, _ = models.shapes(Spec("resnet18", 128, 100, affine=True, bias=True))
    assert size(wide) == 44_755_172


@pytest.mark.parametrize("name", sorted(models.families()))
def test_init_and_apply(name):
    spec = Spec(name, 4, 7, (16, 16, 3), affine=True, bias=True)
    model = models.build(spec)
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((5, 16, 16, 3), jnp.uint8)
    for train in (False, True):
        logits, changed = jax.eval_shape(
            lambda p, s, x, t=train: model.apply(p, s, x, t), params, stats, images
        )
        assert logits.shape == (5, 7) and logits.dtype == jnp.float32
        assert jax.tree.map(jnp.shape, changed) == jax.tree.map(jnp.shape, stats)


def test_names_are_an_interface():
    conv, _ = models.shapes(Spec("conv4", 8, 10))
    assert list(flatten(conv)) == [f"conv{i}/kernel" for i in (1, 2, 3, 4)] + [
        f"linear{i}/kernel" for i in (1, 2, 3)
    ]
    resnet, stats = models.shapes(Spec("resnet18", 8, 10))
    assert [k for k in flatten(resnet) if "layer2_0" in k] == [
        "layer2_0/conv1/kernel",
        "layer2_0/conv2/kernel",
        "layer2_0/shortcut_conv/kernel",
    ]
    assert {"bn1/mean", "layer4_1/bn2/var", "layer3_0/shortcut_bn/mean"} <= set(flatten(stats))


def test_unknown_architecture_names_the_nearest():
    with pytest.raises(ValueError, match="nearest is 'resnet18'"):
        models.family("resnet19")


def test_images_are_normalised_with_the_spec():
    spec = Spec("conv2", 4, 3, (8, 8, 3), mean=(0.5, 0.25, 0.125), std=(0.5, 1.0, 2.0))
    params, stats = models.build(spec).init(jax.random.key(0))
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    ours, _ = models.build(spec).apply(params, stats, images, False)
    plain = models.build(Spec("conv2", 4, 3, (8, 8, 3)))
    by_hand = (images / np.float32(255) - np.float32(spec.mean)) / np.float32(spec.std)
    np.testing.assert_allclose(ours, plain.apply(params, stats, by_hand, False)[0], rtol=1e-5)


def test_bfloat16_compute_keeps_float32_statistics_and_logits():
    spec = Spec("resnet18", 8, 10, (16, 16, 3))
    model, exact = models.build(spec, dtype="bfloat16"), models.build(spec)
    params, stats = exact.init(jax.random.key(0))
    images = np.random.default_rng(0).random((8, 16, 16, 3), np.float32)
    logits, changed = jax.jit(model.apply, static_argnums=3)(params, stats, images, True)
    wanted, _ = jax.jit(exact.apply, static_argnums=3)(params, stats, images, True)
    assert {x.dtype for x in jax.tree.leaves((logits, changed))} == {jnp.dtype("float32")}
    assert 0 < float(jnp.abs(logits - wanted).max()) < 0.1 * float(jnp.abs(wanted).max())


def test_batch_norm_survives_a_large_mean():
    """E[x^2] - m^2 cancels in float32; a mean of 30 standard deviations is still fine."""
    x = np.random.default_rng(0).standard_normal((64, 8, 8, 2)).astype(np.float32) + 30
    norm = BatchNorm(affine=False)
    out, changed = norm.apply(norm.init(jax.random.key(0), x, False), x, True, mutable=["stats"])
    np.testing.assert_allclose(out, (x - x.mean((0, 1, 2))) / x.std((0, 1, 2)), atol=2e-3)
    np.testing.assert_allclose(
        changed["stats"]["var"], 0.9 + 0.1 * x.var((0, 1, 2), ddof=1), rtol=1e-3
    )


def test_max_pool():
    x = np.random.default_rng(0).standard_normal((2, 5, 4, 3)).astype(np.float32)
    expected = x[:, :4].reshape(2, 2, 2, 2, 2, 3).max((2, 4))
    np.testing.assert_array_equal(max_pool(x), expected)
