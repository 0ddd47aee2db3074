"""Throughput of heatmaps, corruptions and decks: the benchmarks of these, as parts."""

from benchmarks import corruptions as of_corruptions
from benchmarks import deck as of_deck
from benchmarks import heatmap as of_heatmap
from benchmarks.contest import hold
from benchmarks.machine import cores
from benchmarks.suite import Options, Table, contest, failed, median, times


def heatmap(options: Options) -> list[Table]:
    """Fourier heatmaps of Conv4 beside PyTorch."""
    args = of_heatmap.parse(["--images=64", "--realizations", "1"] if options.quick else [])
    rates, failures = contest(of_heatmap.contestants(args), options)
    rows = [
        {
            "sweep": name,
            "images/s x R": (rate := median(rates, name)),
            "s per wave and card": args.images / rate if rate else None,
            **{f"times {p}": times(rates, name, p) for p in of_heatmap.PEERS.values()},
        }
        for name in rates
    ]
    note = "A step is one of the 514 distinct waves on all images; medians of interleaved rounds."
    return [Table(f"Fourier heatmap: conv4, {args.images} images", rows, [note, *failed(failures)])]


def corruptions(options: Options) -> list[Table]:
    """Each corruption beside the usual way, image by image."""
    from cards_jax.corruptions import BENCHMARK, EXTRA

    names = ("gaussian_noise", "jpeg_compression") if options.quick else BENCHMARK + EXTRA
    rounds, rows, notes = max(3, options.rounds // 2), [], []
    for name in names:
        options.say(f"corruption {name}")
        found = of_corruptions.contestants(name, 32)
        rates, failures = hold(found, rounds, options.seconds / 2, options.say)
        notes += failed({f"{name}, {who}": reason for who, reason in failures.items()})
        mine, its = (median(rates, who) for who in (of_corruptions.OURS, of_corruptions.PEER))
        rows.append(
            {
                "corruption": name,
                "images/s": mine,
                "peer, one core": its,
                "times as fast": times(rates, of_corruptions.OURS, of_corruptions.PEER),
                "as the peer on all cores": mine / its / cores() if mine and its else None,
            }
        )
    note = "Images/s over the five severities; the peer takes one image after another on one core."
    return [Table("Corruptions of 32x32 images", rows, [note, *notes])]


def deck(options: Options) -> list[Table]:
    """Decks and gates."""
    small = ["--network=conv4", "--width=16", "--cards=2"] if options.quick else []
    args = of_deck.parse(small)
    predictors = (of_deck.ADAPTIVE, of_deck.AGNOSTIC, of_deck.IN_TURN)
    found = of_deck.contestants(args)[: len(predictors) - 1 if options.quick else None]
    rates, failures = contest(found, options)
    rows = [
        {
            "predictor": name,
            "ms per batch": 1000 / median(rates, name),
            "images/s": of_deck.BATCH * median(rates, name) if name in predictors else None,
            f"times {of_deck.AGNOSTIC}": times(rates, name, of_deck.AGNOSTIC)
            if name in predictors
            else None,
        }
        for name in rates
    ]
    title = f"Deck: {args.cards} cards of {args.network}, width {args.width}"
    note = f"Batches of {of_deck.BATCH} images of 32x32, gating included; medians of interleaved rounds."
    return [Table(title, rows, [note, *failed(failures)])]
