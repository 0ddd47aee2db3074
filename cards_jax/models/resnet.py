"""ResNet-18, -34 and -50 for small images: 3x3 stem, no max-pool, post-activation blocks, global average.

`wrn18_2` is the paper's WideResNet-18-2: ResNet-18 of twice the width (the memory that the paper gives says so).
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from cards_jax.models.layers import BatchNorm, Conv, Linear, global_average
from cards_jax.models.torch_names import residual

WIDTH = 64
WIDTHS = {"wrn18_2": 128}
VARIANTS = {  # blocks per stage
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "wrn18_2": (2, 2, 2, 2),
}
NORMALISED = True
EXPANSION = 4  # a bottleneck's outputs to its stage's width


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    features: int
    stride: int
    conv: partial
    norm: partial

    @nn.compact
    def __call__(self, x_BHWC: Array, train: bool) -> Array:
        y = self.conv(self.features, stride=self.stride, name="conv1")(x_BHWC)
        y = nn.relu(self.norm(name="bn1")(y, train))
        y = self.norm(name="bn2")(self.conv(self.features, name="conv2")(y), train)
        return nn.relu(y + shortcut(self, x_BHWC, y, train))


class Bottleneck(nn.Module):
    """1x1 down to `inner` channels, 3x3 in groups, 1x1 up to EXPANSION * features, and a shortcut."""

    features: int
    stride: int
    conv: partial
    norm: partial
    inner: int | None = None  # `features` where None
    groups: int = 1

    @nn.compact
    def __call__(self, x_BHWC: Array, train: bool) -> Array:
        inner = self.inner or self.features
        y = self.conv(inner, size=1, name="conv1")(x_BHWC)
        y = nn.relu(self.norm(name="bn1")(y, train))
        y = self.conv(inner, stride=self.stride, groups=self.groups, name="conv2")(y)
        y = nn.relu(self.norm(name="bn2")(y, train))
        y = self.conv(EXPANSION * self.features, size=1, name="conv3")(y)
        y = self.norm(name="bn3")(y, train)
        return nn.relu(y + shortcut(self, x_BHWC, y, train))


def shortcut(block: nn.Module, x_BHWC: Array, y_BHWC: Array, train: bool) -> Array:
    """x, through a 1x1 convolution and BatchNorm of the block where its shape is not y's."""
    if x_BHWC.shape == y_BHWC.shape:
        return x_BHWC
    conv = block.conv(y_BHWC.shape[-1], size=1, stride=block.stride, name="shortcut_conv")
    return block.norm(name="shortcut_bn")(conv(x_BHWC), train)


class ResNet(nn.Module):
    """Stages of width w, 2w, 4w, ...; the first keeps the resolution, each later one halves it.

    block: (features, stride, conv, norm, name) -> module.
    """

    blocks: tuple[int, ...]
    width: int
    block: Callable
    conv: partial
    norm: partial
    linear: partial

    @nn.compact
    def __call__(self, x_BHWC: Array, train: bool) -> Array:
        x = self.conv(self.width, name="conv1")(x_BHWC)
        x = nn.relu(self.norm(name="bn1")(x, train))
        for stage, blocks in enumerate(self.blocks):
            for i in range(blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                name = f"layer{stage + 1}_{i}"
                block = self.block(self.width << stage, stride, self.conv, self.norm, name=name)
                x = block(x, train)
        return self.linear(name="fc")(global_average(x.astype(jnp.float32)))


def make(spec, formulation: str | None, batch_axis: str | None) -> nn.Module:
    """The network that `spec` names."""
    block = Bottleneck if spec.name == "resnet50" else BasicBlock
    return post_activation(spec, formulation, batch_axis, VARIANTS[spec.name], block)


def post_activation(
    spec,
    formulation: str | None,
    batch_axis: str | None,
    blocks: tuple[int, ...],
    block: Callable = BasicBlock,
) -> nn.Module:
    """A ResNet of any stages and blocks with the spec's width, classes and BatchNorm."""
    conv = partial(Conv, formulation=formulation)
    norm = partial(BatchNorm, affine=spec.affine, gamma=spec.gamma, batch_axis=batch_axis)
    linear = partial(Linear, spec.num_classes, spec.bias)
    return ResNet(blocks, spec.width, block, conv, norm, linear)


def smallest_side(name: str) -> int:
    """Three stages halve the image."""
    del name
    return 8


TORCH = {
    "robustbench": lambda path, spec: residual(path, "downsample"),
    "biprop": lambda path, spec: residual(path, "shortcut"),
}
TORCH_LINEAR_4D = frozenset({"biprop"})
