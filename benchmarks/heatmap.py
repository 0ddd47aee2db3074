"""Speed of Fourier heatmaps on this machine's CPU: cards_jax beside two ways of doing it in PyTorch.

    python -m benchmarks.heatmap --save=results/heatmap_conv4_cpu

Conv4 on random 32 x 32 images, float32, one norm, the same 514 waves for all, noise clipped to [0, 1]. A step
is one wave on all images and a turn does a few of the 514: seconds per wave. The peers (torch_heatmap.py) take one
wave after another: `usual` over a DataLoader whose workers perturb image by image, `tuned` on resident
channels-last tensors with whole-batch noise. A process for every contestant; they take turns.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.command import conduct
from benchmarks.contest import Contestant, Rates, ratios
from benchmarks.machine import cores
from benchmarks.train import save

EPS = 4.0
PEERS = {"usual": "torch usual", "tuned": "torch tuned"}


def images_and_labels(count: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (count, 32, 32, 3) and int32 labels: content costs no time."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    return images, rng.integers(0, 10, count, np.int32)


def cards_jax_contestant(count: int, realizations: int, rows: int) -> Callable[[int], None]:
    """The sweep of evaluate/fourier.py over as many noisy images as so many waves have, one device per core."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", cores())
    from cards_jax import hand, models, pack, tree
    from cards_jax.card import Card
    from cards_jax.evaluate import fourier

    spec = models.Spec("conv4", 64, 10, mean=(0.5,) * 3, std=(0.25,) * 3)
    params, stats = models.build(spec).init(jax.random.key(0))
    nothing = tree.map_leaves(lambda _: None, params)
    file = pack.CardFile(Card(params, nothing, nothing, stats), spec, {})
    images, labels = images_and_labels(count)
    settings = fourier.Settings(eps=(EPS,), images=count)
    count_wrong = fourier.counter(hand.stacked([file] * realizations), settings, rows)

    def run(steps: int) -> None:
        count_wrong(images, labels, 0, steps * count)

    return run


def peer_contestant(peer: str, count: int, batch_size: int) -> Callable[[int], None]:
    """One of torch_heatmap.py, with a thread per core."""
    import torch

    from benchmarks import torch_heatmap

    torch.set_num_threads(cores())
    return getattr(torch_heatmap, peer)(*images_and_labels(count), EPS, batch_size)


def our_name(realizations: int) -> str:
    """What a table calls this sweep."""
    return f"cards_jax R={realizations}"


def contestants(args: argparse.Namespace) -> list[Contestant]:
    """This sweep at every R, then the peers; the work of a step is its images times R."""
    found = []
    for r in args.realizations:
        arguments = {"count": args.images, "realizations": r, "rows": args.rows}
        found.append(Contestant(our_name(r), cards_jax_contestant, args.images * r, arguments))
    for peer, name in PEERS.items():
        arguments = {"peer": peer, "count": args.images, "batch_size": args.batch_size}
        found.append(Contestant(name, peer_contestant, args.images, arguments))
    return found


def report(rates: Rates, failures: dict[str, str], args: argparse.Namespace, notes: list) -> str:
    """The whole result as markdown."""
    lines = [f"# Fourier heatmap: conv4, {args.images} images", "", *(f"- {n}" for n in notes), ""]
    head = ["sweep", "images/s x R", "seconds per wave and card"]
    lines += [
        f"| {' | '.join([*head, *(f'times {p}' for p in PEERS.values())])} |",
        "|---" * 5 + "|",
    ]
    for name, values in rates.items():
        rate = statistics.median(values)
        shown = [name, f"{rate:.0f}", f"{args.images / rate:.3f}"]
        shown += [_times(rates, name, peer) for peer in PEERS.values()]
        lines.append(f"| {' | '.join(shown)} |")
    lines += ["", *(f"{name} failed: {reason}" for name, reason in failures.items())]
    lines += [
        f"Medians of {args.rounds - 1} interleaved rounds (lowest to highest), ratios within a round. Measured",
        f"on a few of the 514 distinct waves per turn ({args.seconds:g} s); a map takes 514 times as long.",
    ]
    return "\n".join(lines) + "\n"


def _times(rates: Rates, one: str, other: str) -> str:
    if other not in rates:
        return "-"
    found = ratios(rates, one, other)
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    form = argparse.ArgumentParser(
        "python -m benchmarks.heatmap", description=__doc__.split("\n")[0]
    )
    form.add_argument("--images", type=int, default=256)
    form.add_argument("--rows", type=int, default=0, help="of our batches; 0 is the default")
    form.add_argument("--batch-size", type=int, default=128, help="of the peers' batches")
    form.add_argument("--realizations", type=int, nargs="+", default=[1, 4])
    form.add_argument("--rounds", type=int, default=5, help="that count, after one to warm up")
    form.add_argument("--seconds", type=float, default=1.5, help="of a turn, at least one step")
    form.add_argument("--save", type=Path, help="writes SAVE.md and SAVE.csv")
    args = form.parse_args(arguments)
    if min(args.images, args.batch_size, args.rounds, *args.realizations) < 1 or args.rows < 0:
        form.error("images, batch size, rounds and realizations are 1 or more, rows 0 or more")
    args.rounds += 1
    return args


def main() -> int:
    """Hold the contest, print the tables, save them where asked."""
    return conduct("benchmarks.heatmap", parse(), contestants, report, save, torch=True)


if __name__ == "__main__":
    sys.exit(main())
