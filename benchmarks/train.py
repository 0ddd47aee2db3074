"""Training speed of cards_jax beside PyTorch, in one run on one machine's CPU.

    python -m benchmarks.train --network=conv4 --save=results/train_conv4_cpu

Measures images per second x realizations of this trainer at several numbers R of realizations, and
of the peers (benchmarks/peers.py): PyTorch as the originals write it and tuned, both one network
after another, and a torch.func ensemble. Then this trainer's methods and scopes against its dense
step, and all against the machine's own matrix product. float32; a process for every contestant.
"""

import argparse
import csv
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.command import conduct
from benchmarks.contest import Contestant, Rates, ratios
from benchmarks.machine import PRODUCT_FLOP, cores, matrix_product
from benchmarks.steps import STEPS, Case, contestant, images_and_labels

PEAK = "matrix product"
BATCH_SIZE = {"conv4": 64, "resnet20": 128, "resnet18": 32, "wrn18_2": 32}
TITLE = {"original": "torch original", "tuned": "torch tuned", "functional": "torch.func"}


# --- the peers run in processes of their own and import their library there


def peer_contestant(
    peer: str, network: str, method: str, batch_size: int, realizations: int
) -> Callable[[int], None]:
    """One of benchmarks/peers.py, with a thread per core."""
    import torch

    from benchmarks import peers

    torch.set_num_threads(cores())
    data = images_and_labels(batch_size)
    step = getattr(peers, peer)(network, method, batch_size, realizations, *data)

    def run(steps: int) -> None:
        losses = [step() for _ in range(steps)]
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss is {losses[-1]}")

    return run


# --- who takes part


def our_name(method: str, scope: str, realizations: int) -> str:
    """What a table calls this trainer."""
    return Case("", method, 0, realizations, scope).name


def peer_name(peer: str, args: argparse.Namespace) -> str:
    """What a table calls a peer."""
    return TITLE[peer] + (f" R={args.shared}" if peer == "functional" else "")


def rows_of_speed(args: argparse.Namespace) -> list[tuple[str, str, int]]:
    """(method, scope, R) of the rows that are compared with the peers."""
    return [(args.method, "layerwise", r) for r in args.realizations]


def rows_of_steps(args: argparse.Namespace) -> list[tuple[str, str, int]]:
    """(method, scope, R) of the rows that are compared with the dense step."""
    popups = [(m, s, args.shared) for m in args.popups for s in ("layerwise", "global")]
    return [("dense", "layerwise", args.shared), *popups]


def contestants(args: argparse.Namespace) -> list[Contestant]:
    """The peak, this trainer at every R, the peers, this trainer's other methods and scopes."""
    found = [Contestant(PEAK, matrix_product, PRODUCT_FLOP)]

    def add(method: str, scope: str, r: int) -> None:
        case = Case(args.network, method, args.batch_size, r, scope)
        if case.name not in [c.name for c in found]:
            found.append(Contestant(case.name, contestant, case.images, {"case": case}, STEPS))

    for row in rows_of_speed(args):
        add(*row)
    for peer in TITLE:
        # One network after another is as fast per image as one network: those peers train one.
        r = args.shared if peer == "functional" else 1
        arguments = {
            "peer": peer,
            "network": args.network,
            "method": args.method,
            "batch_size": args.batch_size,
            "realizations": r,
        }
        name = peer_name(peer, args)
        found.append(Contestant(name, peer_contestant, r * args.batch_size, arguments))
    for row in rows_of_steps(args):
        add(*row)
    return found


# --- what came out


def report(rates: Rates, failures: dict[str, str], args: argparse.Namespace, notes: list) -> str:
    """The whole result as markdown."""
    from benchmarks.peers import multiply_adds

    flop = 6 * multiply_adds(args.network)
    lines = [f"# Training speed: {args.network}, {args.method}, batch {args.batch_size}", ""]
    lines += [f"- {note}" for note in notes]
    lines += ["", *speed_table(rates, args, flop), "", *step_table(rates, args), ""]
    lines += [f"{name} failed: {reason}" for name, reason in failures.items()]
    lines += [
        f"Medians of {args.rounds - 1} interleaved rounds (lowest to highest), ratios within a round.",
        "torch original and tuned train one network after another. The peak is JAX's float32 matrix",
        f"product, {_median(rates, PEAK, 1e9)} GFLOP/s; an image counts {flop / 1e9:.2f} GFLOP,",
        "six times its multiply-adds.",
    ]
    return "\n".join(lines) + "\n"


