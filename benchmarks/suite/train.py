"""Training throughput over R, for every network, method and peer; share of the machine's matrix product."""

from benchmarks.contest import Contestant
from benchmarks.machine import PRODUCT_FLOP, matrix_product
from benchmarks.steps import STEPS, Case, contestant
from benchmarks.suite import Options, Table, contest, failed, median, times
from benchmarks.train import BATCH_SIZE, PEAK, peer_contestant

PEERS = {  # name: (function of peers.py, method)
    "torch as the originals, ep": ("original", "ep"),
    "torch default layout, ep": ("plain", "ep"),
    "torch channels-last, ep": ("tuned", "ep"),
    "torch channels-last, dense": ("tuned", "dense"),
    "torch compiled, ep": ("compiled", "ep"),
    "torch.func, ep": ("functional", "ep"),
    "torch channels-last, ep augmix": ("augmix", "ep"),
}
ORIGINAL, DEFAULT, TUNED, DENSE, _, FUNCTIONAL, AUGMIX = PEERS
QUICK = {"conv4": (4,)}
FULL = {"conv4": (1, 4, 8), "resnet20": (1, 4), "resnet18": (1, 4), "wrn18_2": (2,)}


def groups(
    network: str, counts: tuple[int, ...], quick: bool
) -> list[tuple[list[Case], list[str]]]:
    """(cases, peers) that take turns: edge-popup at every R, then other methods at the largest, then AugMix.

    A few at a time: networks of all of them together would fill the memory, which slows down who allocates most.
    """
    size, most = BATCH_SIZE[network], min(max(counts), 4)
    popup = [Case(network, "ep", size, r) for r in counts]
    others = [
        Case(network, m, size, most) for m in (("dense",) if quick else ("dense", "bp", "lrr"))
    ]
    if quick:
        return [(popup + others, [TUNED])]
    peers = [name for name, (_, method) in PEERS.items() if method == "ep" and name != AUGMIX]
    if network == "wrn18_2":  # ten seconds a step
        peers = [ORIGINAL, TUNED]
    mixed = [Case(network, "ep", size, most, augment="augmix")]
    return [
        (popup, peers),
        (others, [DENSE]),
        (mixed, [AUGMIX] if network != "wrn18_2" else []),
    ]


def of_peer(name: str, network: str, batch_size: int, realizations: int) -> Contestant:
    """A peer as a contestant; one network after another is as fast as one, so those train one."""
    peer, method = PEERS[name]
    count = realizations if peer == "functional" else 1
    arguments = {
        "peer": peer,
        "network": network,
        "method": method,
        "batch_size": batch_size,
        "realizations": count,
    }
    return Contestant(name, peer_contestant, count * batch_size, arguments)


def of_case(case: Case) -> Contestant:
    """This trainer as a contestant."""
    return Contestant(case.name, contestant, case.images, {"case": case}, STEPS)


def run(options: Options) -> list[Table]:
    """One contest and table for each network."""
    networks = QUICK if options.quick else FULL
    return [_network(network, counts, options) for network, counts in networks.items()]


def _network(network: str, counts: tuple[int, ...], options: Options) -> Table:
    from benchmarks.peers import multiply_adds

    size, shared = BATCH_SIZE[network], min(max(counts), 4)
    flop, rows, failures, peak = 6 * multiply_adds(network), [], {}, None
    for cases, peers in groups(network, counts, options.quick):
        found = [Contestant(PEAK, matrix_product, PRODUCT_FLOP)]
        found += [of_case(case) for case in cases]
        found += [of_peer(name, network, size, shared) for name in peers]
        rates, missing = contest(found, options)
        failures |= missing
        peak = median(rates, PEAK)
        last = next((name for name in peers if name in (TUNED, DENSE, AUGMIX)), "")
        for name in [c.name for c in found[1:]]:
            rate, views = median(rates, name), 3 if "augmix" in name else 1
            rows.append(
                {
                    "training": name,
                    "images/s x R": rate,
                    "share of peak": f"{views * flop * rate / peak:.0%}" if rate and peak else None,
                    "times torch channels-last": times(rates, name, last),
                    **{f"times {p}": times(rates, name, p) for p in (ORIGINAL, FUNCTIONAL)},
                }
            )
    notes = [
        f"Medians of {options.rounds - 1} interleaved rounds, ratios within a round (lowest to highest). Edge-popup",
        "stands beside PyTorch's, with AugMix beside that with AugMix, other methods beside its dense training. torch",
        f"trains one network after another, torch.func {shared} at once. The peak is JAX's float32 matrix product,",
        f"{(peak or 0) / 1e9:.0f} GFLOP/s; an image counts {flop / 1e9:.2f} GFLOP, six times its multiply-adds.",
    ]
    return Table(f"Training: {network}, batch {size}", rows, notes + failed(failures))
