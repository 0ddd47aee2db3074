"""What runs depend on of an experiment's images before any is trained: how many there are, how large, of what kinds.

Of the shipped data sets it is known; of others it is found by loading them, once, where a run has to know.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from cards_jax import data

TRAIN = {"digits": 1437, "cifar10": 50000, "cifar100": 50000}
TEST = {"digits": 360, "cifar10": 10000, "cifar100": 10000}
CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100}
SIDE = 32  # of these


@dataclasses.dataclass(frozen=True)
class Images:
    """A data set, named as the fields `data.*` of a config do it."""

    name: str = "cifar10"
    dir: str | None = None
    cache_dir: str | None = None
    image_size: int | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Images":
        """By {"data.name": ..., ...}; what is no number there is refused where runs are checked."""
        given = {k.removeprefix("data."): v for k, v in fields.items() if v is not None}
        size = str(given.pop("image_size", ""))
        own = {k: str(v) for k, v in given.items() if k in ("name", "dir", "cache_dir")}
        return cls(**own, image_size=int(size) if size.isdigit() else None)

    @property
    def train(self) -> int:
        """Training images, before any is held out."""
        return TRAIN.get(self.name) or len(self._labels("train"))

    @property
    def test(self) -> int:
        """Test images."""
        return TEST.get(self.name) or len(self._labels("test"))

    @property
    def classes(self) -> int:
        return CLASSES.get(self.name) or len(np.unique(self._labels("train")))

    @property
    def side(self) -> int:
        """Pixels of a row."""
        known = self.image_size or (SIDE if self.name in TRAIN else None)
        return known or _loaded(self, "train")[0].shape[1]

    def _labels(self, split: str) -> np.ndarray:
        return _loaded(self, split)[1]


@functools.cache
def _loaded(images: Images, split: str) -> tuple[np.ndarray, np.ndarray]:
    where = dict(dir=images.dir, cache_dir=images.cache_dir, image_size=images.image_size)
    return data.load(images.name, split, **where)
