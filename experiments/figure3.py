"""Figure 3: how a domain-adaptive deck works, drawn from one that was dealt here.

    python experiments/figure3.py --scale=smoke
    python experiments/figure3.py --scale=small --data.dir=FOLDER_OF_THE_CIFAR_ARCHIVE

Question: what happens to a batch of images on its way through a deck? The paper's figure is a sketch; this one is
measured: a batch of this data under one corruption, its mean spectral feature beside the nearest references of every
group of the gate, the distances that decide, the cards with their sizes, and the answer. Left a batch with noise,
which belongs to the Gaussian cards, below it one without.
Time: smoke 2 minutes on two cores; small an hour and paper a day, both shared with figure4.
"""

import sys

import jax
import numpy as np
from lab import command, decks, deckwork, draw
from lab.deckwork import network
from lab.plan import Experiment

from cards_jax.corruptions import SEVERITIES

METHOD, SIZE = "lrr", 4
SETS = (("gaussian_noise", 5), ("defocus_blur", 5))
GREY = "#606060"


def runs(scale):
    return deckwork.pair_runs(METHOD, scale)


def figure(findings, out):
    scale = findings.scale
    hand = deckwork.first_deck(findings, METHOD, SIZE)
    if not hand:
        return []
    deck, data = decks.of_cards(hand, scale.references)
    with draw.figure(9.2, 2.75 * len(SETS) + 0.4) as fig:
        grid = fig.subplots(len(SETS), 4, width_ratios=[1.0, 1.7, 1.3, 1.5])
        for line, (name, severity) in zip(grid, SETS, strict=True):
            count = min(decks.BATCH, len(findings.source.labels))
            images = findings.source.read(name, 0, count)[SEVERITIES.index(severity)]
            _line(line, deck, images, f"{name.replace('_', ' ')},\nseverity {severity}", data)
        for axes, title in zip(
            grid[0],
            ("a batch", "its spectrum, and the gate's", "distances", "cards, and the answer"),
            strict=True,
        ):
            axes.set_title(title)
        text = f"{network(scale)}, {len(deck)} LRR cards; batches of {decks.BATCH} images."
        draw.caption(fig, draw.about(findings, text, deckwork.of_one(hand)))
        return draw.save(fig, draw.stem(out, "figure3"))


def _line(line, deck, images, name, data):
    _batch(line[0], images, name)
    choice = deck.choose(images)
    picked = np.asarray(choice.weights)[0] > 0
    shades = dict(zip(deck.gate.labels, ("#0072B2", "#D55E00", "#009E73"), strict=False))
    features = np.asarray(jax.vmap(deck.gate.settings.spectrum)(images))
    mean = np.nanmean(features, 0)
    line[1].plot(mean, color="black", label="batch, mean")
    for label, references in zip(deck.gate.labels, deck.gate.references_APF, strict=True):
        nearest = np.argmin(np.square(references - mean).sum(1))
        line[1].plot(references[nearest], "--", color=shades[label], label=f"nearest {label}")
    line[1].set_xlabel("Radius (cycles per image)")
    line[1].set_ylabel("F / ||F||")
    line[1].legend(fontsize=6.5)
    distances = np.asarray(choice.distances)[0]
    ends = ["none" if not p else shades[x] for x, p in zip(deck.gate.labels, picked, strict=True)]
    bars = line[2].barh(range(len(distances)), distances, color=ends, height=0.5)
    for bar, label in zip(bars, deck.gate.labels, strict=True):
        bar.set_edgecolor(shades[label])
    line[2].set_yticks(range(len(distances)), deck.gate.labels)
    line[2].set_xlabel("d to the nearest reference; filled: picked")
    _cards(line[3], deck, images, shades, picked, data)


def _batch(axes, images, name):
    side = images.shape[1]
    rows = images[:16].reshape(4, 4, side, side, 3).transpose(0, 2, 1, 3, 4)
    axes.imshow(rows.reshape(4 * side, 4 * side, 3))
    axes.set_xlabel(name, fontsize=8)
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])


def _cards(axes, deck, images, shades, picked, data):
    each, labels = deck.each(images), data.test_labels[: len(images)]
    right = lambda probabilities: 100 * np.mean(np.asarray(probabilities).argmax(-1) == labels)
    chosen = {label: p for label, p in zip(deck.gate.labels, picked, strict=True)}
    answers = [("deck", right(deck.predict(images)), "black", 1.0)]
    for member, probabilities in zip(deck.members, each, strict=True):
        label = member.augmentation.label
        size = f"{label}, {len(member.content) / 1e3:,.0f} kB"
        answers.append((size, right(probabilities), shades[label], 1.0 if chosen[label] else 0.25))
    for i, (_, value, shade, strength) in enumerate(reversed(answers)):
        axes.barh(i, value, color=shade, alpha=strength, height=0.6)
        axes.annotate(
            f"{value:.0f}%", (value, i), (3, 0), textcoords="offset points", va="center", fontsize=7
        )
    axes.set_yticks(range(len(answers)), [a[0] for a in reversed(answers)], fontsize=7)
    axes.set_xlim(0, 118)
    axes.set_xlabel("Accuracy on this batch (%)")


EXPERIMENT = Experiment("figure3", __doc__.splitlines()[0], runs, figure, robust=False, decks=True)

if __name__ == "__main__":
    sys.exit(command.main(EXPERIMENT))
