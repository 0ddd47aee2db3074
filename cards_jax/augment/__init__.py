"""Training augmentations by name: `views(key, image_HWC) -> views_VHWC`, floats in [0, 1], one image at a time.

A new augmentation is one new file with `views`.
"""

import importlib
import pkgutil
from collections.abc import Callable


def names() -> list[str]:
    """Every augmentation in this folder."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def views(name: str) -> Callable:
    """The `views` function of an augmentation."""
    return importlib.import_module(f"{__name__}.{name}").views
