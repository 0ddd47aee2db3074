"""Compact, accurate and robust deep networks (CARDs), many realizations at a time.

A *card* is a compressed network. Functions are written for one card; `realizations` maps them over
many.

    import cards_jax
    card = cards_jax.load("runs/quickstart-.../cards/seed0_....card")
    probabilities = card.predict(images)  # uint8 or floats in [0, 1], (N, H, W, C)

A *deck* is several cards that predict together; it loads and predicts in the same way.

Axis letters in names: R realizations, N images, B batch, H W C height, width, channels, K classes,
L prunable layers, U mask updates, V augmented views.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["Deck", "benchmark", "export_state_dict", "import_state_dict", "load", "logits"]
# Modules of these names; the others' is interop.
HOME = {"Deck": "deck", "benchmark": "leaderboard", "load": "deck_file", "logits": "pack"}


def __getattr__(name: str) -> Any:
    """What `__all__` names, imported when first asked for: `import cards_jax` stays light."""
    if name in __all__:
        return getattr(importlib.import_module(f"cards_jax.{HOME.get(name, 'interop')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
