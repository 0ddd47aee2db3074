"""Contracts of every architecture: shapes, counts, pinned names, training statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cards_jax import models
from cards_jax.losses import cross_entropy
from cards_jax.models import Spec
from cards_jax.models.layers import BatchNorm, max_pool
from cards_jax.tree import flatten, only_prunable, size

NAMES = sorted(models.families())
COUNTS = {  # at the original width, 32 x 32 images, 10 classes:
    # conv and linear weights, how many tensors, BatchNorm channels, and all with learnable BatchNorm and biases
    "conv2": (4_300_992, 5, 0, 4_300_992),
    "conv4": (2_425_024, 7, 0, 2_425_024),
    "conv6": (2_261_184, 9, 0, 2_261_184),
    "conv8": (5_275_840, 11, 0, 5_275_840),
    "vgg_small": (4_656_512, 7, 896, 4_658_314),
    "vgg11": (9_222_848, 9, 2_752, 9_231_114),
    "vgg13": (9_407_168, 11, 2_944, 9_416_010),
    "vgg16": (14_715_584, 14, 4_224, 14_728_266),
    "vgg19": (20_024_000, 17, 5_504, 20_040_522),
    "resnet20": (270_896, 22, 784, 272_474),
    "resnet32": (464_432, 34, 1_232, 466_906),
    "resnet44": (657_968, 46, 1_680, 661_338),
    "resnet56": (851_504, 58, 2_128, 855_770),
    "resnet110": (1_722_416, 112, 4_144, 1_730_714),
    "resnet18": (11_164_352, 21, 4_800, 11_173_962),
    "resnet34": (21_265_088, 37, 8_512, 21_282_122),
    "resnet50": (23_467_712, 54, 26_560, 23_520_842),
    "wrn18_2": (44_643_712, 21, 9_600, 44_662_922),
    "preact_wrn18_2": (24_868_032, 21, 7_040, 24_882_122),
    "wrn28_10": (36_461_232, 29, 8_976, 36_479_194),
    "wrn40_2": (2_238_128, 41, 2_704, 2_243_546),
    "resnext29_4x32": (6_782_656, 32, 12_608, 6_807_882),
}
OF_100_CLASSES = {  # weights, and all with learnable BatchNorm and biases
    "wrn18_2": (44_735_872, 44_755_172),
    "preact_wrn18_2": (24_937_152, None),
    "resnet50": (23_652_032, None),
    "resnext29_4x32": (6_874_816, 6_900_132),
}


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_the_originals(name):
    weights, tensors, channels, total = COUNTS[name]
    width, normalised = models.width(name), models.family(name).NORMALISED
    params, stats = models.shapes(Spec(name, width, 10))
    assert size(only_prunable(params)) == size(params) == weights
    assert len(jax.tree.leaves(params)) == tensors and size(stats) == 2 * channels
    dense = Spec(name, width, 10, affine=normalised, bias=normalised)
    assert size(models.shapes(dense)[0]) == total


@pytest.mark.parametrize("name", OF_100_CLASSES)
def test_counts_of_100_classes(name):
    weights, total = OF_100_CLASSES[name]
    params, _ = models.shapes(Spec(name, models.width(name), 100, affine=True, bias=True))
    assert size(only_prunable(params)) == weights and total in (None, size(params))


def test_counts_of_another_width():
    params, stats = models.shapes(Spec("resnet20", 64, 10, affine=True, bias=True))
    assert size(only_prunable(params)) == 4_321_472 and size(params) == 4_327_754
    assert size(stats) == 6_272
    assert models.width("resnet18") == 64 and models.width("wrn18_2") == 128


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", ["smallest", 40])
def test_other_image_sizes(name, side):
    side = models.family(name).smallest_side(name) if side == "smallest" else side
    spec = Spec(name, 4, 3, (side, side, 3))
    params, stats = models.shapes(spec)
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    apply = lambda p, s, x: models.build(spec).apply(p, s, x, False)[0]
    assert jax.eval_shape(apply, params, stats, images).shape == (2, 3)


FAST = ("conv2", "vgg_small", "resnet20")


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_a_step_of_two_realizations(name):
    """Finite losses that differ between them; statistics and every kernel move."""
    side = models.family(name).smallest_side(name)
    spec = Spec(name, 4, 3, (side, side, 3), affine=True, bias=True)
    rng = np.random.default_rng(0)
    images = rng.random((4, side, side, 3), np.float32)
    draw = lambda x: rng.standard_normal((2, *x.shape), np.float32) / np.sqrt(size(x) / x.shape[-1])
    params, stats = jax.tree.map(draw, models.shapes(spec))

    def step(params, stats):
        logits, changed = models.build(spec).apply(params, stats, images, True)
        return jnp.mean(cross_entropy(logits, jnp.array([0, 1, 2, 1]))), changed

    step = jax.vmap(jax.value_and_grad(step, has_aux=True))
    (value, changed), grads = jax.jit(step)(params, stats)
    assert np.isfinite(value).all() and value[0] != value[1]
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    for path, gradient in flatten(only_prunable(grads)).items():
        assert gradient.any(axis=tuple(range(1, gradient.ndim))).all(), path
    for path, before in flatten(stats).items():
        assert (flatten(changed)[path] != before).any(axis=1).all(), path


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


TORCH_NAMES = {  # network, dialect, our path: the original's
    ("conv8", "biprop", "conv8"): "convs.17",
    ("conv8", "biprop", "linear3"): "linear.4",
    ("vgg_small", "biprop", "conv6"): "convs.10",
    ("vgg_small", "biprop", "bn3"): "convs.12",
    ("vgg_small", "biprop", "fc"): "linear.0",
    ("vgg19", "open_lth", "conv16"): "layers.19.conv",
    ("vgg19", "open_lth", "bn9"): "layers.11.bn",
    ("vgg11", "open_lth", "fc"): "fc",
    ("resnet18", "robustbench", "layer2_0/shortcut_bn"): "layer2.0.downsample.1",
    ("resnet50", "biprop", "layer1_0/shortcut_conv"): "layer1.0.shortcut.0",
    ("resnet50", "robustbench", "layer3_5/conv3"): "layer3.5.conv3",
    ("resnet20", "open_lth", "conv1"): "conv",
    ("resnet20", "open_lth", "layer3_0/shortcut_bn"): "blocks.6.shortcut.1",
    ("resnet110", "open_lth", "layer2_17/bn2"): "blocks.35.bn2",
    ("resnet110", "biprop", "layer2_17/bn2"): "layer2.17.bn2",
    ("preact_wrn18_2", "robustbench", "layer4_0/shortcut_conv"): "layer4.0.shortcut.0",
    ("preact_wrn18_2", "robustbench", "bn1"): "bn1",
    ("wrn28_10", "robustbench", "layer1_0/shortcut_conv"): "block1.layer.0.convShortcut",
    ("wrn40_2", "robustbench", "layer3_5/bn2"): "block3.layer.5.bn2",
    ("resnext29_4x32", "robustbench", "conv1"): "conv_1_3x3",
    ("resnext29_4x32", "robustbench", "layer2_0/conv2"): "stage_2.0.conv_conv",
    ("resnext29_4x32", "robustbench", "layer1_0/shortcut_bn"): "stage_1.0.downsample.1",
}


@pytest.mark.parametrize(("name", "dialect", "path"), TORCH_NAMES)
def test_torch_names(name, dialect, path):
    spec = Spec(name, 8, 10, affine=True, bias=True)
    trees = models.shapes(spec)
    assert path in {leaf.rsplit("/", 1)[0] for tree in trees for leaf in flatten(tree)}
    assert models.family(name).TORCH[dialect](path, spec) == TORCH_NAMES[name, dialect, path]


def test_resnext_and_wide_resnets_start_by_fan_out(key):
    """std sqrt(2 / (k * k * outputs)) whatever the groups, zero biases, as their authors' code does."""
    for name, path in (("resnext29_4x32", "layer3_2/conv2"), ("wrn40_2", "layer3_1/conv1")):
        spec = Spec(name, 32, 10, affine=True, bias=True)
        init = lambda key, s=spec: flatten(models.build(s).init(key)[0])
        pick = lambda key, f=init, p=path: (f(key)[f"{p}/kernel"], f(key)["fc/bias"])
        kernel, bias = jax.jit(pick)(key)
        np.testing.assert_allclose(kernel.std(), (2 / (9 * kernel.shape[-1])) ** 0.5, rtol=0.02)
        assert not bias.any()


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


@pytest.mark.parametrize("name", ["conv2", "vgg_small", "vgg11", "resnet20"])
def test_logits_are_computed_in_float32(name):
    spec = Spec(name, 4, 10, (8, 8, 3))
    model = models.build(spec, dtype="bfloat16")
    params, stats = model.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (4, 8, 8, 3))
    logits, _ = model.apply(params, stats, images, False)
    assert logits.dtype == jnp.float32
    assert (logits.astype(jnp.bfloat16).astype(jnp.float32) != logits).any()
