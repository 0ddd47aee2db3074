"""Figure 2: what noise of each frequency does to compressed networks, and to the dense one.

    python experiments/figure2.py --scale=smoke
    python experiments/figure2.py --scale=small --data.dir=FOLDER_OF_THE_CIFAR_ARCHIVE

Question: which frequencies of noise does every method make a network more, or less, sensitive to? The paper finds, on
Conv8 at 80%, that methods that prune a trained network raise the error by up to 10 points, and that EP and BP lower
it by up to 50 and flatten the map, layerwise and global ones differently. The first grid shows errors, the second
their difference to dense, blue is less error; each a mean over seeds. The highest sparsity of Figure 1 has grids of
its own. Cards are those of Figure 1 at the same scale; dense ones with GMP's learning rate and weight decay stand
beside them, which show what of GMP's difference is not due to pruning.
Time: smoke, on embedded digits, 5 minutes on two cores, seconds where figure1 has run in the same workdir;
small half an hour to an hour after figure1, estimated; paper, Conv8, some hours of an accelerator.
"""

import sys

from lab import command, draw
from lab.plan import Experiment
from lab.recipes import COMPRESSED, LABELS, at_rate_of_gmp, family
from lab.verdict import Rule


def runs(scale):
    found = [run for k in LABELS for run in family(k, scale.one, scale, scale.around_middle)]
    main = {run.name: run for run in found}
    dense, gmp = (main[f"{k}_{scale.one}"] for k in ("dense", "gmp"))
    return [*found, at_rate_of_gmp(dense, gmp)]


def rules(scale):
    return [rule for sparsity in scale.mapped for rule in _rules(scale, sparsity)]


def _rules(scale, sparsity):
    at = lambda kind: (f"{kind}_{scale.one}", sparsity)
    dense = (f"dense_{scale.one}", 0.0)
    same_rate = (at("gmp"), (f"dense_{scale.one}_as_gmp", 0.0))
    found = []
    for k, control in (("ft", None), ("gmp", same_rate)):
        raises, most = f"{LABELS[k]} raises the Fourier error", "up to +10 points"
        found.append(Rule(raises, "heat", at(k), dense, 1, control=control, paper=most))
    for k in ("ep_layerwise", "ep_global", "bp_layerwise", "bp_global"):
        lowers = f"{LABELS[k]} lowers the Fourier error"
        found.append(Rule(lowers, "heat", at(k), dense, -1, paper="up to -50 points"))
        found.append(Rule(f"{LABELS[k]} flattens the map", "uneven", at(k), dense, -1))
    for m in ("ep", "bp"):
        text = f"layerwise and global {m.upper()} do so differently"
        found.append(Rule(text, "uneven", at(f"{m}_layerwise"), at(f"{m}_global"), 0))
    return found


def figure(findings, out):
    scale, paths = findings.scale, []
    dense = findings.group(f"dense_{scale.one}")
    for sparsity in scale.mapped:
        rows = [(LABELS[k], findings.group(f"{k}_{scale.one}", sparsity)) for k in COMPRESSED]
        rows.append(("dense, GMP's rate", findings.group(f"dense_{scale.one}_as_gmp")))
        text = f"{scale.one}, {100 * sparsity:.4g}% sparse"
        name = "figure2" if sparsity == scale.middle else "figure2_high"
        paths += draw.heatmaps(findings, out, name, rows, dense, text)
    return paths


EXPERIMENT = Experiment(
    "figure2", __doc__.splitlines()[0], runs, figure, rules, robust=False, heat=True
)

if __name__ == "__main__":
    sys.exit(command.main(EXPERIMENT))
