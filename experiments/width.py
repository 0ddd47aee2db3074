"""Ablation: width. One architecture from narrow to wide, at high sparsity.

    python experiments/width.py --scale=smoke
    python experiments/width.py --scale=small --data.dir=FOLDER_OF_THE_CIFAR_ARCHIVE

Question: does the robustness of highly compressed networks rise with the width of what they were pruned from? The
paper sees it rise within a family: wider networks have more to choose from. All widths of a method use the tuning of
the network at its own width, whose cards are Figure 1's; dense networks of the same widths stand beside them.
Time: smoke 3 minutes on two cores; small 1 hour after figure1 in the same workdir; paper, Conv8, a day of an
accelerator.
"""

import dataclasses
import sys

from lab import command, draw
from lab.plan import Experiment
from lab.recipes import LABELS, family, varied, width_of
from lab.verdict import Rule

KINDS = ("dense", "lrr", "ep_layerwise", "ep_global")


def named(kind, width, scale):
    """The run of a width. Of the network's own it is Figure 1's, which is trained once."""
    own = width == width_of(scale.one, scale)
    return f"{kind}_{scale.one}" + ("" if own else f"_w{width}")


def runs(scale):
    found = []
    for kind in KINDS:
        tune, cards = family(kind, scale.one, scale)
        found.append(tune)
        high = {} if kind == "dense" else {"sparsity": (scale.high,)}
        for width in scale.widths:
            label = f"{LABELS[kind]}, width {width}"
            if named(kind, width, scale) == cards.name:
                found.append(dataclasses.replace(cards, label=label))
            else:
                found.append(varied(cards, f"w{width}", label, {"model.width": width} | high))
    return found


def cell(kind, width, scale):
    """The run and sparsity of a width's cards."""
    return named(kind, width, scale), 0.0 if kind == "dense" else scale.high


def rules(scale):
    narrow, wide = scale.widths[0], scale.widths[-1]
    at = lambda kind, width: cell(kind, width, scale)
    dense = at("dense", wide), at("dense", narrow)  # which gain with width, too
    text = "{} gains robustness with width"
    return [
        Rule(
            text.format(LABELS[k]),
            "corrupted",
            at(k, wide),
            at(k, narrow),
            1,
            control=(at(k, wide), at(k, narrow), *dense),
        )
        for k in KINDS[1:]
    ]


def figure(findings, out):
    scale = findings.scale
    of = lambda k: [(w, findings.group(*cell(k, w, scale))) for w in scale.widths]
    lines = [(LABELS[k], of(k)) for k in KINDS]
    text = f"Compressed networks: {100 * scale.high:.4g}% removed."
    label = f"Width of {scale.one}"
    return draw.over_numbers(findings, out, "width", lines, label, logarithmic=True, text=text)


EXPERIMENT = Experiment("width", __doc__.splitlines()[0], runs, figure, rules)

if __name__ == "__main__":
    sys.exit(command.main(EXPERIMENT))
