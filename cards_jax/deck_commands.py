"""The commands of decks.

    python -m cards_jax.deck build CARDS... --save=PATH.deck [--gate=ours]
    python -m cards_jax.deck choose CARDS... --save=PATH.json
    python -m cards_jax.deck deal CARDS... --budget=BYTES [--save=PATH.deck]
    python -m cards_jax.deck evaluate DECK [--corruptions=benchmark] [--save=PATH]

CARDS are card files, run folders and folders of cards. The data are those that the cards were trained on; --data-dir
says where they lie now, where the cards' runs needed to be told. `choose` and `deal` look at holdout images alone
(config.holdout of the cards' runs), never at the test set or at the fifteen corruptions of the benchmark.
"""

import argparse
import json
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from cards_jax import (
    config,
    corruptions,
    data,
    deal,
    deck,
    deck_file,
    deck_table,
    files,
    gate,
    hand,
    page,
    report,
    trials,
    tune,
)
from cards_jax.commands import Form, ended, use_all_cores
from cards_jax.config import ConfigError
from cards_jax.data import Data
from cards_jax.deck import BATCH, Deck, Member
from cards_jax.gate import Gate, Settings
from cards_jax.predict import count

PROGRAM = "python -m cards_jax.deck"
SETS = {
    "benchmark": corruptions.BENCHMARK,
    "extra": corruptions.EXTRA,
    "bar": corruptions.BAR,
    "none": (),
}


def data_of(members: Sequence[Member], args: argparse.Namespace) -> Data:
    """What the cards were trained on; ConfigError where they differ in it, or other data lie there now."""
    first, wanted = members[0], members[0].file.meta.get("data_fingerprint")
    for member in members:
        found = member.file.meta.get("data_fingerprint")
        if not found or found != wanted:
            raise ConfigError(
                f"{member.name}: trained on images of fingerprint {found}; allowed are those of "
                f"{first.name}, {wanted}"
            )
    c = config.completed(first.file.meta["config"])
    for field, value in (("data.dir", args.data_dir), ("data.cache_dir", args.cache_dir)):
        if value is not None:
            config.assign(c, field, value)
    d = data.prepare(c)
    if d.fingerprint != wanted:
        raise ConfigError(
            f"data_dir={args.data_dir!r}: holds images of fingerprint {d.fingerprint}; allowed are those that "
            f"{first.name} was trained on, {wanted}"
        )
    return d


