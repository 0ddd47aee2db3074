"""The device's own matrix product, in each precision: what shares of the peak are measured against."""

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


def flops(side: int, precision: str, turns: int = 5) -> float:
    """Operations per second of products of two random matrices: the best turn of ten products each."""
    import jax
    import jax.numpy as jnp

    dtype, products = PRECISIONS[precision]
    a, b = jax.random.normal(jax.random.key(0), (2, side, side), jnp.float32).astype(dtype)

    def chain(a, b):
        return jax.lax.fori_loop(0, 10, lambda _, a: (a @ b) * side**-0.5, a)

    with jax.default_matmul_precision(products):
        program = jax.jit(chain).lower(a, b).compile()
    return 10 * 2 * side**3 / fastest(lambda: jax.block_until_ready(program(a, b)), turns)


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
        {"precision": name, "TFLOP/s": flops(side, name) / 1e12, "side": side}
        for name in PRECISIONS
    ]
    note = f"{device()}. Best of five turns of ten dependent products of random matrices."
    return [Table("Matrix products", rows, [note])]
