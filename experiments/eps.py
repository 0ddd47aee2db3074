"""Ablation: Fourier heatmaps at three norms of noise, for every architecture.

    python experiments/eps.py --scale=smoke
    python experiments/eps.py --scale=small --data.dir=FOLDER_OF_THE_CIFAR_ARCHIVE

Question: does what Figure 2 shows hold for weaker and stronger noise (eps 3, 4, 6) and for other networks? The
paper's appendix D repeats its heatmaps for all architectures and norms. One grid of errors and one of differences to
dense for every network, columns are methods, lines are norms.
Time: smoke 4 minutes on two cores, seconds where figure2 has run in the same workdir; small 2 hours after
figure1, as estimated (with --config.model.width=16 one hour, trainings included); paper some days.
"""

import sys

from lab import command, draw
from lab.plan import Experiment
from lab.recipes import COMPRESSED, LABELS, family


def runs(scale):
    return [
        run
        for network in scale.networks
        for k in LABELS
        for run in family(k, network, scale, scale.around_middle)
    ]


def figure(findings, out):
    scale, paths = findings.scale, []
    for network in scale.networks:
        rows = [(LABELS[k], findings.group(f"{k}_{network}", scale.middle)) for k in COMPRESSED]
        dense = findings.group(f"dense_{network}")
        text = f"{network}, {100 * scale.middle:.4g}% sparse"
        paths += draw.heatmaps(findings, out, f"eps_{network}", rows, dense, text)
    return paths


EXPERIMENT = Experiment(
    "eps", __doc__.splitlines()[0], runs, figure, robust=False, heat=True, norms=True
)

if __name__ == "__main__":
    sys.exit(command.main(EXPERIMENT))
