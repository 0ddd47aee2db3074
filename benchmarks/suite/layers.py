"""Every convolution of the networks alone: forward and both gradients, in every formulation and in PyTorch."""

import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.suite import Options, Table, measured

PIECES = ("forward", "input gradient", "kernel gradient")
FORMULATIONS = ("native", "canonical", "winograd", "patches")


class Shape(NamedTuple):
    """A convolution: side of the square input, channels in and out, of the kernel, stride."""

    batch: int
    side: int
    inputs: int
    outputs: int
    size: int = 3
    stride: int = 1

    @property
    def name(self) -> str:
        stride = f" / {self.stride}" if self.stride > 1 else ""
        return f"{self.size}x{self.size}{stride}, {self.inputs} to {self.outputs} at {self.side}"

    @property
    def flop(self) -> int:
        """Of a direct sum, also of a gradient."""
        places = self.batch * (self.side // self.stride) ** 2
        return 2 * places * self.size**2 * self.inputs * self.outputs


def _stages(batch: int, width: int, stages: int) -> list[Shape]:
    found = [Shape(batch, 32, 3, width), Shape(batch, 32, width, width)]
    for stage in range(1, stages):
        side, inputs = 32 >> stage, width << (stage - 1)
        found += [
            Shape(batch, 2 * side, inputs, 2 * inputs, 3, 2),
            Shape(batch, 2 * side, inputs, 2 * inputs, 1, 2),
            Shape(batch, side, 2 * inputs, 2 * inputs),
        ]
    return found


NETWORKS = {
    "conv4": [
        Shape(64, 32, 3, 64),
        Shape(64, 32, 64, 64),
        Shape(64, 16, 64, 128),
        Shape(64, 16, 128, 128),
    ],
    "resnet20": _stages(128, 16, 3),
    "resnet18": _stages(32, 64, 4),
}


def _rates(shape: Shape, run: Callable[[int], None], seconds: float) -> float:
    """GFLOP/s: median of five turns, of what takes longer than all of them together of one."""
    run(1)
    began = time.perf_counter()
    run(1)
    spent = time.perf_counter() - began
    if spent > seconds:
        return shape.flop / spent / 1e9
    count = max(1, round(seconds / 5 / spent))
    turns = []
    for _ in range(5):
        began = time.perf_counter()
        run(count)
        turns.append((time.perf_counter() - began) / count)
    return shape.flop / statistics.median(turns) / 1e9


def _stay_on_one_core() -> None:
    """Because in training each core works on networks of its own; libraries that start later use one thread."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def ours(
    shape: Shape, seconds: float, formulations: tuple[str, ...] = FORMULATIONS
) -> dict[tuple[str, str], float]:
    """{(formulation, piece): GFLOP/s} on one core, in a loop as in a step."""
    _stay_on_one_core()
    import jax

    jax.config.update("jax_platforms", "cpu")
    from jax import lax

    from cards_jax.models.convolution import convolve

    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (shape.batch, shape.side, shape.side, shape.inputs))
    kernel = jax.random.normal(keys[1], (shape.size, shape.size, shape.inputs, shape.outputs))
    out = shape.side // shape.stride
    g = jax.random.normal(keys[2], (shape.batch, out, out, shape.outputs))
    found = {}
    for formulation in formulations:
        conv = lambda x, kernel, f=formulation: convolve(x, kernel, shape.stride, f)
        pieces = (
            conv,
            lambda g, kernel, conv=conv: jax.vjp(lambda x: conv(x, kernel), x)[1](g)[0],
            lambda x, g, conv=conv: jax.vjp(lambda kernel: conv(x, kernel), kernel)[1](g)[0],
        )
        for piece, f, pair in zip(PIECES, pieces, ((x, kernel), (g, kernel), (x, g)), strict=True):

            def many(count, a, b, f=f):
                def body(_, a):
                    first = lax.optimization_barrier(f(a, b))[0, 0, 0, 0]
                    return a.at[0, 0, 0, 0].add(1e-9 * first)  # else XLA would do it once

                return lax.fori_loop(0, count, body, a)

            program = jax.jit(many).lower(1, *pair).compile()
            run = lambda n, p=program, pair=pair: jax.block_until_ready(p(n, *pair))
            found[formulation, piece] = _rates(shape, run, seconds)
    return found


def theirs(shape: Shape, seconds: float) -> dict[tuple[str, str], float]:
    """The same of PyTorch, channels last."""
    _stay_on_one_core()
    import torch

    torch.set_num_threads(1)
    last = {"memory_format": torch.channels_last}
    pad, out = shape.size // 2, shape.side // shape.stride
    x = torch.randn(shape.batch, shape.inputs, shape.side, shape.side).contiguous(**last)
    w = torch.randn(shape.outputs, shape.inputs, shape.size, shape.size).contiguous(**last)
    g = torch.randn(shape.batch, shape.outputs, out, out).contiguous(**last)

    def backward(*wanted: bool):
        how = ([shape.stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, [*wanted, False])
        return torch.ops.aten.convolution_backward(g, x, w, None, *how)

    pieces = (
        lambda: torch.nn.functional.conv2d(x, w, stride=shape.stride, padding=pad),
        lambda: backward(True, False),
        lambda: backward(False, True),
    )
    found = {}
    for piece, f in zip(PIECES, pieces, strict=True):
        run = lambda n, f=f: [f() for _ in range(n)]
        found["torch", piece] = _rates(shape, run, seconds)
    return found


def run(options: Options) -> list[Table]:
    """A table for each network: a row for each convolution and piece."""
    networks = {"resnet20": NETWORKS["resnet20"][1:2]} if options.quick else NETWORKS
    return [_table(network, shapes, options) for network, shapes in networks.items()]


def _table(network: str, shapes: list[Shape], options: Options) -> Table:
    from cards_jax.models.convolution import default_formulation

    rows, notes = [], []
    seconds = 0.1 if options.quick else 0.2
    formulations = (default_formulation(),) if options.quick else FORMULATIONS
    for shape in shapes:
        found = {}
        for task, more in ((ours, {"formulations": formulations}), (theirs, {})):
            what = f"{network}, {shape.name}, {task.__name__}"
            rates, reason = measured(options, what, task, shape=shape, seconds=seconds, **more)
            notes += [reason] * bool(reason)
            found |= rates or {}
        for piece in PIECES:
            mine, its = found.get((default_formulation(), piece)), found.get(("torch", piece))
            rows.append(
                {
                    "convolution": shape.name,
                    "piece": piece,
                    **{f: found.get((f, piece)) for f in (*formulations, "torch")},
                    "default / torch": mine / its if mine and its else None,
                }
            )
    note = (
        "GFLOP/s of one core, counted as of a direct sum; medians of five turns. Ours inside a loop as in a step; "
        f"torch channels-last. The default here is {default_formulation()}, which falls back to canonical where it "
        "does not pay."
    )
    return Table(f"Convolutions of {network}, batch {shapes[0].batch}", rows, [note, *notes])
