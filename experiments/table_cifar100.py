"""The CIFAR-100 table: cards and decks of WRN-18-2 beside the paper's, and beside RobustBench's.

    python experiments/table_cifar100.py --scale=smoke
    python experiments/table_cifar100.py --scale=paper --data.dir=FOLDER_OF_THE_CIFAR100_ARCHIVE

Question: do cards and decks do on a hundred classes what they do on ten? The paper trains WRN-18-2 on CIFAR-100 with
LTH, LRR, EP and BP (global) and reports decks of 80.6% clean and 71.3% corrupted accuracy, and binary ones almost 5
points above the best before. Numbers that were measured on other data or corruptions than the paper's stand in
columns of their own.
Time: smoke, on embedded digits, 4 minutes on two cores; small 5 hours; paper a week of an accelerator.
"""

import sys

from lab import against_paper, command, deckwork, draw
from lab.deckwork import network, sparsity
from lab.plan import Experiment

SIZES = (2, 4, 6)


def methods(scale):
    return deckwork.METHODS if scale.is_smoke else tuple(deckwork.NAMES)


def runs(scale):
    return deckwork.runs(network(scale), sparsity(scale), scale, methods(scale))


def figure(findings, out):
    scale = findings.scale
    found = deckwork.measured(
        findings, network(scale), sparsity(scale), SIZES, out, methods=methods(scale)
    )
    paths = deckwork.tables(findings, found, out, "table_cifar100")
    where = draw.stem(out, "against_paper")
    about = network(scale), sparsity(scale)
    return paths + against_paper.write(findings, found, "cifar100", *about, where)


EXPERIMENT = Experiment(
    "table_cifar100",
    __doc__.splitlines()[0],
    runs,
    figure,
    robust=False,
    decks=True,
    data="cifar100",
)

if __name__ == "__main__":
    sys.exit(command.main(EXPERIMENT))
