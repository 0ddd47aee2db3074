"""A whole Fourier heatmap: three norms, every basis, all test images."""

import time

from benchmarks.accelerator.peaks import device
from benchmarks.heatmap import images_and_labels
from benchmarks.suite import Options, Table

NETWORK, IMAGES, EPS = "resnet18", 10_000, (3.0, 4.0, 6.0)


def run(options: Options) -> list[Table]:
    """Seconds for one card and for four, with compiling and without."""
    network, count, eps = ("conv2", 4, EPS[:1]) if options.quick else (NETWORK, IMAGES, EPS)
    rows = []
    for cards in (1,) if options.quick else (1, 4):
        first, second = _sweeps(cards, count, eps, network)
        rows.append(
            {"cards": cards, "s, with compiling": first, "s": second, "s per card": second / cards}
        )
    note = f"{network} on {device()}, {count:,} images of 32x32, norms {eps}, all 1,024 bases."
    return [Table("Fourier heatmap", rows, [note])]


def _sweeps(cards: int, count: int, eps: tuple[float, ...], network: str) -> list[float]:
    import jax

    from cards_jax import hand, models, pack, tree
    from cards_jax.card import Card
    from cards_jax.evaluate import fourier

    spec = models.Spec(network, models.width(network), 10, mean=(0.5,) * 3, std=(0.25,) * 3)
    params, stats = models.build(spec).init(jax.random.key(0))
    nothing = tree.map_leaves(lambda _: None, params)
    file = pack.CardFile(Card(params, nothing, nothing, stats), spec, {})
    images, labels = images_and_labels(count)
    s = fourier.Settings(eps=eps, images=count)
    drawn, spent = hand.stacked([file] * cards), []
    for _ in range(2):  # the second finds its program in the cache
        began = time.perf_counter()
        fourier.sweep(drawn, images, labels, s)
        spent.append(time.perf_counter() - began)
    return spent
