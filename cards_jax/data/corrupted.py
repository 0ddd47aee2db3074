"""Corrupted test sets behind one interface: published files, prepared ones, or made from any test set."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import numpy as np

from cards_jax import corruptions
from cards_jax.config import ConfigError

PUBLISHED = "published"  # the place of the archive that the data cache holds
TITLES = {"digits": "digits", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


@dataclass(frozen=True, eq=False)
class Source:
    """Images of some corruptions, in blocks of severities.

    name:      what it is, in words that belong beside every result.
    kind:      "published", "files", "tfds" or "generated".
    flavours:  what differs between the ways in which such images have been made, where that is known.
    identity:  hash; equal where the images are.
    benchmark: "cifar10" or "cifar100" where accuracies compare with those published on CIFAR-10-C or -100-C.
    labels:    int32 (N,), of every block.
    read:      (corruption, first, count) -> uint8 (S, count, H, W, C), rows within N.
    """

    name: str
    kind: str
    identity: str
    names: tuple[str, ...]
    labels: np.ndarray
    image_HWC: tuple[int, ...]
    read: Callable[[str, int, int], np.ndarray]
    flavours: dict[str, str] = field(default_factory=dict)
    benchmark: str | None = None

    def about(self) -> dict[str, object]:
        """What results say of their source."""
        return {
            "source": self.name,
            "kind": self.kind,
            "flavours": self.flavours,
            "identity": self.identity,
            "images": len(self.labels),
        }


@dataclass(frozen=True, eq=False)
class Clean:
    """A test set: uint8 images (N, H, W, C), int32 labels (N,), the name of its data source, and one for people."""

    images: np.ndarray
    labels: np.ndarray
    data: str
    title: str


def refuse_cifar100(place: Path, clean: Clean) -> None:
    """ConfigError where CIFAR-10-C would be a test set of CIFAR-100."""
    if clean.data == "cifar100":
        raise ConfigError(
            f"evaluate.corruptions_dir: {place} holds CIFAR-10-C; allowed with data.name=cifar100 is CIFAR-100-C"
        )


def title_of(data: str, title: str | None) -> str:
    """The name of a data set for people; ConfigError where it has none of its own and none is given."""
    if not title and data not in TITLES:
        raise ConfigError(
            f"data.title: is not given; with data.name={data} results need a name for people, like 'CIFAR-10 (JPEG)'"
        )
    return title or TITLES[data]


def find(
    clean: Clean,
    wanted: Sequence[str],
    place: str | None = None,
    count: int = 0,
    seed: int = 0,
    download: bool = False,
    cache_dir: str | None = None,
) -> Source:
    """The source of these corruptions (names or sets of them) for cards that are tested on `clean`.

    Args:
      place: a folder or .tar of the published layout (NAME.npy, labels.npy), a prepared folder of tensorflow-datasets
        (.../cifar10_corrupted), "published" (the archive in the data cache), or None: made from `clean`.
      count: of each block the first so many images; 0 is all.
      seed: of corruptions that are made.
      download: whether the published archive may be fetched (3 GB).

    Raises ConfigError for unknown corruptions and for whatever is missing, damaged or of another kind.
    """
    names = corruptions.expand(wanted)
    if not names:
        raise ConfigError("evaluate.corruptions=(): needs at least one name or set of names")
    available = len(clean.labels)
    if place is None:
        if not 0 <= count <= available:
            raise ConfigError(
                f"evaluate.corruption_images={count}: allowed are 0 (all) to {available}"
            )
        return _part("generated").source(clean, names, count or available, seed)
    if place == PUBLISHED:
        path = _part("cifar_c").cached(clean.data, download, cache_dir)
    else:
        path = Path(place).expanduser()
    if not path.exists():
        raise ConfigError(
            f"evaluate.corruptions_dir: {place} does not exist; allowed are a folder or .tar of "
            "NAME.npy files, a prepared cifar10_corrupted, 'published', None (made from the test set)"
        )
    prepared = path.is_dir() and not (path / "labels.npy").exists()
    module = "cifar10_corrupted" if prepared and _is_prepared(path) else "cifar_c"
    return _part(module).source(path, clean, names, count)


def without(clean: Clean) -> Source:
    """No corruption at all: the whole test set, of which cards are asked nothing but the clean images."""

    def read(name: str, first: int, count: int) -> np.ndarray:
        raise ValueError(f"{name}: there are clean images only")

    title, shape = f"{clean.title}, clean", clean.images.shape[1:]
    return Source(title, "clean", "clean", (), clean.labels, tuple(shape), read)


def _part(module: str):
    return import_module(f"cards_jax.data.{module}")


def _is_prepared(path: Path) -> bool:
    """Whether it looks like a folder of tensorflow-datasets: CORRUPTION_SEVERITY/VERSION/."""
    return path.name == "cifar10_corrupted" or any(path.glob("*_1/*/dataset_info.json"))


def in_words(title: str, flavours: dict[str, str]) -> str:
    """The name of corruptions that were made from a test set: never that of a published set."""
    return f"{title}, generated corruptions, " + "; ".join(f"{k} {v}" for k, v in flavours.items())


def digest(*parts: object) -> str:
    """Sixteen digits of the SHA-256 of what makes a source what it is."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            sha.update(f"{part.shape} {part.dtype.str}".encode())
            sha.update(np.ascontiguousarray(part))
        else:
            sha.update(json.dumps(part, sort_keys=True, default=str).encode())
    return sha.hexdigest()[:16]
