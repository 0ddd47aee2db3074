"""Compact, accurate and robust deep networks (CARDs), many realizations at a time.

A *card* is a compressed network. Functions are written for one card; `realizations` maps them over
many.

    import cards_jax
    card = cards_jax.load("runs/quickstart-.../cards/seed0_....npz")
    probabilities = card.predict(images)  # uint8 or floats in [0, 1], (N, H, W, C)

Axis letters in names: R realizations, N images, B batch, H W C height, width, channels, K classes,
L prunable layers, U mask updates, V augmented views.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load", "logits"]


def __getattr__(name: str) -> Any:
    """`load` and `logits` of pack.py, imported when first asked for: `import cards_jax` stays light."""
    if name in __all__:
        from cards_jax import pack

        return getattr(pack, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
