"""Ablation: a large network that is pruned, or a small one that is dense, at the same size of the file.

    python experiments/pruned_or_small.py --scale=smoke
    python experiments/pruned_or_small.py --scale=small --data.dir=FOLDER_OF_THE_CIFAR_ARCHIVE

Question: is a compressed large network more accurate and robust than a dense one of the same bytes, under one
augmentation (AugMix)? The paper's cards are only worth their training if they are. The small ones are as wide as
their cards' true bytes allow: mask, gains and BatchNorm count. EP's rival weighs no more than EP's card; LRR's may
weigh a few percent more, as the mask counts with the entropy that it would have in layers of equal sparsity, and a
global one has less. The figure and the tables show the bytes of both. Small networks have a learning rate and a weight
decay of their own, from the same grid. LRR's rival is trained as often as LRR is (`cyclic`), and once.
Time: smoke 2 minutes on two cores; small 3 hours (with --config.model.width=16 50 minutes); paper a day of an
accelerator.
"""

import dataclasses
import sys

from lab import command, draw
from lab.plan import CONTROL, Experiment
from lab.recipes import LABELS, cycles_of, family, levels_to, varied, width_of
from lab.verdict import Rule

from cards_jax import equal_bytes, models
from cards_jax.config import ConfigError
from cards_jax.models import Spec

AUGMENT = "augmix"
# Of a kept weight; the signs of EP's are drawn again from a key.
BITS = {"lrr": 32, "ep_layerwise": 0}


def small_width(scale, bits):
    """Of the dense network that weighs what a card at the highest sparsity weighs."""
    name, (side, classes) = scale.one, (scale.pictures.side, scale.pictures.classes)
    width = width_of(name, scale)
    affine = models.family(name).NORMALISED
    spec = lambda a: Spec(name, width, classes, (side, side, 3), affine=a, bias=a)
    budget = equal_bytes.card_bytes(spec(affine and bits == 32), scale.high, bits)
    try:
        return equal_bytes.widest(spec(affine), budget)
    except ValueError as error:
        raise ConfigError(
            f"config.model.width={width}: its card at {100 * scale.high:g}% takes {budget:,} bytes, and {error}; "
            "allowed is a wider network"
        ) from None


def runs(scale):
    found = family("dense", scale.one, scale, augment=AUGMENT)
    for kind, bits in BITS.items():
        found += family(kind, scale.one, scale, (scale.high,), augment=AUGMENT)
        width = {"model.width": small_width(scale, bits)}
        label = f"small dense of {LABELS[kind]}'s bytes"
        rival = {"augment": AUGMENT, "more": width, "tag": f"as_{kind}", "label": label}
        tune, small = (
            dataclasses.replace(run, fixed=("model.width",))
            for run in family("dense", scale.one, scale, **rival)
        )
        found += [tune, dataclasses.replace(small, role=CONTROL)]
        if kind == "lrr":
            cycles = cycles_of(levels_to(scale.high, scale), scale)
            found.append(varied(small, "cyclic", f"{label}, LRR's cycles", cycles, CONTROL))
    return found


def rules(scale):
    name, found = f"{scale.one}_{AUGMENT}", []
    for kind in BITS:
        for measure in ("clean", "corrupted"):
            card, small = (f"{kind}_{name}", scale.high), (f"dense_{name}_as_{kind}", 0.0)
            cyclic = (f"dense_{name}_as_{kind}_cyclic", 0.0)
            control = (card, cyclic) if kind == "lrr" else None
            text = f"{LABELS[kind]} beats a small dense network of its size"
            found.append(Rule(text, measure, card, small, 1, control=control))
    return found


def figure(findings, out):
    with draw.figure(6.0, 3.8) as fig:
        axes = fig.subplots()
        for i, run in enumerate(findings.runs()):
            cards = findings.group(run.name)
            if not cards:
                continue
            x = sum(c.result["true_bytes"] for c in cards) / len(cards) / 1e6
            style = {"color": draw.colour("", i), "linestyle": "none"}
            clean, robust = (100 * f(cards) for f in (findings.clean_of, findings.robust_of))
            draw.bars(axes, [x], [robust], run.label, marker=draw.MARKERS[i], **style)
            draw.bars(axes, [x], [clean], "", marker=draw.MARKERS[i], mfc="none", **style)
        axes.set_xscale("log")
        axes.set_xlabel("Size of the file (MB)")
        axes.set_ylabel("Accuracy (%)")
        draw.legend(fig, 2)
        text = "Hollow: clean, filled: corrupted. Bars: smallest to largest seed."
        draw.caption(fig, draw.about(findings, text))
        return draw.save(fig, draw.stem(out, "pruned_or_small"))


EXPERIMENT = Experiment("pruned_or_small", __doc__.splitlines()[0], runs, figure, rules)

if __name__ == "__main__":
    sys.exit(command.main(EXPERIMENT))
