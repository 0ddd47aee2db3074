"""Speed of corruptions on this machine's CPU: cards_jax beside the usual way, image by image.

    python -m benchmarks.corruptions --save=results/corruptions_cpu

The peers (benchmarks/corruption_peers.py: NumPy, SciPy, OpenCV, scikit-image and Pillow; needs
opencv-python-headless and scikit-image) run in one process on one core. Images/s are means over the five
severities, after compilation; the two take turns.
"""

import argparse
import csv
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.contest import Contestant, hold, ratios
from benchmarks.machine import cores, describe

OURS, PEER = "cards_jax", "peer"
OUR_IMAGES, PEER_IMAGES = 1000, 20  # a step of each contestant
COLUMNS = ("corruption", "images_per_second", "peer", "ratio", "least", "most", "ratio_all_cores")


def images(count: int, size: int) -> np.ndarray:
    """Smooth uint8 images (count, size, size, 3): time hardly depends on content."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, size // 4, size // 4, 3), np.uint8)
    return coarse.repeat(4, 1).repeat(4, 2)


def our_contestant(name: str, size: int) -> Callable[[int], None]:
    """All images at once, one device per core."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", cores())
    from cards_jax.corruptions import dataset

    batch, key = images(OUR_IMAGES, size), jax.random.key(0)

    def run(steps: int) -> None:
        for step in range(steps):
            for severity in range(1, 6):
                dataset.spread(key, batch, name, severity, step)

    return run


def peer_contestant(name: str, size: int) -> Callable[[int], None]:
    """One image after another."""
    from benchmarks import corruption_peers

    corrupt = corruption_peers.find(name)
    batch, rng = images(PEER_IMAGES, size), np.random.RandomState(0)

    def run(steps: int) -> None:
        for _ in range(steps):
            for severity in range(1, 6):
                for image in batch:
                    corrupt(image, severity, rng)

    return run


def contestants(name: str, size: int) -> list[Contestant]:
    """Ours and the peer; the work of a step is its images at all severities."""
    arguments = {"name": name, "size": size}
    return [
        Contestant(OURS, our_contestant, 5 * OUR_IMAGES, arguments),
        Contestant(PEER, peer_contestant, 5 * PEER_IMAGES, arguments),
    ]


def measure(name: str, size: int, rounds: int, seconds: float) -> dict | None:
    """A row of the table, None where a contestant failed."""
    found = contestants(name, size)
    rates, failures = hold(found, rounds + 1, seconds, say=lambda text: None)
    if failures:
        print(f"{name}: {failures}", file=sys.stderr)
        return None
    times = ratios(rates, OURS, PEER)
    middle = statistics.median(times)
    mine, its = (statistics.median(rates[who]) for who in (OURS, PEER))
    row = (name, round(mine), round(its), *(round(x, 2) for x in (middle, min(times), max(times))))
    return dict(zip(COLUMNS, (*row, round(middle / cores(), 2)), strict=True))


def markdown(rows: list[dict], size: int) -> str:
    """The table, with what the fifteen of the benchmark take together."""
    from cards_jax.corruptions import BENCHMARK

    lines = [
        f"# Corruptions of {size}x{size} images",
        "",
        *(f"- {line}" for line in describe("benchmarks.corruptions")),
        "",
        "| corruption | images/s | peer, one core | times as fast | as the peer on all cores |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        spread = f"{row['ratio']} ({row['least']} to {row['most']})"
        rates = f"{row['images_per_second']} | {row['peer']}"
        lines.append(f"| {row['corruption']} | {rates} | {spread} | {row['ratio_all_cores']} |")
    fifteen = [row for row in rows if row["corruption"] in BENCHMARK]
    if len(fifteen) == len(BENCHMARK):
        mine, its = (
            sum(5000 / row[who] for row in fifteen) for who in ("images_per_second", "peer")
        )
        lines += ["", f"All 15 x 5 of 1,000 images: {mine:.1f} s; peers {its:.0f} s on one core."]
    return "\n".join(lines) + "\n"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--names", default="", help="comma-separated; all of CIFAR-10-C by default")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one turn")
    parser.add_argument("--save", help="path without ending of a .md and a .csv")
    return parser.parse_args(arguments)


def main() -> None:
    from cards_jax.corruptions import BENCHMARK, EXTRA

    options = parse()
    names = options.names.split(",") if options.names else BENCHMARK + EXTRA
    rows = []
    for name in names:
        if row := measure(name, options.size, options.rounds, options.seconds):
            rows.append(row)
            print(row, flush=True)
    text = markdown(rows, options.size)
    print(text)
    if options.save:
        path = Path(options.save)
        path.with_suffix(".md").write_text(text)
        with path.with_suffix(".csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
