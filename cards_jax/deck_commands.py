"""The commands of decks.

    python -m cards_jax.deck build CARDS... --save=PATH.deck [--gate=ours]
    python -m cards_jax.deck choose CARDS... --save=PATH.json
    python -m cards_jax.deck deal CARDS... --budget=BYTES [--save=PATH.deck]
    python -m cards_jax.deck evaluate DECKS... [--corruptions=benchmark] [--save=PATH]
    python -m cards_jax.deck plot SAVED.csv... --save=PATH
    python -m cards_jax.deck theory DECK [--corruptions=extra] --save=PATH

CARDS are card files, run folders and folders of cards; DECKS are deck files, and cards as decks of one, such as small
dense or quantised ones. The data are those that the cards were trained on, where the run of the first card found them;
--data.dir says where else they lie, and where decks and cards without their run find them. `choose` and `deal` look at
holdout images alone (config.holdout of the cards' runs), never at the test set or at the fifteen corruptions of the
benchmark.
"""

import argparse
import hashlib
import json
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from cards_jax import (
    corruptions,
    deal,
    deck_file,
    deck_plot,
    deck_table,
    files,
    page,
    report,
    tabular,
    theory,
    trials,
    tune,
)
from cards_jax.commands import Form, ended, say, use_all_cores
from cards_jax.config import ConfigError
from cards_jax.deck import BATCH, Deck
from cards_jax.deck_inputs import (
    SETS,
    assembled,
    data_of,
    decks_of,
    flavours_of,
    gate_of,
    gates_of,
    members_of,
    names_of,
    test_set,
)
from cards_jax.evaluate import attack
from cards_jax.ledger import Ledger
from cards_jax.predict import count

PROGRAM = "python -m cards_jax.deck"


def build(args: argparse.Namespace) -> None:
    """All cards as one deck."""
    files.check_place(args.save)
    _save(assembled(args), args.save)


def _save(d: Deck, path: Path) -> None:
    deck_file.save(path, d)
    sizes = f"{deck_file.true_bytes(d):,} true bytes, {deck_file.paper_bytes(d):,.0f} paper bytes"
    groups = ", ".join(f"{n} {g.label}" for n, g in zip(d.cards_A, d.groups, strict=True))
    print(f"{path}: {len(d)} cards ({groups}), {sizes}")


def choose(args: argparse.Namespace) -> None:
    """The gate's settings from holdout images."""
    files.check_place(args.save)
    d = members_of(args)
    trials.check_holdout(d.members)
    images = data_of(d.members, args)
    say(f"tries settings of the gate on {len(images.holdout_images):,} holdout images: minutes")
    found = tune.tune(d, images, args.references, args.batch)
    files.deliver(args.save, json.dumps(found, indent=1) + "\n")
    body = [
        [
            f"{x['settings']['noise']:g}",
            *map(str, x["settings"]["spectrum"].values()),
            f"{100 * x['score']:.2f}",
        ]
        for x in found["tried"]
    ]
    head = ["noise", "colour", "binning", "last radius", "score (%)"]
    print(tabular.aligned(head, body, [False, True, True, False, False]))
    print(f"{args.save}: {found['settings']}, {100 * found['score']:.2f}%")
    print(f"all cards together {100 * found['agnostic']:.2f}%")


def deal_hand(args: argparse.Namespace) -> None:
    """The best deck within a budget."""
    for path in filter(None, (args.save, args.table)):
        files.check_place(path)
    d = members_of(args)
    trials.check_holdout(d.members)
    images = data_of(d.members, args)
    d = Deck(d.members, gate_of(d, args, images))
    say(f"{len(d)} cards answer {len(images.holdout_images):,} holdout images, clean and corrupted")
    found = deal.search(d, deal.extras(d, images, args.batch), args.budget, args.most)
    best, edge = found[0], deal.front(found)
    print(f"Pareto front of {len(found)} decks, on {len(images.holdout_images)} holdout images:\n")
    print(deal.table(d, edge))
    print(f"best score within {args.budget:,} bytes:\n\n{deal.table(d, [best])}")
    if args.table:
        files.deliver(args.table, tabular.csv_table(deal.rows(edge)))
    if args.save:
        _save(deal.sub_deck(d, best.cards, best.gated), args.save)


