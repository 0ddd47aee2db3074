"""Figure 1: what eight ways to compress a network do to its accuracy and its robustness, relative to dense.

    python experiments/figure1.py --scale=smoke
    python experiments/figure1.py --scale=small --data.dir=FOLDER_OF_THE_CIFAR_ARCHIVE
    python experiments/figure1.py list|estimate|run|collect|draw --scale=paper

Question: how do clean and corrupted accuracy change with sparsity, for methods that prune a trained network (FT,
GMP), lottery-ticket-style ones (LTH, LRR) and ones that prune a random one (EP, BP; layerwise and global)? The paper
finds, on five networks and CIFAR-10 with five seeds, that FT and GMP lose robustness at high sparsity, that LTH and
LRR keep or gain it, and that EP and BP gain most. Points are differences to the mean dense accuracy, bars reach from
the smallest to the largest seed. Controls have equal budgets: what they show as well is not due to pruning.
Time: smoke, on embedded digits, 5 to 8 minutes on two cores; small, Conv4 at full width on 4,000 images, 7 hours on two
cores; paper, a few hundred hours of one accelerator (`estimate --gflops=`), shared by `run --index=i --of=n`.
"""

import sys

from lab import command, draw
from lab.plan import CONTROL, Experiment
from lab.recipes import COMPRESSED, LABELS, controls, family
from lab.verdict import Rule


def runs(scale):
    found = []
    for network in scale.networks:
        mine = [run for kind in LABELS for run in family(kind, network, scale)]
        found += [*mine, *controls(network, scale, mine)]
    return found


def rules(scale):
    """The paper's directions at the highest sparsity, with what was trained for equally long."""
    found = []
    for network in scale.networks:
        at = lambda kind, s=scale.high, n=network: (f"{kind}_{n}", s)
        dense, cyclic = (f"dense_{network}", 0.0), (f"dense_{network}_cyclic", 0.0)
        long = {m: (f"{m}_{network}_long", scale.high) for m in ("ft", "gmp")}
        for m in ("lth", "lrr"):
            text = f"{m.upper()} keeps or gains robustness ({network})"
            found.append(Rule(text, "corrupted", at(m), dense, 1, control=(at(m), cyclic)))
        for m in ("ft", "gmp"):
            text = f"{m.upper()} loses robustness ({network})"
            found.append(Rule(text, "corrupted", at(m), dense, -1, control=(long[m], cyclic)))
        as_gmp = (f"dense_{network}_as_gmp", 0.0)
        text = f"GMP loses robustness to dense of its learning rate ({network})"
        found.append(Rule(text, "corrupted", at("gmp"), as_gmp, -1))
        text = f"FT loses robustness to FT that removes nothing ({network})"
        found.append(Rule(text, "corrupted", at("ft"), (f"ft_{network}_whole", 0.0), -1))
        text = f"LRR keeps or gains robustness to dense of its cycles and rates ({network})"
        as_lrr = (f"dense_{network}_cyclic_as_lrr", 0.0)
        found.append(Rule(text, "corrupted", at("lrr"), as_lrr, 1))
        for kind in ("ep_layerwise", "ep_global", "bp_layerwise", "bp_global"):
            text = f"{LABELS[kind]} gains robustness ({network})"
            found.append(Rule(text, "corrupted", at(kind), dense, 1))
        plateau = f"dense has plateaued: twice the epochs within 0.5 points ({network})"
        twice = (f"dense_{network}_twice", 0.0)
        found.append(Rule(plateau, "clean", twice, dense, within=0.5))
    return found


def figure(findings, out):
    networks = findings.scale.networks
    kinds = [(kind, LABELS[kind]) for kind in COMPRESSED]
    methods = lambda n: [(f"{kind}_{n}", label) for kind, label in kinds]
    controls_of = lambda n: [
        *((r.name, r.label) for r in findings.runs(CONTROL) if f"_{n}_" in r.name),
        (f"lrr_{n}", "LRR"),
    ]
    paths = []
    for name, lines in (("figure1", methods), ("figure1_controls", controls_of)):
        columns = [(n, lines(n), f"dense_{n}") for n in networks]
        paths += draw.panels(findings, draw.stem(out, name), columns)
    return paths


EXPERIMENT = Experiment("figure1", __doc__.splitlines()[0], runs, figure, rules)

if __name__ == "__main__":
    sys.exit(command.main(EXPERIMENT))
