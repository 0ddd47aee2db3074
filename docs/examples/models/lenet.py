"""lenet: two convolutions and three linear layers, after LeCun et al. (1998), with ReLUs and max-pools."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from cards_jax.models.layers import Conv, Linear, max_pool

WIDTH = 6  # channels of the first stage
VARIANTS = ("lenet",)
NORMALISED = False  # it has no BatchNorm
TORCH = {}  # no PyTorch original whose names are known


class LeNet(nn.Module):
    """Every layer has a name: names are the paths of masks and of files."""

    width: int
    num_classes: int
    formulation: str | None = None

    @nn.compact
    def __call__(self, x_BHWC: Array, train: bool) -> Array:
        del train
        w, x = self.width, x_BHWC
        for i, features in enumerate((w, 2 * w), start=1):
            x = max_pool(nn.relu(Conv(features, formulation=self.formulation, name=f"conv{i}")(x)))
        x = x.reshape(x.shape[0], -1)
        for i, features in enumerate((20 * w, 14 * w), start=1):
            x = nn.relu(Linear(features, name=f"linear{i}")(x))
        return Linear(self.num_classes, name="linear3")(x).astype(jnp.float32)


def make(spec, formulation: str | None, batch_axis: str | None) -> nn.Module:
    """The network that a spec names; without BatchNorm a split batch needs nothing."""
    del batch_axis
    return LeNet(spec.width, spec.num_classes, formulation)


def smallest_side(name: str) -> int:
    """Two max-pools halve the image."""
    del name
    return 4


def flattened(spec) -> tuple[int, int]:
    """(side, channels) of the map that the first linear layer reads."""
    return spec.image_HWC[0] >> 2, 2 * spec.width