def speed_table(rates: Rates, args: argparse.Namespace, flop: float) -> list[str]:
    """Rate, share of the peak, and ratio to each peer, for this trainer and the peers."""
    peers = [peer_name(peer, args) for peer in TITLE]
    head = ["training", "images/s x R", "share of peak", *(f"times {peer}" for peer in peers)]
    rows = [head]
    for name in [our_name(*row) for row in rows_of_speed(args)] + peers:
        share = _spread(rates, name, PEAK, lambda x: f"{x * flop:.0%}")
        rows.append([name, _median(rates, name), share, *(_spread(rates, name, p) for p in peers)])
    return _markdown(rows)


def step_table(rates: Rates, args: argparse.Namespace) -> list[str]:
    """How long a step of each method and scope takes, in dense steps of the same network."""
    names = [our_name(*row) for row in rows_of_steps(args)]
    rows = [["step", "images/s x R", "duration in dense steps"]]
    rows += [[name, _median(rates, name), _spread(rates, names[0], name)] for name in names]
    return _markdown(rows)


def _median(rates: Rates, name: str, unit: float = 1) -> str:
    return f"{statistics.median(rates[name]) / unit:.1f}" if name in rates else "failed"


def _spread(rates: Rates, one: str, other: str, shown: Callable = "{:.2f}".format) -> str:
    if one not in rates or other not in rates:
        return "-"
    found = ratios(rates, one, other)
    low, high = shown(min(found)), shown(max(found))
    return shown(statistics.median(found)) + (f" ({low} to {high})" if low != high else "")


def _markdown(rows: list[list[str]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]


def save(path: Path, text: str, rates: Rates) -> None:
    """PATH.md, the report, and PATH.csv, every contestant's rate in every round."""
    path.with_name(f"{path.name}.md").write_text(text)
    with path.with_name(f"{path.name}.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["contestant", "round", "work_per_second"])
        for name, values in rates.items():
            rows.writerows([name, i, f"{value:.6g}"] for i, value in enumerate(values, 1))


# --- the command


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options, with defaults that follow from each other."""
    form = argparse.ArgumentParser("python -m benchmarks.train", description=__doc__.split("\n")[0])
    form.add_argument("--network", choices=list(BATCH_SIZE), default="conv4")
    form.add_argument("--method", choices=("ep", "bp"), default="ep")
    form.add_argument("--batch-size", type=_positive, help="by default 64, of resnet18 32")
    form.add_argument("--realizations", type=_positives, help="1,2,4,8 by default")
    form.add_argument(
        "--rounds", type=_positive, help="that count, after one to warm up; by default 6"
    )
    form.add_argument("--seconds", type=float, help="of a turn, at least one step; by default 2")
    form.add_argument("--quick", action="store_true", help="a rough look, within 3 minutes")
    form.add_argument("--save", type=Path, help="writes SAVE.md and SAVE.csv")
    args = form.parse_args(arguments)
    quick_realizations = (1, 2) if args.network in ("resnet18", "wrn18_2") else (1, 4)
    args.batch_size = args.batch_size or BATCH_SIZE[args.network]
    args.realizations = args.realizations or (quick_realizations if args.quick else (1, 2, 4, 8))
    args.rounds = 1 + (args.rounds or (2 if args.quick else 6))
    args.seconds = args.seconds or (1.0 if args.quick else 2.0)
    args.popups = (args.method,) if args.quick else ("ep", "bp")
    args.shared = 4 if 4 in args.realizations else max(args.realizations)
    return args


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def _positives(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_positive(part) for part in text.split(",")))


def main() -> int:
    """Hold the contest, print the tables, save them where asked."""
    return conduct("benchmarks.train", parse(), contestants, report, save, torch=True)


if __name__ == "__main__":
    sys.exit(main())
