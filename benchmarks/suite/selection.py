"""Selection of the k largest beside the step that it is part of: every formulation, network and R."""

from collections.abc import Callable

import numpy as np

from benchmarks.contest import Contestant
from benchmarks.steps import Case, use_devices
from benchmarks.suite import Options, Table, contest, failed, median
from benchmarks.suite.train import of_case
from benchmarks.train import BATCH_SIZE

SPARSITY = 0.5
SORT = "sort"
QUICK = (("conv4", 4, 4),)
FULL = tuple(  # network, R of the selection, R of the step
    (network, count, min(count, most))
    for network, most in (("conv4", 8), ("resnet18", 8), ("wrn18_2", 2))
    for count in (1, 4, 8)
)
SORTED = ("conv4", "resnet18")  # where sorting takes less than ten seconds


def selection(network: str, realizations: int, formulation: str) -> Callable[[int], None]:
    """Masks of every layer of all realizations, as a step finds them."""
    use_devices()
    import jax
    import jax.numpy as jnp

    from cards_jax import masks, models
    from cards_jax import realizations as axis
    from cards_jax.trainer import layer_shapes

    shapes = list(layer_shapes(models.Spec(network, models.width(network), 10)).values())
    sizes = [int(np.prod(shape)) for shape in shapes]
    layout, rng = axis.layout(realizations), np.random.default_rng(0)
    rows = len(layout.pad([0] * realizations))
    draw = lambda n: rng.uniform(-1, 1, n).astype(np.float32)
    scores = [layout.put(draw((rows, *shape))) for shape in shapes]
    keep = layout.replicate(masks.keep_counts(sizes, SPARSITY, "layerwise"))

    def by_sorting(scores, keep):
        at = [jnp.sort(jnp.abs(x).ravel())[x.size - n] for x, n in zip(scores, keep, strict=True)]
        return [jnp.abs(x) >= t for x, t in zip(scores, at, strict=True)]

    find = lambda scores, keep: masks.keep_largest(scores, keep, formulation=formulation)
    one = by_sorting if formulation == SORT else find
    program = layout.map(one, (True, False)).lower(scores, keep).compile()

    def run(steps: int) -> None:
        for _ in range(steps):
            jax.block_until_ready(program(scores, keep))

    return run


def run(options: Options) -> list[Table]:
    """A contest for each network and R: its formulations and its step take turns."""
    from cards_jax.select import FORMULATIONS

    rows, notes = [], []
    for network, count, of_step in QUICK if options.quick else FULL:
        case = Case(network, "ep", BATCH_SIZE[network], of_step)
        sorts = [SORT] if network in SORTED and count == 1 and not options.quick else []
        found = [of_case(case)]
        for name in (*FORMULATIONS, *sorts):
            arguments = {"network": network, "realizations": count, "formulation": name}
            found.append(Contestant(name, selection, count, arguments))
        rates, failures = contest(found, options)
        notes += failed({f"{network}, R = {count}, {k}": v for k, v in failures.items()})
        step = median(rates, case.name)
        for name in (*FORMULATIONS, *sorts):
            rate = median(rates, name)
            share = step / case.batch_size / rate if step and rate else None
            rows.append(
                {
                    "network": network,
                    "batch": case.batch_size,
                    "R": count,
                    "selection": name,
                    "ms per realization": 1000 / rate if rate else None,
                    "step, ms per realization": 1000 * case.batch_size / step if step else None,
                    "share of the step": None if share is None else f"{share:.1%}",
                }
            )
    note = (
        "Exactly k of every layer, ties by index (sorting keeps all ties); medians of interleaved rounds. The step is "
        "edge-popup's, which contains the backend's selection; that of wrn18_2 at R = 4 and 8 was measured at R = 2."
    )
    return [Table("Selection", rows, [note, *notes])]
