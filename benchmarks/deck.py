"""Speed of a deck on this machine's CPU: adaptive beside agnostic, and what the gate costs.

    python -m benchmarks.deck --save=results/deck_cpu

Six cards of one network with random weights, three for each of two augmentations, batches of 100 images that the
gate sends to one group and the other in turn; gating is included. Then the gate alone, beside features in NumPy and a
KD-tree of scikit-learn or SciPy, and the nearest reference alone: the mean feature against 5,000
references of two groups.
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
from benchmarks.train import _markdown, _positive, save

BATCH, REFERENCES, SIDE = 100, 5000, 32
ADAPTIVE, AGNOSTIC, IN_TURN = "adaptive deck", "agnostic deck", "card after card"
GATE, SKLEARN, SCIPY = "gate", "gate, scikit-learn KD-tree", "gate, SciPy cKDTree"
NEAREST, NEAREST_SKLEARN, NEAREST_SCIPY = (
    f"nearest, {x}" for x in ("jnp", "scikit-learn KD-tree", "SciPy cKDTree")
)
TREES = {SKLEARN: "sklearn", NEAREST_SKLEARN: "sklearn", SCIPY: "scipy", NEAREST_SCIPY: "scipy"}


def images(count: int, seed: int) -> np.ndarray:
    """Smooth uint8 images (count, SIDE, SIDE, 3): sums of a few waves, a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    found = np.zeros((count, 3, SIDE, SIDE))
    for frequency in (1, 2, 4, 8):
        a, b, c = rng.normal(0, 1, (3, count, 3, 1, 1))
        found += np.sin(6 * frequency * (a * x + b * y) + 6 * c) / frequency
    found = 0.5 + found / 6 + rng.normal(0, 0.01, found.shape)
    return np.round(255 * np.clip(found, 0, 1)).transpose(0, 2, 3, 1).astype(np.uint8)


def noisy(batch: np.ndarray) -> np.ndarray:
    """What a gate takes for Gaussian noise."""
    noise = np.random.default_rng(0).normal(0, 0.1, batch.shape)
    return np.round(255 * np.clip(batch / 255 + noise, 0, 1)).astype(np.uint8)


def batches() -> list[np.ndarray]:
    """One for each group."""
    clean = images(BATCH, 1)
    return [clean, noisy(clean)]


def _deck(network: str, width: int, cards: int):
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", cores())
    from cards_jax import gate, models
    from cards_jax.card import Card
    from cards_jax.deck import Deck, Member
    from cards_jax.gate import Augmentation
    from cards_jax.pack import CardFile
    from cards_jax.tree import map_leaves

    spec = models.Spec(network, width, 10, (SIDE, SIDE, 3))
    init = jax.jit(models.build(spec).init)
    groups = (Augmentation("augmix"), Augmentation("gaussian"))
    members = []
    for i in range(cards):
        params, stats = init(jax.random.key(i))
        nothing = map_leaves(lambda _: None, params)
        file = CardFile(Card(params, nothing, nothing, stats), spec, {})
        members.append(Member(f"card {i}", b"", file, groups[i % 2]))
    settings = gate.Settings(references=REFERENCES)
    deck = Deck(tuple(members), gate.build(settings, groups, images(REFERENCES, 0)))
    chosen = [np.asarray(deck.choose(x).weights)[0] > 0 for x in batches()]
    assert np.array_equal(chosen, [[True, False], [False, True]]), chosen
    return deck


def deck_contestant(name: str, network: str, width: int, cards: int) -> Callable[[int], None]:
    """A batch per step, of the two in turn."""
    deck, given = _deck(network, width, cards), batches()
    each = {
        ADAPTIVE: lambda x: deck.predict(x),
        AGNOSTIC: lambda x: deck.predict(x, adaptive=False),
        IN_TURN: lambda x: sum(np.asarray(m.file.predict(x)) for m in deck.members) / len(deck),
        GATE: lambda x: deck.choose(x).weights,
    }[name]

    def run(steps: int) -> None:
        for step in range(steps):
            np.asarray(each(given[step % 2]))

    for step in (0, 1):
        np.asarray(each(given[step]))  # both choices, before a clock runs
    return run


def tree_contestant(name: str, whole: bool) -> Callable[[int], None]:
    """Features in NumPy where `whole`, then a query of one tree per group; the trees are built before."""
    from scipy.spatial import cKDTree
    from sklearn.neighbors import KDTree

    make = {"sklearn": KDTree, "scipy": cKDTree}[TREES[name]]
    clean = images(REFERENCES, 0)
    references = [_features(clean), _features(noisy(clean))]
    trees = [make(x) for x in references]
    given = batches()
    means = [_features(x).mean(0) for x in given]

    def run(steps: int) -> None:
        for step in range(steps):
            mean = _features(given[step % 2]).mean(0) if whole else means[step % 2]
            for tree in trees:
                tree.query(mean[None], k=1)

    return run


