"""Compact, accurate and robust deep networks (CARDs), many realizations at a time.

A *card* is a compressed network. Functions are written for one card; `realizations` maps them over
many.

    import cards_jax
    card = cards_jax.load("runs/quickstart-.../cards/seed0_....card")
    probabilities = card.predict(images)  # uint8 or floats in [0, 1], (N, H, W, C)

A *deck* is several cards that predict together; it loads and predicts in the same way. What the commands do can be
called as well: `train_cards`, `measure_corruptions`, `measure_heatmaps`, `build_deck`; `benchmark` measures anything
that predicts, `describe` says what a card is.

Axis letters in names: R realizations, N images, B batch, H W C height, width, channels, K classes,
L prunable layers, U mask updates, V augmented views.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
# {name: the module that defines it}
HOME = {
    "Deck": "deck",
    "benchmark": "leaderboard",
    "build_deck": "api",
    "describe": "show",
    "export_state_dict": "interop",
    "import_state_dict": "interop",
    "load": "deck_file",
    "logits": "pack",
    "measure_corruptions": "api",
    "measure_heatmaps": "api",
    "train_cards": "api",
}
__all__ = list(HOME)


def __getattr__(name: str) -> Any:
    """What `__all__` names, imported when first asked for: `import cards_jax` stays light."""
    if name in HOME:
        return getattr(importlib.import_module(f"cards_jax.{HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
