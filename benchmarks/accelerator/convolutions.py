"""Every convolution of the networks for R realizations at once: formulations, precisions, forward and gradients."""

import concurrent.futures
import itertools
import os
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.accelerator.peaks import PRECISIONS, device, fastest
from benchmarks.suite import Options, Table
from benchmarks.suite.layers import NETWORKS, PIECES, Shape

BATCH, LOOP = 128, 20  # images of each realization; convolutions of a call
COUNTS = (1, 5)
# native is grouped under vmap; for one realization that is what unrolled is as well.
FORMULATIONS = {1: ("native", "patches"), 5: ("native", "unrolled", "patches")}
QUICK = (Shape(2, 4, 3, 4),)


def shapes(networks: Iterable[str] | None = None) -> list[Shape]:
    """Those of these networks (None: of all), each once, at one batch size."""
    found = [shape._replace(batch=BATCH) for n in networks or NETWORKS for shape in NETWORKS[n]]
    return list(dict.fromkeys(found))


def program(shape: Shape, count: int, formulation: str, precision: str, piece: str) -> tuple:
    """(compiled loop of LOOP convolutions or gradients, its arguments)."""
    import jax
    from jax import lax

    from cards_jax.models.convolution import convolve

    dtype, products = PRECISIONS[precision]
    out = shape.side // shape.stride
    draw = lambda key, *dims: jax.random.normal(jax.random.key(key), (count, *dims)).astype(dtype)
    x = draw(0, shape.batch, shape.side, shape.side, shape.inputs)
    kernel = draw(1, shape.size, shape.size, shape.inputs, shape.outputs)
    g = draw(2, shape.batch, out, out, shape.outputs)
    conv = lambda x, kernel: convolve(x, kernel, shape.stride, formulation)
    f, pair = {
        PIECES[0]: (conv, (x, kernel)),
        PIECES[1]: (lambda g, k, x: jax.vjp(lambda x: conv(x, k), x)[1](g)[0], (g, kernel, x)),
        PIECES[2]: (lambda x, g, k: jax.vjp(lambda k: conv(x, k), k)[1](g)[0], (x, g, kernel)),
    }[piece]
    each = jax.vmap(f)

    def many(a, *rest):
        def body(a, _):
            first = lax.optimization_barrier(each(a, *rest))[0, 0, 0, 0, 0]
            return a.at[0, 0, 0, 0, 0].add((1e-9 * first).astype(a.dtype)), None

        return lax.scan(body, a, length=LOOP)[0]

    with jax.default_matmul_precision(products):
        return jax.jit(many, donate_argnums=0).lower(*pair).compile(), pair


def rate(shape: Shape, count: int, compiled: Callable, arguments: tuple) -> float:
    """TFLOP/s, counted as of a direct sum: the fastest of five calls."""
    import jax

    first, *rest = arguments

    def call() -> None:
        nonlocal first
        first = jax.block_until_ready(compiled(first, *rest))

    return count * shape.flop * LOOP / fastest(call, 5) / 1e12


def run(options: Options) -> list[Table]:
    """A table for each R: a row for each convolution, piece and precision, a column for each formulation."""
    found = {}
    for count in COUNTS:
        for shape in QUICK if options.quick else shapes(options.networks):
            options.say(f"R = {count}, {shape.name}")
            kinds = list(itertools.product(FORMULATIONS[count], PRECISIONS, PIECES))
            # What takes time is compiling, which needs no device and does not hold Python up.
            with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
                made = {kind: pool.submit(program, shape, count, *kind) for kind in kinds}
            for kind, each in made.items():
                found[count, shape, *kind] = _rate(shape, count, each, options)
            rates = {kind: found[count, shape, *kind] for kind in kinds}
            options.say("; ".join(f"{' '.join(k)} {x:.3g}" for k, x in rates.items() if x))
    return [_table(count, found) for count in COUNTS]


def _rate(shape: Shape, count: int, made: concurrent.futures.Future, options: Options) -> Any:
    try:
        return rate(shape, count, *made.result())
    except Exception as error:  # such as memory; the others still count
        options.say(f"{shape.name}: {str(error).splitlines()[0]}")
        return None


def _table(count: int, found: dict) -> Table:
    rows = []
    mine = dict.fromkeys(key[1] for key in found if key[0] == count)
    for shape, piece, precision in itertools.product(mine, PIECES, PRECISIONS):
        rates = {f: found[count, shape, f, precision, piece] for f in FORMULATIONS[count]}
        known = {f: x for f, x in rates.items() if x is not None}
        rows.append(
            {"convolution": shape.name, "piece": piece, "precision": precision, **rates}
            | {"best": max(known, key=known.get) if known else None}
        )
    batch = next(iter(mine)).batch
    note = f"TFLOP/s on {device()}, batch {batch}, R = {count}, counted as of a direct sum; fastest of five calls."
    return Table(f"Convolutions, R = {count}", rows, [note])