def digest(d: Deck) -> str:
    """Of all that a deck's predictions depend on."""
    parts = [m.content for m in d.members]
    if d.gate:
        parts += [repr(d.gate.settings).encode(), d.gate.references_APF.tobytes()]
    return hashlib.sha256(b"".join(hashlib.sha256(x).digest() for x in parts)).hexdigest()[:16]


def evaluate(args: argparse.Namespace) -> None:
    """Decks, their cards and controls under corruptions of the test set; a stopped evaluation goes on where it was."""
    decks, names = decks_of(args.decks), names_of(args.corruptions)
    members = [m for d in decks.values() for m in d.members]
    known, images, labels, about = test_set(members, args, names)
    sizes = sorted({n for n in args.sizes if n < args.batch} | {args.batch})
    mixes = bool(names)
    count = (1 + len(names) * len(args.severities) + mixes) * len(decks)
    done = Ledger(
        args.save and beside(args.save, "jsonl"),
        {
            "decks": {name: digest(d) for name, d in decks.items()},
            "corruptions": list(names),
            "severities": list(args.severities),
            "images": len(images),
            "data": known.fingerprint,
            "sizes": sizes,
            "transductive": not args.no_transductive,
            "flavours": flavours_of(images, names),
        },
        count,
    )
    gates = {name: gates_of(d, known) for name, d in decks.items()}
    weigh = {name: deck_table.sizes_of(d, gates[name]) for name, d in decks.items()}
    rows: list[deck_table.Row] = []
    for trial in deck_table.with_mixed(trials.corrupted(images, names, args.severities)):
        for name, d in decks.items():
            given = trial, labels, sizes, not args.no_transductive, gates[name], weigh[name]
            measured = lambda d=d, given=given: list(deck_table.measure_one(d, *given))
            found = done.rows([trial.name, trial.severity, name], measured)
            rows += [{"deck": name, **row} for row in found]
    text = evaluated(about, decks, rows)
    print(text)
    if args.save:
        files.deliver(beside(args.save, "md"), text)
        files.deliver(beside(args.save, "csv"), deck_table.csv(rows))
        note = {
            "decks": {name: files.sha256(p) for name, p in zip(decks, args.decks, strict=True)},
            "command": args.command,
            "images": len(images),
            "corruptions": names,
            "severities": args.severities,
            "sizes": sizes,
        }
        if len(decks) == 1:
            note |= {"deck": Path(args.decks[0]).name, "deck_sha256": files.sha256(args.decks[0])}
        report.write_json(beside(args.save, "json"), note)
        for path in pictures(args.save, rows, about):
            print(path)
        if len(decks) == 1 and isinstance(deck_file.load(args.decks[0]), Deck):
            print(page.make([Path(args.decks[0])], beside(args.save, "html"), args.save))


def beside(path: Path, suffix: str) -> Path:
    """PATH.suffix, whatever points PATH has."""
    return path.with_name(f"{path.name}.{suffix}")


def evaluated(about: str, decks: dict[str, Deck], rows: Sequence[deck_table.Row]) -> str:
    """The tables of an evaluation: all in one, then deck by deck."""
    parts = [about, deck_table.summary_table(rows)]
    for name, d in decks.items():
        mine = [row for row in rows if row["deck"] == name]
        head = f"## {name}\n\n" if len(decks) > 1 else ""
        parts.append(head + deck_table.markdown(d, mine))
    return "\n\n".join(parts)


def pictures(stem: Path, rows: Sequence[deck_table.Row], title: str) -> list[Path]:
    """Bubbles of true and of paper bytes."""
    return [
        path
        for kind in deck_plot.BYTES
        for path in deck_plot.draw(stem.with_name(f"{stem.name}_{kind}"), rows, kind, title)
    ]


def plot(args: argparse.Namespace) -> None:
    """Accuracy against robustness and memory, of saved evaluations together."""
    known: dict[str, tuple[Path, list]] = {}
    sets: dict[Path, deck_plot.MeasuredOn] = {}
    for path in args.saved:
        rows = deck_plot.read(path)
        sets[path] = deck_plot.measured_on(path, rows)
        for other, theirs in sets.items():
            if not sets[path].fits(theirs):
                raise ConfigError(
                    f"saved: {other} and {path} are on other corruptions, severities or numbers of images; "
                    "allowed are evaluations on the same"
                )
        for name in dict.fromkeys(row["deck"] for row in rows):
            own = [row for row in rows if row["deck"] == name]
            first, same = known.setdefault(name, (path, own))
            if own != same:  # a control may stand in several evaluations
                raise ConfigError(
                    f"saved: {first} and {path} both have a deck {name}, measured differently; allowed is to rename one"
                )
    rows = [row for _, own in known.values() for row in own]
    found = pictures(args.save, rows, args.title)
    if not found:
        raise ConfigError("saved: no corruptions in these evaluations; allowed are ones with some")
    print(deck_table.summary_table(rows))
    for path in found:
        print(path)


