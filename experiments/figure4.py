"""Figure 4: accuracy, robustness and memory of cards and of decks of two, four and six of them.

    python experiments/figure4.py --scale=smoke
    python experiments/figure4.py --scale=small --data.dir=FOLDER_OF_THE_CIFAR_ARCHIVE

Question: what do decks gain over their cards and over a dense network, for how much memory, and what does the gate
add? The paper's decks have as many cards trained with AugMix as with Gaussian noise; adaptive decks ask the cards
that a spectral gate picks, agnostic ones all. It finds that adaptive decks of two are 1 to 2 points more robust than
agnostic ones and about twice as fast, that decks of full-precision LRR cards lead, and that decks of binary cards
(EP) match dense. Bubbles are as large as the memory of the paper's formula.
Time: smoke 4 minutes on two cores; small 2 hours after figure1 (AugMix with its consistency loss computes
three views of an image); paper, WRN-18-2, a few days of an accelerator.
"""

import sys

from lab import against_paper, command, deckwork, draw
from lab.deckwork import network, sparsity
from lab.plan import Experiment

SIZES = (2, 4, 6)


def runs(scale):
    return deckwork.runs(network(scale), sparsity(scale), scale)


def figure(findings, out):
    scale = findings.scale
    found = deckwork.measured(findings, network(scale), sparsity(scale), SIZES, out)
    if not found:
        return []
    paths = deckwork.tables(findings, found, out, "figure4")
    about = network(scale), sparsity(scale)
    where = draw.stem(out, "against_paper")
    paths += against_paper.write(findings, found, "cifar10", *about, where)
    with draw.figure(7.0, 4.4) as fig:
        axes = fig.subplots()
        areas = deckwork.bubbles(axes, found)
        draw.legend(fig, 3)
        text = f"{network(scale)}, {100 * sparsity(scale):.4g}% sparse. {areas} Hollow: agnostic."
        draw.caption(fig, draw.about(findings, text))
        return paths + draw.save(fig, draw.stem(out, "figure4"))


EXPERIMENT = Experiment("figure4", __doc__.splitlines()[0], runs, figure, robust=False, decks=True)

if __name__ == "__main__":
    sys.exit(command.main(EXPERIMENT))
