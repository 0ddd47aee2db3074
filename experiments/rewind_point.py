"""Ablation: the step K to which lottery-ticket-style methods rewind.

    python experiments/rewind_point.py --scale=smoke
    python experiments/rewind_point.py --scale=small --data.dir=FOLDER_OF_THE_CIFAR_ARCHIVE

Question: how much do accuracy, robustness and the Fourier map of LTH and LRR depend on the rewind point K? The paper
sweeps its rewinding steps in appendix E; its text allows two readings, this is the first (iterations.py is the
other). K is a share of a training: 0 is the initialisation (LTH) or the whole schedule (LRR). All use the tuning of
the method at its own K. A later K also means less training, so that dense networks with the cycles of the first and
of the last K stand beside them.
Time: smoke 3 minutes on two cores; small 4 hours; paper, Conv8, a day of an accelerator.
"""

import sys

from lab import command, draw
from lab.plan import CONTROL, Experiment
from lab.recipes import ITERATIVE, LABELS, cycles_of, family, levels_to, steps_of, varied
from lab.verdict import Rule

SHARES = (0.0, 0.05, 0.1, 0.25, 0.5)


def shares(scale):
    return SHARES[::2] if scale.is_smoke else SHARES


def runs(scale):
    tune, dense = family("dense", scale.one, scale)
    found = [tune, dense]
    to = lambda share, run: {"pruning.rewind_steps": round(share * steps_of(run, scale)[0])}
    cycles = cycles_of(levels_to(scale.middle, scale), scale)
    for share in shares(scale)[:: len(shares(scale)) - 1]:
        label, tag = f"dense, cycles from K = {100 * share:g}%", f"cyclic_k{1000 * share:g}"
        found.append(varied(dense, tag, label, cycles | to(share, dense), CONTROL))
    for method in ITERATIVE:
        tune, cards = family(method, scale.one, scale, (scale.middle,))
        found += [tune, cards]
        for share in shares(scale):
            label = f"{LABELS[method]}, K = {100 * share:g}%"
            found.append(varied(cards, f"k{1000 * share:g}", label, to(share, cards)))
    return found


def of(findings, method):
    """[(share, cards)] of a method."""
    scale = findings.scale
    name = lambda share: f"{method}_{scale.one}_k{1000 * share:g}"
    return [(share, findings.group(name(share), scale.middle)) for share in shares(scale)]


def rules(scale):
    first, last = shares(scale)[0], shares(scale)[-1]
    at = lambda m, share: (f"{m}_{scale.one}_k{1000 * share:g}", scale.middle)
    dense = tuple((f"dense_{scale.one}_cyclic_k{1000 * share:g}", 0.0) for share in (last, first))
    return [
        Rule(
            f"K matters to {m.upper()}",
            measure,
            at(m, last),
            at(m, first),
            0,
            control=(at(m, last), at(m, first), *dense),
        )
        for m in ITERATIVE
        for measure in ("corrupted", "heat")
    ]


def figure(findings, out):
    lines = [(LABELS[m], [(100 * x, cards) for x, cards in of(findings, m)]) for m in ITERATIVE]
    ends, name = shares(findings.scale), f"dense_{findings.scale.one}_cyclic_k"
    cyclic = [(100 * x, findings.group(f"{name}{1000 * x:g}")) for x in (ends[0], ends[-1])]
    lines.append(("dense, the same cycles", cyclic))
    dense = findings.group(f"dense_{findings.scale.one}")
    label = "Rewind point K (% of a training)"
    paths = draw.over_numbers(findings, out, "rewind_point", lines, label, dense)
    for m in ITERATIVE:
        rows = [(f"K = {100 * x:g}%", cards) for x, cards in of(findings, m)]
        text = f"{LABELS[m]}, {findings.scale.one}, {100 * findings.scale.middle:.4g}% sparse"
        paths += draw.heatmaps(findings, out, f"rewind_point_{m}", rows, dense, text)
    return paths


EXPERIMENT = Experiment("rewind_point", __doc__.splitlines()[0], runs, figure, rules, heat=True)

if __name__ == "__main__":
    sys.exit(command.main(EXPERIMENT))
