"""Conv2, Conv4, Conv6, Conv8: the VGG-like networks of the lottery-ticket papers, without BatchNorm or biases."""

import re

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from cards_jax.models.layers import Conv, Linear, max_pool

WIDTH = 64
VARIANTS = {"conv2": 1, "conv4": 2, "conv6": 3, "conv8": 4}  # pairs of convolutions
NORMALISED = False


class ConvNet(nn.Module):
    """Pairs of 3x3 convolutions of width w, 2w, 4w, 8w, each pair max-pooled, then three linear layers."""

    pairs: int
    width: int
    num_classes: int
    formulation: str | None = None

    @nn.compact
    def __call__(self, x_BHWC: Array, train: bool) -> Array:
        del train
        x = x_BHWC
        for pair in range(self.pairs):
            for i in (2 * pair + 1, 2 * pair + 2):
                features = self.width << pair
                x = nn.relu(Conv(features, formulation=self.formulation, name=f"conv{i}")(x))
            x = max_pool(x)
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(Linear(4 * self.width, name="linear1")(x))
        x = nn.relu(Linear(4 * self.width, name="linear2")(x))
        return Linear(self.num_classes, name="linear3")(x.astype(jnp.float32))


def make(spec, formulation: str | None, batch_axis: str | None) -> nn.Module:
    """The network that `spec` names; it has no statistics, so that a split batch needs nothing."""
    del batch_axis
    return ConvNet(VARIANTS[spec.name], spec.width, spec.num_classes, formulation)


def smallest_side(name: str) -> int:
    """Every pair halves the image."""
    return 2 ** VARIANTS[name]


def flattened(spec) -> tuple[int, int, int]:
    """(height, width, channels) of the map that the first linear layer reads."""
    pairs = VARIANTS[spec.name]
    height, width, _ = spec.image_HWC
    return height >> pairs, width >> pairs, spec.width << (pairs - 1)


def _biprop(path: str, spec) -> str:
    """`convs.{0,2,5,7,...}` are convolutions (ReLUs and max-pools take numbers too), `linear.{0,2,4}` the head."""
    del spec
    kind, number = re.fullmatch(r"(conv|linear)(\d+)", path).groups()
    pair, second = divmod(int(number) - 1, 2)
    return f"convs.{5 * pair + 2 * second}" if kind == "conv" else f"linear.{2 * int(number) - 2}"


TORCH = {"biprop": _biprop}
TORCH_LINEAR_4D = frozenset({"biprop"})
