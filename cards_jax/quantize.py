"""Post-training quantisation: a card with its weights as int8, one scale for each output channel, activations in float.

    python -m cards_jax.quantize CARDS... --save=FOLDER

CARDS are card files, run folders and folders of cards. A control for what compression costs: rounding alone, without
data, without another step of training. The file holds int8 and the scales; predictions are made with the floats that
these stand for, bit for bit the same from every copy of the file.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cards_jax import encoding, files, hand, pack
from cards_jax.commands import Form, ended
from cards_jax.config import ConfigError
from cards_jax.pack import CardFile

PROGRAM = "python -m cards_jax.quantize"
FORM = "int8"


def encoded(file: CardFile, name: str) -> bytes:
    """The content of the quantised card's file.

    It says which card it was made of, and what that one measured: nothing that was measured is said of itself.
    """
    meta = {k: v for k, v in file.meta.items() if k != "result"}
    meta["quantized"] = {"form": FORM, "of": name, "result": file.meta.get("result")}
    return pack.encode(file.card, file.spec, meta, FORM)


def quantized(file: CardFile, name: str = "card") -> CardFile:
    """The card as its quantised file reads; ValueError where a weight is not finite."""
    return CardFile(*encoding.decode(encoded(file, name)))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    first, _, last = __doc__.split("\n\n")
    form = Form(PROGRAM, description=first, epilog=last)
    form.add_argument("cards", nargs="+", metavar="CARDS")
    form.add_argument("--save", type=Path, required=True, help="a folder for NAME_int8.card")
    return form.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = parse(arguments)

    def action() -> None:
        paths = hand.find(args.cards)
        names = [path.stem for path in paths]
        if len(set(names)) < len(names):
            raise ConfigError("cards: two files have one name; allowed is to rename one")
        args.save.mkdir(parents=True, exist_ok=True)
        cards = {path: pack.load(path) for path in paths}
        if done := [path for path, card in cards.items() if "quantized" in card.meta]:
            raise ConfigError(f"{done[0]}: is {FORM} already; allowed are cards that are not")
        for path, card in cards.items():
            content = encoded(card, path.stem)
            to = args.save / f"{path.stem}_{FORM}{hand.SUFFIX}"
            files.write_atomically(to, content)
            before = path.stat().st_size
            larger = ", larger: its weights took less than a byte" * (len(content) > before)
            print(f"{to}: {len(content):,} true bytes, {before:,} before{larger}")

    return ended(PROGRAM, action)


if __name__ == "__main__":
    sys.exit(main())
