"""ResNet-18 and -34 for small images: 3x3 stem, no max-pool, post-activation blocks, global average."""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from cards_jax.models.layers import BatchNorm, Conv, Linear, global_average

WIDTH = 64
VARIANTS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}  # blocks per stage
NORMALISED = True


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
        if y.shape != x_BHWC.shape:
            shortcut = self.conv(self.features, size=1, stride=self.stride, name="shortcut_conv")
            x_BHWC = self.norm(name="shortcut_bn")(shortcut(x_BHWC), train)
        return nn.relu(y + x_BHWC)


class ResNet(nn.Module):
    """Stages of width w, 2w, 4w, 8w; the first keeps the resolution, each later one halves it."""

    blocks: tuple[int, ...]
    width: int
    num_classes: int
    bias: bool
    conv: partial
    norm: partial

    @nn.compact
    def __call__(self, x_BHWC: Array, train: bool) -> Array:
        x = self.conv(self.width, name="conv1")(x_BHWC)
        x = nn.relu(self.norm(name="bn1")(x, train))
        for stage, blocks in enumerate(self.blocks):
            for i in range(blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                block = BasicBlock(
                    self.width << stage, stride, self.conv, self.norm, name=f"layer{stage + 1}_{i}"
                )
                x = block(x, train)
        x = global_average(x.astype(jnp.float32))
        return Linear(self.num_classes, self.bias, name="fc")(x)


def make(spec, formulation: str | None, batch_axis: str | None) -> nn.Module:
    """The network that `spec` names."""
    conv = partial(Conv, formulation=formulation)
    norm = partial(BatchNorm, affine=spec.affine, gamma=spec.gamma, batch_axis=batch_axis)
    return ResNet(VARIANTS[spec.name], spec.width, spec.num_classes, spec.bias, conv, norm)


def smallest_side(name: str) -> int:
    """Three stages halve the image."""
    del name
    return 8
