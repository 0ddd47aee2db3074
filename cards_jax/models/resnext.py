"""ResNeXt-29 (4x32): bottlenecks with a 3x3 convolution in 4 groups, as AugMix and RobustBench build it."""

from functools import partial

from flax import linen as nn

from cards_jax.models.layers import BatchNorm, Conv, Linear, kaiming_normal_out
from cards_jax.models.resnet import Bottleneck, ResNet
from cards_jax.models.torch_names import place

WIDTH = 64
VARIANTS = {"resnext29_4x32": (4, 32)}  # groups, and channels of each per 64 of the stage's width
NORMALISED = True


def make(spec, formulation: str | None, batch_axis: str | None) -> nn.Module:
    """The network that `spec` names."""
    groups, channels = VARIANTS[spec.name]

    def block(features, *args, **kwargs):
        inner = groups * max(1, features * channels // 64)
        return Bottleneck(features, *args, inner=inner, groups=groups, **kwargs)

    conv = partial(Conv, initial=kaiming_normal_out, formulation=formulation)
    norm = partial(BatchNorm, affine=spec.affine, gamma=spec.gamma, batch_axis=batch_axis)
    linear = partial(Linear, spec.num_classes, spec.bias, zero_bias=True)
    return ResNet((3, 3, 3), spec.width, block, conv, norm, linear)


def smallest_side(name: str) -> int:
    """Two stages halve the image."""
    del name
    return 4


STEM_AND_HEAD = {"conv1": "conv_1_3x3", "bn1": "bn_1", "fc": "classifier"}
IN_BLOCK = {
    "conv1": "conv_reduce",
    "bn1": "bn_reduce",
    "conv2": "conv_conv",
    "bn2": "bn",
    "conv3": "conv_expand",
    "bn3": "bn_expand",
    "shortcut_conv": "downsample.0",
    "shortcut_bn": "downsample.1",
}


def _robustbench(path: str, spec) -> str:
    """Stages are `stage_1` to `stage_3`; the layers of a block are called by what they do."""
    del spec
    if not (at := place(path)):
        return STEM_AND_HEAD[path]
    stage, block, layer = at
    return f"stage_{stage}.{block}.{IN_BLOCK[layer]}"


TORCH = {"robustbench": _robustbench}
