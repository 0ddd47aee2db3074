"""Figure 2: what noise of each frequency does to compressed networks, and to the dense one.

    python experiments/figure2.py --scale=smoke
    python experiments/figure2.py --scale=small --data.dir=FOLDER_OF_THE_CIFAR_ARCHIVE

Question: which frequencies of noise does every method make a network more, or less, sensitive to? The paper finds, on
Conv8 at 80%, that methods that prune a trained network raise the error by up to 10 points, and that EP and BP lower
it by up to 50 and flatten the map, layerwise and global ones differently. The first grid shows errors, the second
their difference to dense, blue is less error; each a mean over seeds.
Time: smoke, on embedded digits, 4 minutes on two cores, less where figure1 has run in the same workdir; small 4 hours
of two cores, most of it shared with figure1; paper, Conv8, some hours of an accelerator.
"""

import sys

from lab import command, draw
from lab.plan import Experiment
from lab.recipes import COMPRESSED, LABELS, family
from lab.verdict import Rule


def runs(scale):
    return [run for k in LABELS for run in family(k, scale.one, scale, (scale.middle,))]


def rules(scale):
    at = lambda kind: (f"{kind}_{scale.one}", scale.middle)
    dense = (f"dense_{scale.one}", 0.0)
    found = [
        Rule(
            f"{m.upper()} raises the Fourier error",
            "heat",
            at(m),
            dense,
            1,
            paper="up to +10 points",
        )
        for m in ("ft", "gmp")
    ]
    for kind in ("ep_layerwise", "ep_global", "bp_layerwise", "bp_global"):
        found.append(
            Rule(
                f"{LABELS[kind]} lowers the Fourier error",
                "heat",
                at(kind),
                dense,
                -1,
                paper="up to -50 points",
            )
        )
        found.append(Rule(f"{LABELS[kind]} flattens the map", "uneven", at(kind), dense, -1))
    for m in ("ep", "bp"):
        text = f"layerwise and global {m.upper()} do so differently"
        found.append(Rule(text, "uneven", at(f"{m}_layerwise"), at(f"{m}_global"), 0))
    return found


def figure(findings, out):
    scale = findings.scale
    rows = [(LABELS[k], findings.group(f"{k}_{scale.one}", scale.middle)) for k in COMPRESSED]
    dense = findings.group(f"dense_{scale.one}")
    text = f"{scale.one}, {100 * scale.middle:.3g}% sparse"
    return draw.heatmaps(findings, out, "figure2", rows, dense, text)


EXPERIMENT = Experiment(
    "figure2", __doc__.splitlines()[0], runs, figure, rules, robust=False, heat=True
)

if __name__ == "__main__":
    sys.exit(command.main(EXPERIMENT))