def settings_of(text: str) -> Settings:
    """Of a name, or of a file that `choose` wrote."""
    if text in gate.NAMED:
        return gate.NAMED[text]
    path = Path(text)
    if not path.is_file():
        raise ConfigError(f"gate={text!r}: allowed are {', '.join(gate.NAMED)}, none, or a file")
    try:
        return Settings.read(json.loads(path.read_text())["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"gate={text!r}: holds no settings ({error})") from None


def members_of(args: argparse.Namespace) -> Deck:
    """The cards of the command as a deck without a gate; names are those of the files."""
    found = deck.of(hand.find(args.cards), augment=args.augment)
    names = [m.name for m in found.members]
    if len(set(names)) < len(names):
        raise ConfigError("cards: two files have one name; allowed is to rename one")
    return found


def gate_of(d: Deck, args: argparse.Namespace, images: Data) -> Gate | None:
    """The gate of the command, from training images."""
    if args.gate == "none":
        return None
    return gate.build(settings_of(args.gate), d.groups, images.train_images)


def assembled(args: argparse.Namespace) -> Deck:
    """All cards of the command with its gate."""
    d = members_of(args)
    if args.gate == "none":
        return d
    settings_of(args.gate)  # a mistake ends before the data are read
    return Deck(d.members, gate_of(d, args, data_of(d.members, args)))


def build(args: argparse.Namespace) -> None:
    """All cards as one deck."""
    _save(assembled(args), args.save)


def _save(d: Deck, path: Path) -> None:
    deck_file.save(path, d)
    sizes = f"{deck_file.true_bytes(d):,} true bytes, {deck_file.paper_bytes(d):,.0f} paper bytes"
    groups = ", ".join(f"{n} {g.label}" for n, g in zip(d.cards_A, d.groups, strict=True))
    print(f"{path}: {len(d)} cards ({groups}), {sizes}")


def choose(args: argparse.Namespace) -> None:
    """The gate's settings from holdout images."""
    d = members_of(args)
    trials.check_holdout(d.members)
    found = tune.tune(d, data_of(d.members, args), args.references, args.batch)
    files.write_atomically(args.save, json.dumps(found, indent=1) + "\n")
    body = [
        [
            f"{x['settings']['noise']:g}",
            *map(str, x["settings"]["spectrum"].values()),
            f"{100 * x['score']:.2f}",
        ]
        for x in found["tried"]
    ]
    head = ["noise", "colour", "binning", "last radius", "score (%)"]
    print(report.aligned(head, body, [False, True, True, False, False]))
    print(f"{args.save}: {found['settings']}, {100 * found['score']:.2f}%")
    print(f"all cards together {100 * found['agnostic']:.2f}%")


def deal_hand(args: argparse.Namespace) -> None:
    """The best deck within a budget."""
    d = members_of(args)
    trials.check_holdout(d.members)
    images = data_of(d.members, args)
    d = Deck(d.members, gate_of(d, args, images))
    found = deal.search(d, deal.extras(d, images, args.batch), args.budget, args.most)
    best, edge = found[0], deal.front(found)
    print(f"Pareto front of {len(found)} decks, on {len(images.holdout_images)} holdout images:\n")
    print(deal.table(d, edge))
    print(f"best score within {args.budget:,} bytes:\n\n{deal.table(d, [best])}")
    if args.table:
        files.write_atomically(args.table, report.csv_table(deal.rows(edge)))
    if args.save:
        _save(deal.sub_deck(d, best.cards), args.save)


def evaluate(args: argparse.Namespace) -> None:
    """A deck and its cards under corruptions of the test set."""
    d = deck_file.load(args.deck)
    if not isinstance(d, Deck):
        raise ConfigError(f"deck={args.deck!r}: is a card; allowed is a deck")
    names = SETS.get(args.corruptions) or tuple(x for x in args.corruptions.split(",") if x)
    names = () if args.corruptions == "none" else names
    for name in names:
        corruptions.find(name)
    test = data_of(d.members, args)
    images, labels = test.test_images[: args.images], test.test_labels[: args.images]
    sets = deck_table.with_mixed(trials.corrupted(images, names, args.severities))
    sizes = sorted({n for n in args.sizes if n < args.batch} | {args.batch})
    transductive = not args.no_transductive
    rows = list(deck_table.measure(d, _said(sets), labels, sizes, transductive))
    notes = [f"{k}: {v}" for k, v in corruptions.flavours(images.shape[1]).items() if k in names]
    text = f"{len(images)} test images. {'; '.join(notes)}\n\n{deck_table.markdown(d, rows)}"
    print(text)
    if args.save:
        files.write_atomically(args.save.with_name(f"{args.save.name}.md"), text)
        files.write_atomically(args.save.with_name(f"{args.save.name}.csv"), deck_table.csv(rows))
        about = {
            "deck": Path(args.deck).name,
            "deck_sha256": files.sha256(args.deck),
            "command": args.command,
            "images": len(images),
            "corruptions": names,
            "severities": args.severities,
            "sizes": sizes,
        }
        report.write_json(args.save.with_name(f"{args.save.name}.json"), about)
        target = args.save.with_name(f"{args.save.name}.html")
        page.make([Path(args.deck)], target, args.save)


def _said(sets):
    """The sets, each named on stderr as it begins."""
    for trial in sets:
        print(f"{trial.name} {trial.severity or ''}", file=sys.stderr, flush=True)
        yield trial


def _numbers(low: int, high: int):
    def parse(text: str) -> tuple[int, ...]:
        values = tuple(int(x) for x in text.split(","))
        if not all(low <= x <= high for x in values):
            raise argparse.ArgumentTypeError(f"{text!r}: allowed are {low} to {high}")
        return values

    return parse


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    first, *_, last = __doc__.split("\n\n")
    form = Form(PROGRAM, description=f"{first} {last}")
    commands = form.add_subparsers(required=True, metavar="COMMAND")
    words = lambda text: tuple(x for x in text.split(",") if x)

    def command(name, do, of_cards: bool = True):
        sub = commands.add_parser(name, help=do.__doc__, description=do.__doc__)
        sub.set_defaults(do=do)
        if of_cards:
            sub.add_argument("cards", nargs="+", metavar="CARDS")
            names = "augmentations, one per card, of cards that do not say theirs"
            sub.add_argument("--augment", type=words, help=names)
        sub.add_argument("--data-dir", help="where the data lie (config.data.dir)")
        sub.add_argument("--cache-dir", help="of data that were read before")
        sub.add_argument("--batch", type=count, default=BATCH, help="images of one choice, M")
        return sub

    gates = "paper, ours, none, or a file that `choose` wrote"
    sub = command("build", build)
    sub.add_argument("--save", type=Path, required=True)
    sub.add_argument("--gate", default="ours", help=gates)
    sub = command("choose", choose)
    sub.add_argument("--save", type=Path, required=True)
    sub.add_argument("--references", type=count, default=5000, help="training images per group, P")
    sub = command("deal", deal_hand)
    sub.add_argument("--budget", type=count, required=True, help="true bytes of the deck's file")
    sub.add_argument("--most", type=count, default=6, help="cards of a deck")
    sub.add_argument("--gate", default="ours", help=gates)
    sub.add_argument("--save", type=Path, help="writes the best deck")
    sub.add_argument("--table", type=Path, help="writes the Pareto front as csv")
    sub = command("evaluate", evaluate, of_cards=False)
    sub.add_argument("deck", metavar="DECK")
    sub.add_argument("--corruptions", default="benchmark", help=f"{', '.join(SETS)}, or names")
    sub.add_argument("--severities", type=_numbers(1, 5), default=corruptions.SEVERITIES)
    sub.add_argument("--images", type=count, help="the first ones of the test set; all without")
    sub.add_argument("--sizes", type=_numbers(1, 10**6), default=deck_table.SIZES, help="other M")
    sub.add_argument("--no-transductive", action="store_true", help="leave that control out")
    sub.add_argument("--save", type=Path, help="writes SAVE.md, .csv, .json, .html")
    args = form.parse_args(arguments)
    args.command = shlex.join(
        PROGRAM.split() + list(sys.argv[1:] if arguments is None else arguments)
    )
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = parse(arguments)
    use_all_cores()

    def action() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            args.do(args)

    return ended(PROGRAM, action)
