"""No augmentation."""

import dataclasses

from jax import Array


@dataclasses.dataclass(frozen=True)
class Views:
    """The image itself, (1, H, W, C)."""

    def __call__(self, key: Array, image_HWC: Array) -> Array:
        del key
        return image_HWC[None]
