"""Ablation: the number of prune-rewind iterations on the way to one sparsity.

    python experiments/iterations.py --scale=smoke
    python experiments/iterations.py --scale=small --data.dir=FOLDER_OF_THE_CIFAR_ARCHIVE

Question: do LTH and LRR get more robust where the same sparsity is reached in more, smaller steps? The paper sweeps
its rewinding steps in appendix E; its text allows two readings, this is the second (rewind_point.py is the first).
Every iteration removes the same share of what is left; n of them mean n + 1 trainings, so that dense for as long
stands beside them.
Time: smoke 3 minutes on two cores; small 7 hours; paper, Conv8, a day of an accelerator.
"""

import sys

from lab import command, draw
from lab.plan import CONTROL, Experiment
from lab.recipes import ITERATIVE, LABELS, cycles_of, family, varied
from lab.verdict import Rule

COUNTS = (1, 2, 4, 7)


def counts(scale):
    return COUNTS[:2] if scale.is_smoke else COUNTS


def rate(sparsity, count):
    """What each of so many iterations has to remove of what is left."""
    return 1 - (1 - sparsity) ** (1 / count)


def times(count):
    """In words."""
    return f"{count} iteration{'s' * (count > 1)}"


def runs(scale):
    tune, dense = family("dense", scale.one, scale)
    found = [tune, dense]
    for count in counts(scale):
        label, fields = f"dense, {count + 1} trainings", cycles_of(count, scale)
        found.append(varied(dense, f"cycles{count}", label, fields, CONTROL))
    for method in ITERATIVE:
        tune, cards = family(method, scale.one, scale, (scale.middle,))
        found.append(tune)
        for count in counts(scale):
            fields = {"pruning.rate": rate(scale.middle, count), "pruning.targets": "levels"}
            label = f"{LABELS[method]}, {times(count)}"
            found.append(varied(cards, f"n{count}", label, fields))
    return found


def rules(scale):
    few, many = counts(scale)[0], counts(scale)[-1]
    at = lambda m, n: (f"{m}_{scale.one}_n{n}", scale.middle)
    cyclic = lambda n: (f"dense_{scale.one}_cycles{n}", 0.0)
    return [
        Rule(
            f"{m.upper()} gains robustness with iterations",
            "corrupted",
            at(m, many),
            at(m, few),
            1,
            control=(at(m, many), at(m, few), cyclic(many), cyclic(few)),
        )
        for m in ITERATIVE
    ]


def figure(findings, out):
    scale = findings.scale
    of = lambda m: [
        (n, findings.group(f"{m}_{scale.one}_n{n}", scale.middle)) for n in counts(scale)
    ]
    cyclic = [(n, findings.group(f"dense_{scale.one}_cycles{n}")) for n in counts(scale)]
    lines = [(LABELS[m], of(m)) for m in ITERATIVE] + [("dense, as many trainings", cyclic)]
    dense = findings.group(f"dense_{scale.one}")
    label = f"Prune-rewind iterations to {100 * scale.middle:.4g}%"
    paths = draw.over_numbers(findings, out, "iterations", lines, label, dense)
    for m in ITERATIVE:
        rows = [(times(n), cards) for n, cards in of(m)]
        text = f"{LABELS[m]}, {scale.one}, {100 * scale.middle:.4g}% sparse"
        paths += draw.heatmaps(findings, out, f"iterations_{m}", rows, dense, text)
    return paths


EXPERIMENT = Experiment("iterations", __doc__.splitlines()[0], runs, figure, rules, heat=True)

if __name__ == "__main__":
    sys.exit(command.main(EXPERIMENT))
