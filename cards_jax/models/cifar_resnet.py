"""ResNet-20 to -110 for CIFAR: three stages of width w, 2w, 4w with 1x1 projections, global average."""

from flax import linen as nn

from cards_jax.models.resnet import post_activation
from cards_jax.models.torch_names import place, residual, within

WIDTH = 16
VARIANTS = {f"resnet{6 * n + 2}": n for n in (3, 5, 7, 9, 18)}  # blocks per stage
NORMALISED = True


def make(spec, formulation: str | None, batch_axis: str | None) -> nn.Module:
    """The network that `spec` names."""
    return post_activation(spec, formulation, batch_axis, (VARIANTS[spec.name],) * 3)


def smallest_side(name: str) -> int:
    """Two stages halve the image."""
    del name
    return 4


def _open_lth(path: str, spec) -> str:
    """The stem is `conv` and `bn`, blocks are numbered through."""
    if not (at := place(path)):
        return {"conv1": "conv", "bn1": "bn"}.get(path, path)
    stage, block, layer = at
    number = (stage - 1) * VARIANTS[spec.name] + block
    return f"blocks.{number}.{within(layer, 'shortcut')}"


TORCH = {"open_lth": _open_lth, "biprop": lambda path, spec: residual(path, "shortcut")}
TORCH_LINEAR_4D = frozenset({"biprop"})
