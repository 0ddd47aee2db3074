"""This trainer at R = 4 beside each PyTorch peer, with the ratio that is wanted of it."""

from benchmarks.steps import Case
from benchmarks.suite import Options, Table, contest, failed, median, times
from benchmarks.suite.train import FUNCTIONAL, ORIGINAL, TUNED, of_case, of_peer

REALIZATIONS = 4
WANTED = {  # (network, batch): times each peer, at least
    ("conv4", 64): {TUNED: 1.05, ORIGINAL: 1.5, FUNCTIONAL: 2.0},
    ("conv4", 128): {TUNED: 0.95, ORIGINAL: 1.5, FUNCTIONAL: 2.0},
    ("resnet18", 32): {TUNED: 1.05, ORIGINAL: 2.3, FUNCTIONAL: 2.0},
    ("resnet18", 128): {TUNED: 0.95, ORIGINAL: 1.5, FUNCTIONAL: 2.0},
    ("resnet20", 128): {TUNED: 1.3, ORIGINAL: 1.5, FUNCTIONAL: 2.0},
}


def run(options: Options) -> list[Table]:
    """A contest for each network and batch, all in one table."""
    rows, notes = [], []
    for (network, size), wanted in list(WANTED.items())[: 1 if options.quick else None]:
        case = Case(network, "ep", size, REALIZATIONS)
        if options.quick:  # an ensemble takes long to begin
            wanted = {peer: least for peer, least in wanted.items() if peer != FUNCTIONAL}
        peers = [of_peer(name, network, size, REALIZATIONS) for name in wanted]
        rates, failures = contest([of_case(case), *peers], options)
        notes += failed({f"{network}, batch {size}, {k}": v for k, v in failures.items()})
        for peer, least in wanted.items():
            ratio = times(rates, case.name, peer)
            rows.append(
                {
                    "network": network,
                    "batch": size,
                    "images/s x R": median(rates, case.name),
                    "peer": peer,
                    "its images/s": median(rates, peer),
                    "times as fast": ratio,
                    "wanted": least,
                    "reached": None if ratio is None else str(float(ratio.split()[0]) >= least),
                }
            )
    notes.insert(
        0, "Edge-popup, 50%, float32; medians of interleaved rounds, ratios within a round."
    )
    return [Table(f"Beside PyTorch, R = {REALIZATIONS}", rows, notes)]
