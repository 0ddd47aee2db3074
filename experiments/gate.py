"""Ablation: the gate of adaptive decks. Where it sends which corruption, and what its settings and batches cost.

    python experiments/gate.py --scale=smoke
    python experiments/gate.py --scale=small --data.dir=FOLDER_OF_THE_CIFAR_ARCHIVE

Question: which batches go to the cards trained with noise, and how do the gate's settings and the size of batches
change that? The paper describes one gate (`paper`: half of the Gaussian references have no noise) and batches of 100
images; `ours` has noise in all of them. The share of batches that goes to the Gaussian cards is shown for every
corruption and severity, then the accuracy of a deck of two for several sizes of batches, beside the agnostic deck.
Time: smoke 2 minutes on two cores; small an hour and paper a day, both shared with figure4.
"""

import sys

import numpy as np
from lab import command, decks, deckwork, draw
from lab.deckwork import network
from lab.plan import Experiment

from cards_jax import deck_table, files, gate
from cards_jax.corruptions import BENCHMARK, SEVERITIES

METHOD = "lrr"


def runs(scale):
    return deckwork.pair_runs(METHOD, scale)


def measured(findings, hand):
    """{settings: rows of deck_table.measure} of a deck."""
    found = {}
    for name, settings in gate.NAMED.items():
        deck, data = decks.of_cards(hand, findings.scale.references, settings)
        labels = findings.source.labels
        images = data.test_images[: len(labels)]
        sets = deck_table.with_mixed(decks.trials_of(images, findings.source, BENCHMARK))
        sizes = sorted({n for n in deck_table.SIZES if n < decks.BATCH} | {decks.BATCH})
        found[name] = list(deck_table.measure(deck, sets, labels, sizes))
    return found


def shares(rows):
    """(corruptions, severities): the part of the batches that goes to the Gaussian cards."""
    shown = deck_table.main_rows([r for r in rows if r["predictor"] == deck_table.ADAPTIVE])
    (noisy,) = (k for k in shown[0] if k.startswith("to gaussian"))  # its settings may follow
    at = {(r["corruption"], r["severity"]): r[noisy] for r in shown}
    return np.array([[at[name, s] for s in SEVERITIES] for name in BENCHMARK])


def figure(findings, out):
    hand, paths = deckwork.first_deck(findings, METHOD, 2), []
    if not hand:
        return []
    found = measured(findings, hand)
    for name, rows in found.items():
        path = draw.stem(out, f"gate_{name}.csv")
        files.write_atomically(path, deck_table.csv(rows))
        paths.append(path)
    with draw.figure(9.0, 4.2) as fig:
        panels = fig.subplots(1, len(found) + 1, width_ratios=[1] * len(found) + [1.5])
        for axes, (name, rows) in zip(panels, found.items(), strict=False):
            picture = axes.imshow(
                100 * shares(rows), vmin=0, vmax=100, cmap="viridis", aspect="auto"
            )
            axes.grid(False)
            axes.set_title(f"settings: {name}")
            axes.set_xticks(range(len(SEVERITIES)), SEVERITIES)
            axes.set_xlabel("Severity")
            axes.set_yticks(range(len(BENCHMARK)), [b.replace("_", " ") for b in BENCHMARK])
            axes.tick_params(labelsize=7, labelleft=axes is panels[0])
        bar = fig.colorbar(picture, ax=panels[:-1], location="bottom", aspect=40)
        bar.set_label("Batches that go to the Gaussian cards (%)")
        _sizes(panels[-1], found)
        text = f"{network(findings.scale)}, one deck of two LRR cards, AugMix and Gaussian."
        draw.caption(fig, draw.about(findings, text, deckwork.of_one(hand)))
        return paths + draw.save(fig, draw.stem(out, "gate"))


def _sizes(axes, found):
    mean = lambda rows: 100 * np.mean([r["accuracy"] for r in rows])
    corrupted = lambda rows: [r for r in rows if r["corruption"] in BENCHMARK]
    for i, (name, rows) in enumerate(found.items()):
        own = [r for r in corrupted(rows) if r["predictor"] == deck_table.ADAPTIVE]
        own = [r for r in own if r["order"] == deck_table.AS_THEY_COME]
        sizes = sorted({r["batch"] for r in own})
        y = [mean([r for r in own if r["batch"] == n]) for n in sizes]
        axes.plot(sizes, y, "o-", color=draw.COLOURS_OF[i], label=name, markersize=4)
    rows = next(iter(found.values()))
    level = mean([r for r in corrupted(rows) if r["predictor"] == deck_table.AGNOSTIC])
    axes.axhline(level, color="#505050", linestyle=(0, (4, 2)), label="agnostic")
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(sizes, sizes)
    axes.set_xlabel("Images of a batch, M")
    axes.set_ylabel("Corrupted accuracy (%)")
    axes.legend()


EXPERIMENT = Experiment("gate", __doc__.splitlines()[0], runs, figure, robust=False, decks=True)

if __name__ == "__main__":
    sys.exit(command.main(EXPERIMENT))
