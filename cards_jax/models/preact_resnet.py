"""`preact_wrn18_2`: the pre-activation network of RobustBench's binary CARD entries, of stages w, 3w, 6w, 12w.

Its 24.9 million weights are not those of a ResNet-18 of twice the width, which is `wrn18_2`.
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from cards_jax.models.layers import BatchNorm, Conv, Linear, global_average
from cards_jax.models.torch_names import residual

WIDTH = 64
VARIANTS = {"preact_wrn18_2": (1, 3, 6, 12)}  # widths of the stages over the first
NORMALISED = True


class Block(nn.Module):
    """BatchNorm and ReLU before each of two 3x3 convolutions; the shortcut leaves after the first ReLU.

    That holds for the identity too, as published; it is a 1x1 convolution and BatchNorm where the shape changes.
    """

    features: int
    stride: int
    conv: partial
    norm: partial

    @nn.compact
    def __call__(self, x_BHWC: Array, train: bool) -> Array:
        x = nn.relu(self.norm(name="bn1")(x_BHWC, train))
        y = self.conv(self.features, stride=self.stride, name="conv1")(x)
        y = nn.relu(self.norm(name="bn2")(y, train))
        y = self.conv(self.features, name="conv2")(y)
        if y.shape != x.shape:
            conv = self.conv(self.features, size=1, stride=self.stride, name="shortcut_conv")
            x = self.norm(name="shortcut_bn")(conv(x), train)
        return y + x


class PreActResNet(nn.Module):
    """Stem, stages of equally many blocks, BatchNorm and ReLU, global average; later stages halve the resolution.

    block: (features, stride, conv, norm, name) -> module.
    """

    stem: int
    widths: tuple[int, ...]
    blocks: int
    block: Callable
    conv: partial
    norm: partial
    linear: partial

    @nn.compact
    def __call__(self, x_BHWC: Array, train: bool) -> Array:
        x = self.conv(self.stem, name="conv1")(x_BHWC)
        for stage, width in enumerate(self.widths):
            for i in range(self.blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                name = f"layer{stage + 1}_{i}"
                x = self.block(width, stride, self.conv, self.norm, name=name)(x, train)
        x = nn.relu(self.norm(name="bn1")(x, train))
        return self.linear(name="fc")(global_average(x.astype(jnp.float32)))


def make(spec, formulation: str | None, batch_axis: str | None) -> nn.Module:
    """The network that `spec` names."""
    conv = partial(Conv, formulation=formulation)
    norm = partial(BatchNorm, affine=spec.affine, gamma=spec.gamma, batch_axis=batch_axis)
    linear = partial(Linear, spec.num_classes, spec.bias)
    widths = tuple(spec.width * n for n in VARIANTS[spec.name])
    return PreActResNet(spec.width, widths, 2, Block, conv, norm, linear)


def smallest_side(name: str) -> int:
    """Three stages halve the image."""
    del name
    return 8


TORCH = {"robustbench": lambda path, spec: residual(path, "shortcut")}
TORCH_LINEAR_4D = frozenset({"robustbench"})
