"""Random crop alone, for images that a mirror would change into something else (digits, letters)."""

import dataclasses

from jax import Array

from cards_jax.augment import standard


@dataclasses.dataclass(frozen=True)
class Views:
    """One view, (1, H, W, C), shifted by up to 4 pixels."""

    def __call__(self, key: Array, image_HWC: Array) -> Array:
        return standard.crop(key, image_HWC)[None]
