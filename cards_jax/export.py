"""A card's or a deck's predict function as one file that JAX runs on any backend: StableHLO with the weights inside.

    python -m cards_jax.export CARD_OR_DECK --save=FILE [--platforms=cpu,cuda,tpu]

The file is what `jax.export` serialises, then a mark and a SHA-256, which `jax.export.deserialize` does not mind: JAX
alone, without this package, can run it.
"""

import functools
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cards_jax import card as card_module
from cards_jax import deck_file, deck_program, files, gate, models
from cards_jax.card import Card
from cards_jax.commands import Form, ended
from cards_jax.config import ConfigError
from cards_jax.deck import Deck
from cards_jax.pack import CardFile

PLATFORMS = ("cpu", "cuda", "tpu")
MARK = b"cards_jax.export"
DIGEST = hashlib.sha256().digest_size


def save(
    path: str | Path,
    card: Card | CardFile,
    spec: models.Spec | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> None:
    """Write images (N, H, W, C), floats in [0, 1], to logits (N, K) of a finished card; atomically, for any N.

    A bare Card needs its spec; a CardFile brings it along.

    Weights are constants of the program (4 bytes each, pruned ones too: a packed card is the small file), and so are
    the constants that normalise images. A file is readable by the JAX that wrote it and, as JAX promises, by later ones
    for six months.

    Raises ImportError where flatbuffers is missing, ValueError for a card in training, OSError where it cannot write.
    """
    if isinstance(card, CardFile):
        card, spec = card.card, card.spec
    write(path, _predict(card, spec), spec.image_HWC, platforms)


def save_deck(path: str | Path, deck: Deck, platforms: Sequence[str] = PLATFORMS) -> None:
    """Write images (N, H, W, C), floats in [0, 1], to probabilities (N, K) of a deck, as `save` does for a card.

    The N images of a call are one batch to the gate, which makes one choice for them. Raises ValueError for a gate that
    chooses for each image.
    """
    if deck.gate and deck.gate.settings.per_image:
        raise ValueError(
            "gate: per_image=True chooses for each image; allowed is a gate that makes one choice for a call"
        )
    write(path, jax.jit(_predict_deck(deck)), deck.image_HWC, platforms)


def write(
    path: str | Path,
    predict: Callable[[Array], Array],
    image_HWC: tuple[int, int, int],
    platforms: Sequence[str],
) -> None:
    """Write a jitted function of images (N, H, W, C), floats; atomically, for any N."""
    export = _exporter().export(predict, platforms=platforms)
    serialised = bytes(export(_images(image_HWC)).serialize())
    digest = hashlib.sha256(serialised).digest()
    files.write_atomically(path, serialised + MARK + digest)


def load(path: str | Path) -> Callable[[Array], Array]:
    """The function of a file: images (N, H, W, C), uint8 or floats in [0, 1], to logits (N, K) float32 of a card, to
    probabilities of a deck.

    It raises ValueError for images of another shape or dtype.

    Raises ImportError where flatbuffers is missing, ValueError where the file is damaged or none of `save`, OSError
    where it cannot be read.
    """
    exporter = _exporter()
    content = Path(path).read_bytes()
    rest, digest = content[:-DIGEST], content[-DIGEST:]
    if not rest.endswith(MARK):
        raise ValueError(f"{path}: cut short, or not an exported card")
    serialised = rest.removesuffix(MARK)
    if hashlib.sha256(serialised).digest() != digest:
        raise ValueError(f"{path}: damaged, it does not fit its SHA-256")
    try:
        exported = exporter.deserialize(bytearray(serialised))
    except Exception as error:  # of another version of JAX
        raise ValueError(f"{path}: not readable by JAX {jax.__version__} ({error})") from error
    image = tuple(int(n) for n in exported.in_avals[0].shape[1:])
    call = jax.jit(exported.call)
    return lambda images: call(_as_floats(images, image))


def _exporter() -> ModuleType:
    """jax.export, after making sure of the package that it needs and does not declare."""
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        raise ImportError(
            "exported cards need the package flatbuffers: pip install 'cards_jax[export]'"
        ) from None
    from jax import export

    return export


def _predict(card: Card, spec: models.Spec) -> Callable[[Array], Array]:
    # XLA's own convolution: the other formulations are chosen for training on the backend at hand.
    apply = models.build(spec, "native").apply
    weights, stats = jax.tree.map(np.asarray, (card_module.weights(card), card.stats))
    return jax.jit(lambda images: apply(weights, stats, images, False)[0])


def _predict_deck(deck: Deck) -> Callable[[Array], Array]:
    """images (N, H, W, C) -> probabilities (N, K): one choice for all N, then a switch per group that skips its cards.

    Where one group is chosen its cards alone are computed; where several are, or none can be, their union.
    """
    stacks = [jax.tree.map(np.asarray, (part.hand.weights, part.hand.stats)) for part in deck.parts]
    even = jnp.full(len(deck.cards_A), 1 / len(deck), jnp.float32)

    def predict(images_NHWC: Array) -> Array:
        N, weights_A = images_NHWC.shape[0], even
        if deck.gate:
            known = deck.gate.settings
            features_NF = jax.vmap(known.spectrum)(images_NHWC)
            real, references = jnp.ones(N, bool), jnp.asarray(deck.gate.references_APF)
            args = (real, references, deck.cards_A, known.temperature)
            weights_A = gate.choose(features_NF, *args).weights
        total_NK = jnp.zeros((N, deck.num_classes))
        for part, stack in zip(deck.parts, stacks, strict=True):
            weight = weights_A[part.group]
            cards = functools.partial(deck_program.sum_of_cards, part.hand.spec, stack, native=True)
            asked = lambda images, weight=weight, cards=cards: weight * cards(images)
            skipped = lambda images: jnp.zeros((N, deck.num_classes))
            total_NK += lax.cond(weight > 0, asked, skipped, images_NHWC)
        return total_NK

    return predict


def _images(image_HWC: tuple[int, int, int]) -> jax.ShapeDtypeStruct:
    height, width, channels = image_HWC
    shape = _exporter().symbolic_shape(f"N, {height}, {width}, {channels}")
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _as_floats(images: Array, image: tuple[int, ...]) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1:] != image or not len(images):
        wanted = ", ".join(map(str, image))
        raise ValueError(f"images: got shape {images.shape}, expected (N, {wanted}) with N >= 1")
    if images.dtype == np.uint8:
        return images / np.float32(255)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images: got dtype {images.dtype}, expected uint8 or floats")
    if not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            f"images: floats must lie in [0, 1], got {images.min():g} to {images.max():g}"
        )
    return images.astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    form = Form("python -m cards_jax.export", description=__doc__.split("\n")[0])
    form.add_argument("model", metavar="CARD_OR_DECK")
    form.add_argument("--save", type=Path, required=True, help="the file to write")
    form.add_argument("--platforms", default=",".join(PLATFORMS), help="of JAX, with commas")
    args = form.parse_args(arguments)

    def action() -> None:
        platforms = tuple(args.platforms.split(","))
        if unknown := [p for p in platforms if p not in PLATFORMS]:
            raise ConfigError(f"platforms={unknown[0]!r}: allowed are {', '.join(PLATFORMS)}")
        try:
            _exporter()
        except ImportError as error:
            raise ConfigError(str(error)) from None
        files.check_place(args.save)
        found = deck_file.load(args.model)
        if isinstance(found, Deck):
            save_deck(args.save, found, platforms)
        else:
            save(args.save, found, platforms=platforms)
        print(f"{args.save}: {args.save.stat().st_size:,} bytes")

    return ended(form.prog, action)


if __name__ == "__main__":
    sys.exit(main())
