"""The device's own matrix product, in each precision: what shares of the peak are measured against."""

import functools
import time
from collections.abc import Callable

from benchmarks.suite import Options, Table

SIDE, QUICK_SIDE = 8192, 256
PRECISIONS = {  # name: (dtype, precision of products)
    "float32": ("float32", "float32"),
    "TF32": ("float32", "tensorfloat32"),
    "bfloat16": ("bfloat16", "bfloat16"),
}


def device() -> str:
    """What JAX computes on by default, in words."""
    import jax

    return f"{jax.devices()[0].device_kind} ({jax.default_backend()})"


PRODUCTS = 10  # of a step


def product(side: int, precision: str) -> Callable[[int], None]:
    """run(n): n steps of PRODUCTS dependent products of two random matrices, finished when it returns."""
    import jax
    import jax.numpy as jnp

    dtype, products = PRECISIONS[precision]
    a, b = jax.random.normal(jax.random.key(0), (2, side, side), jnp.float32).astype(dtype)

    def chain(a, b):
        return jax.lax.fori_loop(0, PRODUCTS, lambda _, a: (a @ b) * side**-0.5, a)

    with jax.default_matmul_precision(products):
        program = jax.jit(chain).lower(a, b).compile()

    def run(steps: int) -> None:
        for _ in range(steps):
            out = program(a, b)
        jax.block_until_ready(out)

    return run


def flop(side: int) -> int:
    """Of a step of `product`."""
    return PRODUCTS * 2 * side**3


def fastest(run: Callable[[], object], turns: int) -> float:
    """Seconds of the fastest of some calls, after one that warms up."""
    run()
    found = []
    for _ in range(turns):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return min(found)


def run(options: Options) -> list[Table]:
    """A row for each precision."""
    side = QUICK_SIDE if options.quick else SIDE
    rows = [
        {"precision": name, "TFLOP/s": flop(side) / fastest(each, 5) / 1e12, "side": side}
        for name in PRECISIONS
        for each in [functools.partial(product(side, name), 1)]
    ]
    note = f"{device()}. Best of five turns of ten dependent products of random matrices."
    return [Table("Matrix products", rows, [note])]
