"""Training augmentations by name: `Views(...)(key, image_HWC) -> views_VHWC`, floats in [0, 1], one image at a time.

A new augmentation is one new file with `Views`, a frozen dataclass of its settings that is called as above. Where it
gives several views, its field `consistency` weighs the loss that draws their predictions together.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any


def names() -> list[str]:
    """Every augmentation in this folder."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def _kind(name: str) -> type:
    return importlib.import_module(f"{__name__}.{name}").Views


def settings(name: str) -> dict[str, Any]:
    """{setting: default} of an augmentation."""
    return {f.name: f.default for f in dataclasses.fields(_kind(name))}


def views(name: str, **settings: Any) -> Callable:
    """The augmentation `name`; hashable, settings that are not given keep their defaults."""
    return _kind(name)(**settings)
