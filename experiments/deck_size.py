"""Ablation: how many cards a deck should hold, with a gate and without.

    python experiments/deck_size.py --scale=smoke
    python experiments/deck_size.py --scale=small --data.dir=FOLDER_OF_THE_CIFAR_ARCHIVE

Question: how do accuracy, robustness and time for a batch grow with the number of cards, for adaptive and agnostic
decks? The paper finds gains from two to six cards, and adaptive decks about twice as fast as agnostic ones, as they
compute half of the cards. Times are medians on the machine that draws, of 40 batches of 100 images, both kinds of decks
in turns, compilation aside.
Time: smoke 4 minutes on two cores, seconds after figure4 in the same workdir; small 3 hours, paper days: both shared
with figure4.
"""

import sys

import numpy as np
from lab import command, decks, deckwork, draw
from lab.deckwork import network, sparsity
from lab.plan import Experiment

from cards_jax import files, tabular

SIZES = (2, 4, 6, 8, 10)
APART = 0.12  # cards between two series of one size, so that no bar hides another


def runs(scale):
    return deckwork.runs(network(scale), sparsity(scale), scale)


def timed(findings):
    """{label: [(size, seconds adaptive, seconds agnostic)]} of one deck of every size."""
    scale, found = findings.scale, {}
    for label, kinds in deckwork.cards_of(findings, network(scale), sparsity(scale)).items():
        for size in SIZES:
            for hand in decks.members(kinds, size)[:1]:
                deck, data = decks.of_cards(hand, scale.references)
                found.setdefault(label, []).append((size, *decks.seconds(deck, data.test_images)))
    return found


def figure(findings, out):
    scale = findings.scale
    found = deckwork.measured(findings, network(scale), sparsity(scale), SIZES, out)
    paths, times = deckwork.tables(findings, found, out, "deck_size"), timed(findings)
    rows = [
        {"cards": label, "size": n, "adaptive_s": a, "agnostic_s": b, "speedup": b / a}
        for label, each in times.items()
        for n, a, b in each
    ]
    files.write_atomically(draw.stem(out, "deck_size_times.csv"), tabular.csv_table(rows))
    with draw.figure(8.6, 3.4) as fig:
        three = fig.subplots(1, 3)
        for axes, key in zip(three, ("clean", "corrupted"), strict=False):
            labels = list(dict.fromkeys(d.label for d in found if d.size > 1))
            series = [(label, way) for label in labels for way in (decks.ADAPTIVE, decks.AGNOSTIC)]
            for i, (label, way) in enumerate(series):
                own = [d for d in found if (d.label, d.way) == (label, way)]
                values = [100 * getattr(d, key).mean(1) for d in own]
                places = [d.size + APART * (i - (len(series) - 1) / 2) for d in own]
                dash, colour = "-" if way == decks.ADAPTIVE else ":", draw.COLOURS_OF[i // 2]
                style = {"color": colour, "marker": "o", "linestyle": dash, "markersize": 3}
                draw.bars(axes, places, values, f"{label}, {way}", **style)
            axes.set_ylabel(f"{key.capitalize()} accuracy (%)")
            axes.set_xlabel("Cards")
        for i, (_, each) in enumerate(times.items()):
            x, adaptive, agnostic = np.array(each).T
            three[2].plot(x, 1e3 * adaptive, "o-", color=draw.COLOURS_OF[i], markersize=3)
            three[2].plot(x, 1e3 * agnostic, "o:", color=draw.COLOURS_OF[i], markersize=3)
        three[2].set_ylabel("Time of 100 images (ms)")
        three[2].set_xlabel("Cards")
        three[2].set_ylim(bottom=0)
        draw.legend(fig, 3)
        draw.caption(
            fig,
            draw.about(
                findings,
                f"{network(scale)}. Bars: smallest to largest deck; no bar: one deck of all cards.",
            ),
        )
        return [*paths, *draw.save(fig, draw.stem(out, "deck_size"))]


EXPERIMENT = Experiment(
    "deck_size", __doc__.splitlines()[0], runs, figure, robust=False, decks=True
)

if __name__ == "__main__":
    sys.exit(command.main(EXPERIMENT))
