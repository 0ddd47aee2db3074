"""Card files: one finished card with everything that predicting needs, as small as it is."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cards_jax import card as card_module
from cards_jax import container, encoding, files, layout, models, npz
from cards_jax.card import Card
from cards_jax.encoding import OtherGenerator, encode
from cards_jax.origin import Origin

__all__ = ["CardFile", "Origin", "OtherGenerator", "about", "encode"]
__all__ += ["load", "logits", "meta", "reasons", "save"]


# Images that a card answers at a time: on a CPU as many as its caches like.
PIECE = {"cpu": 128, "other": 4096}


@dataclasses.dataclass(frozen=True)
class CardFile:
    """A card that was read: predict, and what its file says of it.

    meta: seed, sparsity, accuracies, classes, holdout hash, versions, as they were when it was written.
    origin: what its random weights were drawn from, where that is known.
    """

    card: Card
    spec: models.Spec
    meta: dict[str, Any]
    origin: Origin | None = None

    def __repr__(self) -> str:
        r = self.meta.get("result") or {}
        made = f"{r['method']}, {100 * r['sparsity']:.4g}% removed, " if "method" in r else ""
        return f"CardFile({made}{self.spec.name} of width {self.spec.width})"

    def logits(self, images: Array) -> Array:
        """(N, K) float32 for images (N, H, W, C), uint8 or floats in [0, 1].

        Any number of them fits into memory: they are computed PIECE at a time. Raises ValueError for another shape,
        dtype or range than the card was trained on; of traced images the range is taken as said.
        """
        if isinstance(images, jax.core.Tracer):
            return logits(self, images)
        images = checked(images, self.spec.image_HWC)
        size = PIECE.get(jax.default_backend(), PIECE["other"])
        if not len(images):
            return jnp.zeros((0, self.spec.num_classes))
        if len(images) <= size:
            return logits(self, images)
        pieces = [images[i : i + size] for i in range(0, len(images), size)]
        # One shape, one compilation.
        last = jnp.pad(pieces[-1], [(0, size - len(pieces[-1])), (0, 0), (0, 0), (0, 0)])
        found = [logits(self, piece) for piece in (*pieces[:-1], last)]
        return jnp.concatenate(found)[: len(images)]

    def predict(self, images: Array) -> Array:
        """Probabilities (N, K), as `logits` has it."""
        return jax.nn.softmax(self.logits(images))

    def save(self, path: str | Path, weights: str = "auto") -> None:
        """Write it as a packed file; `weights` and errors are those of `encode`."""
        save(path, self.card, self.spec, self.meta, weights, self.origin)


def checked(images: Array | np.ndarray, image_HWC: tuple[int, int, int]) -> Array | np.ndarray:
    """Images (N, H, W, C), uint8 or floats in [0, 1]; ValueError where they are anything else.

    uint8 of NumPy stays there: the program that takes it copies it to where it runs, once.
    """
    if not (isinstance(images, np.ndarray) and images.dtype == np.uint8):
        images = jnp.asarray(images)
    if images.ndim != 4 or images.shape[1:] != image_HWC:
        wanted = ", ".join(map(str, image_HWC))
        raise ValueError(f"images: got shape {images.shape}, expected (N, {wanted})")
    if images.dtype != jnp.uint8:
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(f"images: got dtype {images.dtype}, expected uint8 or floats")
        if images.size and not (jnp.min(images) >= 0 and jnp.max(images) <= 1):
            low, high = float(jnp.min(images)), float(jnp.max(images))
            raise ValueError(f"images: floats must lie in [0, 1], got {low:g} to {high:g}")
    return images


def logits(
    card: Card | CardFile, images: Array, spec: models.Spec | None = None, normalize: bool = True
) -> Array:
    """Logits (N, K) of a finished card; `normalize=False` skips the spec's mean and std.

    A bare Card needs its spec; a CardFile brings it along.
    """
    if isinstance(card, CardFile):
        card, spec = card.card, spec or card.spec
    if spec is None:
        raise ValueError("spec=None: a bare Card needs the spec of its network")
    if not normalize:
        spec = dataclasses.replace(spec, mean=(0.0,) * len(spec.mean), std=(1.0,) * len(spec.std))
    return _apply(spec)(card_module.weights(card), card.stats, images)


@functools.cache
def _apply(spec: models.Spec):
    apply = models.build(spec).apply
    return jax.jit(lambda weights, stats, images: apply(weights, stats, images, False)[0])


def save(
    path: str | Path,
    card: Card,
    spec: models.Spec,
    meta: dict[str, Any],
    weights: str = "auto",
    origin: Origin | None = None,
) -> None:
    """Write a finished card atomically, after reading it back; arguments and errors are those of `encode`."""
    files.write_atomically(path, encode(card, spec, meta, weights, origin))


def load(path: str | Path) -> CardFile:
    """Read a card file; every size in it is checked before anything of that size is allocated.

    The effective weights are those of the card that was packed, bit for bit (in the lossy forms float16 and int8: as
    said there), and zero where they are pruned. Raises ValueError in one line where the file is damaged or of another
    format, OtherGenerator (a ValueError) where its weights come from a key that gives others here, OSError where it
    cannot be read.
    """
    with reasons(path):
        if npz.is_archive(path):
            return CardFile(*npz.decode(Path(path).read_bytes()))
        return CardFile(*encoding.decode(container.read(path)))


def about(path: str | Path) -> tuple[models.Spec, dict[str, Any]]:
    """(network, what else a card file says of itself); ValueError and OSError as `load` raises them.

    No weight is decoded, so that it may be asked before JAX's devices are there.
    """
    if npz.is_archive(path):
        file = load(path)
        return file.spec, file.meta
    with reasons(path):
        contents, _ = layout.read(container.read(path))
        return encoding.spec_of(contents), contents.meta


def meta(path: str | Path) -> dict[str, Any]:
    """What a card file says of itself, as `about` reads it."""
    return about(path)[1]


@contextlib.contextmanager
def reasons(path: str | Path, kind: str = "card") -> Iterator[None]:
    """Whatever damaged content raises is a ValueError in one line that names the file."""
    try:
        yield
    except (MemoryError, OSError):
        raise
    except OtherGenerator as error:
        raise OtherGenerator(f"{path}: {error}") from None
    except models.Unknown as error:
        raise ValueError(
            f"{path}: {error}; a network of one's own needs its file in cards_jax/models"
        ) from None
    except Exception as error:  # zlib, json, zipfile and numpy raise a dozen kinds on damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: damaged, or not a {kind} file ({reason})") from None
