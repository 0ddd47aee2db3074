"""The k largest of 11 million scores for R realizations: by sorting, histograms and bisection."""

from collections.abc import Callable

from benchmarks.accelerator.peaks import device, fastest
from benchmarks.suite import Options, Table

SCORES, QUICK_SCORES = 11_000_000, 1000  # of a ResNet-18
COUNTS = (1, 5)
SORT = "sort"


def masks_of(size: int, count: int, formulation: str) -> Callable[[], object]:
    """A compiled search for the half with the largest magnitudes of each realization."""
    import jax
    import jax.numpy as jnp

    from cards_jax import masks

    scores, keep = jax.random.normal(jax.random.key(0), (count, size)), size // 2
    if formulation == SORT:
        one = lambda x: jnp.abs(x) >= jnp.sort(jnp.abs(x))[size - keep]
    else:
        counts = jnp.array([keep], jnp.int32)
        one = lambda x: masks.keep_largest([x], counts, formulation=formulation)[0]
    program = jax.jit(jax.vmap(one)).lower(scores).compile()
    return lambda: jax.block_until_ready(program(scores))


def run(options: Options) -> list[Table]:
    """A row for each R and formulation."""
    from cards_jax.select import FORMULATIONS

    size = QUICK_SCORES if options.quick else SCORES
    rows = []
    for count in COUNTS:
        for name in (*FORMULATIONS, SORT):
            spent = fastest(masks_of(size, count, name), 5)
            rows.append({"R": count, "selection": name, "ms per realization": 1000 * spent / count})
    note = f"{device()}; {size:,} float32 scores of each realization, half kept; fastest of five calls."
    return [Table("Selection", rows, [note])]
