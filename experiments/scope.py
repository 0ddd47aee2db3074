"""Ablation: edge-popup and biprop whose weights compete within each layer, and over all layers.

    python experiments/scope.py --scale=smoke
    python experiments/scope.py --scale=small --data.dir=FOLDER_OF_THE_CIFAR_ARCHIVE

Question: does it matter for accuracy, robustness and the Fourier map whether EP and BP prune layerwise or globally?
The paper's appendix C compares both; its Figure 2 shows that they change the map differently. The curves show both
scopes of both methods over sparsity, relative to dense; heatmaps stand at the middle sparsity and at the highest.
Time: smoke 2 minutes on two cores; small 2 hours; everything but heatmaps is shared with figure1.
"""

import sys

from lab import command, draw
from lab.plan import Experiment
from lab.recipes import LABELS, family
from lab.verdict import Rule

KINDS = ("ep_layerwise", "ep_global", "bp_layerwise", "bp_global")


def runs(scale):
    return [run for k in ("dense", *KINDS) for run in family(k, scale.one, scale)]


def rules(scale):
    found = []
    for sparsity in scale.mapped:  # at the highest one global scope may empty a layer
        at = lambda kind, s=sparsity: (f"{kind}_{scale.one}", s)
        for m in ("ep", "bp"):
            for measure in ("clean", "corrupted", "uneven"):
                text = f"the scope of {m.upper()} matters"
                found.append(Rule(text, measure, at(f"{m}_layerwise"), at(f"{m}_global"), 0))
    return found


def figure(findings, out):
    network, scale = findings.scale.one, findings.scale
    lines = [(f"{k}_{network}", LABELS[k]) for k in KINDS]
    paths = draw.over_sparsity(findings, out, "scope", lines, f"dense_{network}")
    dense = findings.group(f"dense_{network}")
    for sparsity in scale.mapped:
        rows = [(label, findings.group(run, sparsity)) for run, label in lines]
        text = f"{network}, {100 * sparsity:.4g}% sparse"
        name = "scope_heatmaps" + "_high" * (sparsity != scale.middle)
        paths += draw.heatmaps(findings, out, name, rows, dense, text)
    return paths


EXPERIMENT = Experiment("scope", __doc__.splitlines()[0], runs, figure, rules, heat=True)

if __name__ == "__main__":
    sys.exit(command.main(EXPERIMENT))
