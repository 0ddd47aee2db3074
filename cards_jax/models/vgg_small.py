"""VGG_Small of biprop, as published: ReLUs follow the first convolution and the last BatchNorm only."""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from cards_jax.models.layers import BatchNorm, Conv, Linear, max_pool

WIDTH = 128
VARIANTS = ("vgg_small",)
NORMALISED = True


class VGGSmall(nn.Module):
    """Three pairs of 3x3 convolutions of width w, 2w, 4w, each max-pooled and normalised, and one linear layer."""

    width: int
    conv: partial
    norm: partial
    linear: partial

    @nn.compact
    def __call__(self, x_BHWC: Array, train: bool) -> Array:
        x = x_BHWC
        for pair in range(3):
            features = self.width << pair
            x = self.conv(features, name=f"conv{2 * pair + 1}")(x)
            x = nn.relu(x) if pair == 0 else x
            x = max_pool(self.conv(features, name=f"conv{2 * pair + 2}")(x))
            x = self.norm(name=f"bn{pair + 1}")(x, train)
        x = nn.relu(x)
        return self.linear(name="fc")(x.reshape(x.shape[0], -1).astype(jnp.float32))


def make(spec, formulation: str | None, batch_axis: str | None) -> nn.Module:
    """The network that `spec` names."""
    conv = partial(Conv, formulation=formulation)
    norm = partial(BatchNorm, affine=spec.affine, gamma=spec.gamma, batch_axis=batch_axis)
    return VGGSmall(spec.width, conv, norm, partial(Linear, spec.num_classes, spec.bias))


def smallest_side(name: str) -> int:
    """Three max-pools halve the image."""
    del name
    return 8


def flattened(spec) -> tuple[int, int, int]:
    """(height, width, channels) of the map that the linear layer reads."""
    height, width, _ = spec.image_HWC
    return height >> 3, width >> 3, 4 * spec.width


BIPROP = {  # the one ReLU and the max-pools take numbers too
    "conv1": "convs.0",
    "conv2": "convs.2",
    "bn1": "convs.4",
    "conv3": "convs.5",
    "conv4": "convs.6",
    "bn2": "convs.8",
    "conv5": "convs.9",
    "conv6": "convs.10",
    "bn3": "convs.12",
    "fc": "linear.0",
}
TORCH = {"biprop": lambda path, spec: BIPROP[path]}
TORCH_LINEAR_4D = frozenset({"biprop"})
