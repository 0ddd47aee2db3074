"""Ablation: is it binary weights that make edge-popup robust? Full-precision and binary cards side by side.

    python experiments/full_precision.py --scale=smoke
    python experiments/full_precision.py --scale=small --data.dir=FOLDER_OF_THE_CIFAR_ARCHIVE

Question: does EP keep its gain where its random weights are normal numbers in place of signed constants? The paper's
appendix C.2 finds that the gain is not from binarization. `EP, full precision` draws Kaiming normal weights; `EP` has
signed constants, which are binary up to a scale per layer; `BP` draws normal weights and binarizes them.
Time: smoke 90 seconds on two cores; small 90 minutes, half of it shared with figure1; paper some hours of an
accelerator.
"""

import sys

from lab import command, draw
from lab.plan import Experiment
from lab.recipes import family
from lab.verdict import Rule


def runs(scale):
    found = [
        run
        for k in ("dense", "ep_layerwise", "bp_layerwise")
        for run in family(k, scale.one, scale)
    ]
    normal = {"popup.weight_init": "kaiming_normal"}
    return found + family(
        "ep_layerwise", scale.one, scale, more=normal, tag="full", label="EP, full precision"
    )


def rules(scale):
    full = (f"ep_layerwise_{scale.one}_full", scale.high)
    dense = (f"dense_{scale.one}", 0.0)
    binary = (f"ep_layerwise_{scale.one}", scale.high)
    return [
        Rule("EP gains robustness without binary weights", "corrupted", full, dense, 1),
        Rule("binary weights give EP no more than 1 point", "corrupted", binary, full, most=1.0),
    ]


def figure(findings, out):
    network = findings.scale.one
    lines = [
        (f"ep_layerwise_{network}", "EP (layerwise)"),
        (f"ep_layerwise_{network}_full", "EP, full precision"),
        (f"bp_layerwise_{network}", "BP (layerwise)"),
    ]
    return draw.over_sparsity(findings, out, "full_precision", lines, f"dense_{network}")


EXPERIMENT = Experiment("full_precision", __doc__.splitlines()[0], runs, figure, rules)

if __name__ == "__main__":
    sys.exit(command.main(EXPERIMENT))
