"""Labels of image files, by a card or a deck.

    python -m cards_jax.predict CARD_OR_DECK IMAGES... [--top=3] [--batch=100] [--agnostic] [--save=PATH.csv]

IMAGES are files and folders of them; the largest centred square of each is brought to the size that the cards take. A
deck's gate makes one choice for every --batch images, in the order in which they are given.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cards_jax import deck_file, files, tabular
from cards_jax.commands import Form, ended
from cards_jax.config import ConfigError
from cards_jax.data import folder
from cards_jax.deck import BATCH, Deck
from cards_jax.plain import csv_text, plain

PROGRAM = "python -m cards_jax.predict"


def find(places: Sequence[str | Path]) -> list[Path]:
    """Image files, from files and folders (and theirs); ConfigError where a place has none."""
    found: list[Path] = []
    for place in map(Path, places):
        here = [place]
        if place.is_dir():
            here = sorted(p for p in place.rglob("*") if _is_image(p.relative_to(place), p))
        if not here or not here[0].exists():
            raise ConfigError(
                f"images={str(place)!r}: no such image; allowed are files and folders of "
                f"{' '.join(sorted(folder.SUFFIXES))}"
            )
        found += here
    return found


def _is_image(name: Path, path: Path) -> bool:
    """Whether a file of a folder is meant: what systems leave behind is not."""
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.parts)
    return name.suffix.lower() in folder.SUFFIXES and not hidden and path.is_file()


def read(paths: Sequence[Path], image_HWC: tuple[int, int, int]) -> np.ndarray:
    """uint8 (N, H, W, C) of image files; ConfigError, naming the file, for what is none or does not fit."""
    height, width, _ = image_HWC
    images = np.empty((len(paths), *image_HWC), np.uint8)
    for i, path in enumerate(paths):
        try:
            image = folder.decoded(path.read_bytes(), height if height == width else None)
        except Exception as error:  # Pillow fails in a dozen ways on damaged files
            reason = " ".join(str(error).split())
            raise ConfigError(f"images={str(path)!r}: no readable 8-bit image ({reason})") from None
        if image.shape != image_HWC:
            raise ConfigError(
                f"images={str(path)!r}: {image.shape[0]} x {image.shape[1]} pixels; allowed are {height} x {width}"
            )
        images[i] = image
    return images


def table(deck: Deck, paths: Sequence[Path], probabilities_NK: np.ndarray, top: int) -> str:
    """The `top` labels of every file and their probabilities in percent, as markdown."""
    body = []
    for path, row in zip(paths, probabilities_NK, strict=True):
        best = np.argsort(-row, kind="stable")[:top]
        cells = [cell for k in best for cell in (deck.classes[k], f"{100 * row[k]:.2f}")]
        body.append([str(path), *cells])
    head = ["file", *["label", "%"] * min(top, deck.num_classes)]
    return tabular.aligned(head, body, [True, *[True, False] * min(top, deck.num_classes)])


def csv(deck: Deck, paths: Sequence[Path], probabilities_NK: np.ndarray) -> str:
    """File, label, its probability, then the probabilities of all classes."""
    rows = [["file", "label", "probability", *deck.classes]]
    for path, row in zip(paths, probabilities_NK, strict=True):
        k = int(row.argmax())
        rows.append([str(path), deck.classes[k], *(plain(x) for x in (row[k], *row))])
    return csv_text(rows)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    lines = __doc__.split("\n\n")
    form = Form(PROGRAM, description=lines[0], epilog=lines[-1])
    form.add_argument("model", metavar="CARD_OR_DECK")
    form.add_argument("images", nargs="+", metavar="IMAGES")
    form.add_argument("--top", type=count, default=3, help="labels that are shown of each image")
    form.add_argument("--batch", type=count, default=BATCH, help="images of one choice of the gate")
    form.add_argument("--agnostic", action="store_true", help="ask all cards of a deck")
    form.add_argument("--save", type=Path, help="a csv with the probabilities of all classes")
    return form.parse_args(arguments)


def count(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: allowed are whole numbers from 1")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = parse(arguments)

    def action() -> None:
        if args.save:
            files.check_place(args.save)
        deck, paths = deck_file.as_deck(args.model), find(args.images)
        for m in deck.members:
            if (m.file.meta.get("result") or {}).get("diverged_at") is not None:
                print(f"{PROGRAM}: note: {m.name} diverged in training", file=sys.stderr)
        images = read(paths, deck.image_HWC)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", RuntimeWarning)
            found = np.asarray(deck.predict(images, args.batch, adaptive=not args.agnostic))
        for warning in said:
            print(f"{PROGRAM}: {warning.message}", file=sys.stderr)
        print(table(deck, paths, found, args.top), end="")
        if args.save:
            files.deliver(args.save, csv(deck, paths, found))

    return ended(PROGRAM, action)


if __name__ == "__main__":
    sys.exit(main())
