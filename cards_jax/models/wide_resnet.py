"""WideResNet-28-10 and -40-2 (Zagoruyko and Komodakis 2016), as AugMix and RobustBench's `WideResNet` build them.

The width is that of the first stage (16 times the widening factor); the stem has 16 channels at every width.
"""

from functools import partial

from flax import linen as nn
from jax import Array

from cards_jax.models.layers import BatchNorm, Conv, Linear, kaiming_normal_out
from cards_jax.models.preact_resnet import PreActResNet
from cards_jax.models.torch_names import place

WIDTH = 160
WIDTHS = {"wrn40_2": 32}
VARIANTS = {"wrn28_10": 4, "wrn40_2": 6}  # blocks per stage
NORMALISED = True
STEM = 16


class Block(nn.Module):
    """BatchNorm and ReLU before each of two 3x3 convolutions.

    An identity shortcut leaves before the first BatchNorm, a 1x1 convolution after the first ReLU.
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
        if y.shape == x_BHWC.shape:
            return y + x_BHWC
        conv = self.conv(self.features, size=1, stride=self.stride, name="shortcut_conv")
        return y + conv(x)


def make(spec, formulation: str | None, batch_axis: str | None) -> nn.Module:
    """The network that `spec` names."""
    conv = partial(Conv, initial=kaiming_normal_out, formulation=formulation)
    norm = partial(BatchNorm, affine=spec.affine, gamma=spec.gamma, batch_axis=batch_axis)
    linear = partial(Linear, spec.num_classes, spec.bias, zero_bias=True)
    widths = (spec.width, 2 * spec.width, 4 * spec.width)
    return PreActResNet(STEM, widths, VARIANTS[spec.name], Block, conv, norm, linear)


def smallest_side(name: str) -> int:
    """Two stages halve the image."""
    del name
    return 4


def _robustbench(path: str, spec) -> str:
    """Stages are `block1.layer` to `block3.layer`, projections `convShortcut`."""
    del spec
    if not (at := place(path)):
        return path
    stage, block, layer = at
    return f"block{stage}.layer.{block}.{'convShortcut' if layer == 'shortcut_conv' else layer}"


TORCH = {"robustbench": _robustbench}