def theorise(args: argparse.Namespace) -> None:
    """The gate beside an oracle, and both sides of the paper's Theorem 3 beside the gate's weights."""
    d = deck_file.load(args.deck)
    if not isinstance(d, Deck) or not d.gate:
        raise ConfigError(f"deck={args.deck!r}: allowed is a deck with a gate")
    names = names_of(args.corruptions)
    known, images, labels, about = test_set(d.members, args, names)
    sets = list(trials.corrupted(images, names, args.severities))
    done = Ledger(
        beside(args.save, "jsonl"),
        {
            "deck": digest(d),
            "corruptions": list(names),
            "severities": list(args.severities),
            "images": len(images),
            "data": known.fingerprint,
            "batch": args.batch,
            "attacked": args.attacked,
            "steps": args.steps,
            "flavours": flavours_of(images, names),
        },
        len(d.groups) + len(sets),
    )
    rows = theory.measure(d, sets, labels, done.rows, args.batch, args.attacked, args.steps)
    text = f"{about}\n\n{theory.markdown(d, rows, args.attacked)}"
    print(text)
    files.deliver(beside(args.save, "md"), text)
    files.deliver(beside(args.save, "csv"), tabular.csv_table(rows))
    for path in theory.draw(args.save, rows):
        print(path)


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

    def add_data(sub, field: str, **about):
        """As other commands spell it, and with a hyphen."""
        sub.add_argument(f"--data.{field}", f"--data-{field}", dest=f"data_{field}", **about)

    def command(name, do, of_cards: bool = True):
        sub = commands.add_parser(name, help=do.__doc__, description=do.__doc__)
        sub.set_defaults(do=do)
        if of_cards:
            sub.add_argument("cards", nargs="+", metavar="CARDS")
            names = "augmentations, one per card, of cards that do not say theirs"
            sub.add_argument("--augment", type=words, help=names)
        add_data(sub, "dir", help="where the data lie (config.data.dir)")
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

    def tested(sub, corrupted: str, images: int | None) -> None:
        sub.add_argument("--corruptions", default=corrupted, help=f"{', '.join(SETS)}, or names")
        add_data(sub, "title", help="name of the data for people, where they have none")
        sub.add_argument("--severities", type=_numbers(1, 5), default=corruptions.SEVERITIES)
        sub.add_argument("--frost", help="folder of the textures of frost, or an .npz of them")
        how = "the first ones of the test set; all without" if images is None else "of the test set"
        sub.add_argument("--images", type=count, default=images, help=how)

    sub = command("evaluate", evaluate, of_cards=False)
    sub.add_argument("decks", nargs="+", metavar="DECKS")
    tested(sub, "benchmark", None)
    sub.add_argument("--sizes", type=_numbers(1, 10**6), default=deck_table.SIZES, help="other M")
    sub.add_argument("--no-transductive", action="store_true", help="leave that control out")
    saves = "SAVE.md, .csv, .json, bubbles SAVE_{true,paper}.{png,svg}, of one deck .html; goes on from SAVE.jsonl"
    sub.add_argument("--save", type=Path, help=saves)
    sub = command("theory", theorise, of_cards=False)
    sub.add_argument("deck", metavar="DECK")
    tested(sub, "extra", 1000)
    sub.add_argument("--attacked", type=count, default=200, help="images that are attacked")
    sub.add_argument("--steps", type=count, default=attack.STEPS, help="of the attack")
    sub.add_argument("--save", type=Path, required=True, help="SAVE.md, .csv, .png, .svg, .jsonl")
    sub = commands.add_parser("plot", help=plot.__doc__, description=plot.__doc__)
    sub.set_defaults(do=plot)
    sub.add_argument("saved", nargs="+", type=Path, metavar="SAVED.csv")
    sub.add_argument("--title", default="", help="of the pictures: what the images are")
    sub.add_argument("--save", type=Path, required=True, help="SAVE_{true,paper}.{png,svg}")
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
