"""Compression methods by name: each module gives `phases(c, steps_per_epoch)` and how it starts a card.

A new method is one new file with
  phases(c, steps_per_epoch) -> list[Phase], and optionally
  init(c, card, start) -> Card, which turns a freshly initialised dense card into the method's own;
  given(c, spec, points) -> {name: array (R, ...)}, what `init` needs from elsewhere (`start.given`);
  weight_init(c) -> the kind of its random weights, where it never trains them (origin.py);
  saves(c) -> names of the cards that its phases set aside;
  PRUNES = False where it keeps every weight;
  AFFINE = False where its networks have fixed BatchNorm and no biases by default;
  check(c), which raises ConfigError for fields that it cannot use.
"""

import importlib
import pkgutil
from types import ModuleType


def names() -> list[str]:
    """Every method in this folder."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def method(name: str) -> ModuleType:
    """The module of a method."""
    return importlib.import_module(f"{__name__}.{name}")
