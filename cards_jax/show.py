"""What a card or a deck says of itself: network, method, sparsity, accuracy, data, size, versions.

    python -m cards_jax.show CARD_OR_DECK...

`python -m cards_jax.size` gives the bytes of a card layer by layer.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cards_jax import deck_file, pack, size
from cards_jax.commands import Form, ended
from cards_jax.deck import Deck, Member
from cards_jax.pack import CardFile

PROGRAM = "python -m cards_jax.show"
Line = tuple[str, str]  # what it is about, and what there is to say


def describe(what: str | Path | CardFile | Deck) -> str:
    """Lines of text on a card or a deck: a file of one, or what `cards_jax.load` gave.

    The bytes of a card that was read before are those that it takes when it is packed again. Raises ValueError in one
    line where a file is damaged, OSError where it cannot be read.
    """
    found = deck_file.load(what) if isinstance(what, str | Path) else what
    if isinstance(found, Deck):
        lines = _deck(found)
    else:
        content = (
            Path(what)
            if found is not what
            else pack.encode(found.card, found.spec, found.meta, origin=found.origin)
        )
        lines = _card(found, content)
    wide = max(len(head) for head, _ in lines)
    text = [f"{head:{wide}}  {body}" for head, body in lines]
    return "\n".join([str(what), *text] if found is not what else text)


def _card(card: CardFile, content: Path | bytes) -> list[Line]:
    """What is unknown, as in cards that come from elsewhere, is left out."""
    table = size.table(content)
    lines = [
        ("network", _network(card)),
        ("method", _method(card.meta.get("result", {}))),
        ("sparsity", _sparsity(card.meta.get("result", {}))),
        ("accuracy", _accuracy(card.meta.get("result", {}))),
        ("data", _data(card.meta)),
        ("config", ", ".join(f"{k}={v}" for k, v in card.meta.get("config", {}).items())),
        ("size", _size(table.total)),
        ("emptied layers", ", ".join(row.name for row in table.layers if not row.kept)),
        ("versions", _versions(card.meta.get("versions", {}))),
    ]
    return [line for line in lines if line[1]]


def _network(card: CardFile) -> str:
    spec, classes = card.spec, card.meta.get("classes", [])
    named = f": {_listed(list(map(str, classes)))}" if classes else ""
    sides = " x ".join(map(str, spec.image_HWC))
    return f"{spec.name} of width {spec.width}, images {sides}, {spec.num_classes} classes{named}"


def _listed(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _method(r: dict[str, Any]) -> str:
    said = [str(r[k]) for k in ("method", "scope") if k in r]
    words = {"seed": "seed", "learning_rate": "learning rate", "weight_decay": "weight decay"}
    said += [f"{word} {r[k]:g}" for k, word in words.items() if k in r]
    return ", ".join([*said, f"{r['steps']:,} steps"] if "steps" in r else said)


def _sparsity(r: dict[str, Any]) -> str:
    if "realised_sparsity" not in r:
        return ""
    return f"{_percent(r['realised_sparsity'])} removed, {_percent(r['sparsity'])} asked for"


def _accuracy(r: dict[str, Any]) -> str:
    if r.get("diverged_at") is not None:
        return f"diverged at step {r['diverged_at']:,}"
    kinds = {"test_accuracy": "test images", "holdout_accuracy": "holdout images"}
    kinds |= {"train_accuracy": "training images"}
    shown = [f"{_percent(r[k])} of {v}" for k, v in kinds.items() if r.get(k) is not None]
    return ", ".join(shown)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}%"


def _data(meta: dict[str, Any]) -> str:
    if "data_fingerprint" not in meta:
        return ""
    name = meta.get("title") or meta.get("result", {}).get("data", "images")
    trained = meta.get("result", {}).get("train_images")
    count = f", trained on {trained:,} images" if trained else ""
    held = f", {meta['holdout']:,} images held out" if meta.get("holdout") else ", no holdout"
    return f"{name} (fingerprint {meta['data_fingerprint']}){count}{held}"


def _size(total: size.Row) -> str:
    return f"{total.true:,} true bytes, {total.paper:,.0f} paper bytes, {total.kept:,} of {total.weights:,} weights"


def _versions(v: dict[str, Any]) -> str:
    commit = f" (commit {v['commit']})" if v.get("commit") else ""
    shown = [f"{name} {v[name]}" for name in ("cards_jax", "python", "jax") if name in v]
    shown[:1] = [f"{shown[0]}{commit}"] if shown else []
    return ", ".join([*shown, v["device"]] if "device" in v else shown)


def _deck(deck: Deck) -> list[Line]:
    groups = ", ".join(f"{n} of {g.label}" for n, g in zip(deck.cards_A, deck.groups, strict=True))
    known = deck.gate
    gate = (
        "none: all cards predict"
        if known is None
        else f"{', '.join(known.labels)}; {known.settings}"
    )
    sizes = (
        f"{deck_file.true_bytes(deck):,} true bytes, {deck_file.paper_bytes(deck):,.0f} paper bytes"
    )
    cards = [(m.name, _in_deck(m)) for m in deck.members]
    return [("cards", f"{len(deck)}: {groups}"), ("gate", gate), ("size", sizes), *cards]


def _in_deck(m: Member) -> str:
    r = m.file.meta.get("result", {})
    method = f"{r['method']} {_percent(r['sparsity'])}, seed {r['seed']}" if "method" in r else ""
    said = [_network(m.file).split(",")[0], m.augmentation.label, method, _accuracy(r)]
    return "; ".join(x for x in said if x)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    form = Form(PROGRAM, description=__doc__.split("\n")[0])
    form.add_argument("files", nargs="+", metavar="CARD_OR_DECK")
    args = form.parse_args(arguments)
    return ended(PROGRAM, lambda: print("\n\n".join(map(describe, args.files))))


if __name__ == "__main__":
    sys.exit(main())
