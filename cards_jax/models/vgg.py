"""VGG-11, -13, -16, -19 for small images, as open_lth builds them: no max-pool after the last group, one linear layer.

With learnable BatchNorm the convolutions have biases under it, as published; those of edge-popup and biprop have none.
(open_lth leaves the last layer of a VGG unpruned by default; here every kernel is prunable: `model.unpruned`.)
"""

import re
from functools import partial
from itertools import accumulate

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from cards_jax.models.layers import BatchNorm, Conv, Linear, global_average, max_pool

WIDTH = 64
VARIANTS = {  # convolutions per group
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
NORMALISED = True


class VGG(nn.Module):
    """Groups of 3x3 convolutions of width w, 2w, 4w, 8w, 8w with max-pools between them, global average."""

    groups: tuple[int, ...]
    width: int
    conv: partial
    norm: partial
    linear: partial

    @nn.compact
    def __call__(self, x_BHWC: Array, train: bool) -> Array:
        x, number = x_BHWC, 0
        for group, convolutions in enumerate(self.groups):
            x = max_pool(x) if group else x
            for _ in range(convolutions):
                number += 1
                x = self.conv(self.width << min(group, 3), name=f"conv{number}")(x)
                x = nn.relu(self.norm(name=f"bn{number}")(x, train))
        return self.linear(name="fc")(global_average(x.astype(jnp.float32)))


def make(spec, formulation: str | None, batch_axis: str | None) -> nn.Module:
    """The network that `spec` names."""
    conv = partial(Conv, bias=spec.affine, formulation=formulation)
    norm = partial(BatchNorm, affine=spec.affine, gamma=spec.gamma, batch_axis=batch_axis)
    linear = partial(Linear, spec.num_classes, spec.bias)
    return VGG(VARIANTS[spec.name], spec.width, conv, norm, linear)


def smallest_side(name: str) -> int:
    """Four max-pools halve the image."""
    del name
    return 16


def _open_lth(path: str, spec) -> str:
    """`layers.{i}.conv` and `layers.{i}.bn`, where i counts the max-pools too."""
    if path == "fc":
        return path
    kind, number = re.fullmatch(r"(conv|bn)(\d+)", path).groups()
    before = int(number) - 1
    pools = sum(end <= before for end in accumulate(VARIANTS[spec.name]))
    return f"layers.{before + pools}.{kind}"


TORCH = {"open_lth": _open_lth}
