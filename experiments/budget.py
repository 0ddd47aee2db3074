"""Ablation: what to hold within a memory budget, a deck or a single card.

    python experiments/budget.py --scale=smoke
    python experiments/budget.py --scale=small --data.dir=FOLDER_OF_THE_CIFAR_ARCHIVE

Question: within a sixteenth, a quarter and all of the bytes of a dense card, is the best deck better than the best
single card? Both are chosen on holdout images (cards_jax.deal) among the cards of one seed that the grid of section 3.3
trains with AugMix or Gaussian noise: six methods at two sparsities, and dense. Decks have six cards at most, with a
gate or without. The card is the control of the deck's budget; what was chosen then answers the test images.
Time: smoke 7 minutes on two cores beside a training; small 7 hours and paper days, as estimated. After grid in the same
workdir, with --config.model.width=16 and 1,000 images, 24 minutes beside other work.
"""

import collections
import sys

import grid
import numpy as np
from lab import collect, command, dealing, deckwork, draw, verdict
from lab.dealing import CARD, DECK
from lab.decks import AUGMENTS
from lab.deckwork import network
from lab.plan import Experiment

from cards_jax import files, tabular

SHARES = {1 / 16: "a sixteenth", 1 / 4: "a quarter", 1.0: "all"}  # of the bytes of a dense card
DENSE = "dense, AugMix"
MARKERS = {DECK: "o", CARD: "s"}


def runs(scale):
    kinds = ("dense", *grid.methods(scale))
    names = {f"{kind}_{network(scale)}_{augment}" for kind in kinds for augment in AUGMENTS}
    every = grid.runs(scale)
    needed = {run.tuned_by for run in every if run.name in names}
    return [run for run in every if run.name in names | needed]


def measured(findings, out):
    """All that was chosen, then the dense cards; [] without these."""
    dense = findings.group(f"dense_{network(findings.scale)}_augmix", 0.0)
    if not dense:
        return []
    base = [dealing.given(card, DENSE) for card in dense]
    whole, seeds = max(c.true_bytes for c in base), [c.seed for c in base]
    choices = [*dealing.chosen(findings, seeds, whole, tuple(SHARES), out), *base]
    return dealing.measured(findings, choices, out)


def rows(choices, findings):
    """A row for every choice; fractions and bytes."""
    known = {row["id"]: row for row in collect.table(findings)}
    named = lambda card: f"{card.run.name} {card.result['sparsity']:g}"
    return [
        {
            "seed": c.seed,
            "share": c.share,
            "what": c.what,
            "way": c.way or "card",
            "cards": "; ".join(map(named, c.cards)),
            "size": len(c.cards),
            "holdout_score": c.score,
            "clean": c.clean.mean(),
            "corrupted": c.corrupted.mean(),
            "true_bytes": c.true_bytes,
        }
        | deckwork.provenance([known[card.result["id"]] for card in c.cards])
        for c in choices
    ]


def table(choices, findings) -> str:
    """Means over seeds, and what was chosen how often."""
    kinds = [(share, what) for share in SHARES for what in (DECK, CARD)] + [(1.0, DENSE)]
    head = ["share of dense bytes", "what", "cards", "gated", "holdout score (%)", "clean (%)"]
    head += ["corrupted (%)", "min", "max", "n", "true bytes", "made of"]
    words = [x in ("what", "made of") for x in head]
    body = [
        _line(share, what, own)
        for share, what in kinds
        if (own := dealing.of(choices, what, share))
    ]
    return f"{draw.about(findings)}\n\n{tabular.aligned(head, body, words)}"


def _line(share, what, own):
    percent = lambda values, f=np.mean: "" if None in values else f"{100 * f(values):.2f}"
    robust = [c.corrupted.mean() for c in own]
    made = collections.Counter(
        f"{card.run.label} {card.config.augment}, {100 * card.result['sparsity']:.4g}%"
        for c in own
        for card in c.cards
    )
    return (
        [f"{share:g}", what, f"{np.mean([len(c.cards) for c in own]):.1f}"]
        + [str(sum(c.gated for c in own)), percent([c.score for c in own])]
        + [percent([c.clean.mean() for c in own])]
        + [percent(robust, f) for f in (np.mean, np.min, np.max)]
        + [str(len(own)), f"{np.mean([c.true_bytes for c in own]):,.0f}"]
        + ["; ".join(f"{n} x {name}" for name, n in made.most_common())]
    )


def answers(choices):
    """Claims, written before any run, by the rule of verdict.py."""
    judged = []
    for share, words in SHARES.items():
        deck = f"the best deck within {words} of a dense card's bytes"
        claims = (
            (f"{deck} is more robust than the best card", "corrupted", CARD, share),
            (f"{deck} is more accurate than the best card", "clean", CARD, share),
            (f"{deck} is more robust than a dense card with AugMix", "corrupted", DENSE, 1.0),
        )
        for claim, measure, than, its in claims:
            sides = dealing.of(choices, DECK, share), dealing.of(choices, than, its)
            found = dealing.difference(*sides, measure)
            named = f"{DECK} {share:g} minus {than}"
            answer = verdict.answer(found, 1)
            judged.append(verdict.row_of(claim, measure, named, found, answer, ""))
    return judged


def figure(findings, out):
    choices = measured(findings, out)
    if not choices:
        return []
    judged = answers(choices)
    contents = {
        "budget.csv": tabular.csv_table(rows(choices, findings)),
        "budget.md": table(choices, findings),
        "budget_verdicts.csv": tabular.csv_table(judged),
        "budget_verdicts.md": verdict.markdown(judged, findings),
    }
    paths = [draw.stem(out, name) for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        files.write_atomically(path, content)
    return [*paths, *_drawn(choices, findings, draw.stem(out, "budget"))]


def _drawn(choices, findings, where):
    whole = max(c.true_bytes for c in dealing.of(choices, DENSE))
    budgets = {share: share * whole / 1e3 for share in SHARES}
    with draw.figure(6.8, 3.6) as fig:
        for axes, measure in zip(fig.subplots(1, 2), ("clean", "corrupted"), strict=True):
            value = lambda own, m=measure: 100 * np.array([getattr(c, m).mean() for c in own])
            for i, what in enumerate((DECK, CARD)):
                kinds = {s: own for s in SHARES if (own := dealing.of(choices, what, s))}
                x = [budgets[share] * (1.03, 0.97)[i] for share in kinds]  # no bar hides another
                style = {"color": draw.COLOURS_OF[i], "marker": MARKERS[what]}
                draw.bars(axes, x, list(map(value, kinds.values())), what, **style)
            level = value(dealing.of(choices, DENSE)).mean()
            axes.axhline(level, color="#505050", linewidth=0.9, linestyle=(0, (4, 2)))
            axes.set_xscale("log")
            axes.minorticks_off()
            axes.set_xticks(list(budgets.values()), [f"{kb:.0f}" for kb in budgets.values()])
            axes.set_xlabel("Budget (kB)")
            axes.set_ylabel(f"{measure.capitalize()} accuracy (%)")
        draw.legend(fig, 2)
        text = "Chosen on holdout images. Bars: smallest to largest seed; dashes: dense, AugMix."
        draw.caption(fig, draw.about(findings, f"{network(findings.scale)}. {text}"))
        return draw.save(fig, where)


EXPERIMENT = Experiment("budget", __doc__.splitlines()[0], runs, figure, robust=False, decks=True)

if __name__ == "__main__":
    sys.exit(command.main(EXPERIMENT))