def nearest_contestant() -> Callable[[int], None]:
    """The distances of a mean feature to both groups."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    from cards_jax import gate

    clean = images(REFERENCES, 0)
    references = jax.device_put(np.float32([_features(clean), _features(noisy(clean))]))
    means = [jax.device_put(np.float32(_features(x).mean(0))) for x in batches()]
    distances = jax.jit(gate.distances)

    def run(steps: int) -> None:
        for step in range(steps):
            distances(references, means[step % 2]).block_until_ready()

    return run


def _features(batch: np.ndarray) -> np.ndarray:
    """F / ||F|| of luma, rings by rounded radius up to the Nyquist frequency, in NumPy."""
    luma = batch / np.float32(255) @ np.float32([0.299, 0.587, 0.114])
    power = np.abs(np.fft.fft2(luma)) ** 2
    v = np.fft.fftfreq(SIDE, 1 / SIDE)
    radius = np.round(np.hypot(v[:, None], v[None])).astype(int).ravel()
    rings = (radius[None] == np.arange(SIDE // 2 + 1)[:, None]).astype(np.float32)
    means = power.reshape(len(batch), -1) @ (rings / rings.sum(1, keepdims=True)).T
    reciprocal = 1 / means
    return reciprocal / np.linalg.norm(reciprocal, axis=1, keepdims=True)


def contestants(args: argparse.Namespace) -> list[Contestant]:
    """Decks, gates, nearest neighbours; work is a batch."""
    shared = {"network": args.network, "width": args.width, "cards": args.cards}
    found = [
        Contestant(name, deck_contestant, 1.0, {"name": name, **shared})
        for name in (ADAPTIVE, AGNOSTIC, IN_TURN, GATE)
    ]
    found += [
        Contestant(name, tree_contestant, 1.0, {"name": name, "whole": name in (SKLEARN, SCIPY)})
        for name in (SKLEARN, SCIPY, NEAREST_SKLEARN, NEAREST_SCIPY)
    ]
    return [*found, Contestant(NEAREST, nearest_contestant, 1.0)]


def report(rates: Rates, failures: dict[str, str], args: argparse.Namespace, notes: list) -> str:
    """The whole result as markdown."""
    title = f"# Speed of a deck: {args.cards} cards of {args.network}, width {args.width}"
    lines = [title, "", *(f"- {note}" for note in notes), ""]
    lines += _compared("predictor", (ADAPTIVE, AGNOSTIC, IN_TURN), AGNOSTIC, rates)
    lines += ["", *_compared("choice", (GATE, SKLEARN, SCIPY), GATE, rates)]
    names = (NEAREST, NEAREST_SKLEARN, NEAREST_SCIPY)
    lines += ["", *_compared("nearest references", names, NEAREST, rates), ""]
    if GATE in rates and ADAPTIVE in rates:
        share = statistics.median(ratios(rates, ADAPTIVE, GATE))
        lines.append(f"The gate takes {share:.2%} of an adaptive prediction.")
    lines += [*(f"{name} failed: {reason}" for name, reason in failures.items())]
    lines.append(
        f"Milliseconds are medians of {args.rounds - 1} interleaved rounds; ratios are within a round (lowest to "
        f"highest). Batches of {BATCH} images of {SIDE}x{SIDE}; {REFERENCES:,} references for each of two groups. "
        "Trees are built before the clock runs; scikit-learn and SciPy work on NumPy's features."
    )
    return "\n".join(lines) + "\n"


def _compared(what: str, names, other: str, rates: Rates) -> list[str]:
    rows = [[what, "ms per batch", "best round", f"times {other}"]]
    for name in names:
        if name not in rates or other not in rates:
            rows.append([name, "failed", "-", "-"])
            continue
        times = sorted(ratios(rates, name, other))
        spread = f"{statistics.median(times):.2f} ({times[0]:.2f} to {times[-1]:.2f})"
        best = f"{1000 / max(rates[name]):.3g}"
        rows.append([name, f"{1000 / statistics.median(rates[name]):.3g}", best, spread])
    return _markdown(rows)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    form = argparse.ArgumentParser("python -m benchmarks.deck", description=__doc__.split("\n")[0])
    form.add_argument("--network", default="resnet18")
    form.add_argument("--width", type=_positive, default=64)
    form.add_argument("--cards", type=_positive, default=6)
    form.add_argument("--rounds", type=_positive, default=3, help="that count, after one warms up")
    form.add_argument("--seconds", type=float, default=2.0, help="of a turn")
    form.add_argument("--save", type=Path, help="writes SAVE.md and SAVE.csv")
    args = form.parse_args(arguments)
    args.rounds += 1
    return args


def main() -> int:
    """Hold the contest, print the tables, save them where asked."""
    return conduct("benchmarks.deck", parse(), contestants, report, save)


if __name__ == "__main__":
    sys.exit(main())
