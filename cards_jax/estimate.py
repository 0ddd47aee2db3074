"""What a run will need, without running it: parameters, memory, steps, arithmetic."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cards_jax import memory, methods, pruning, realizations, train, tree
from cards_jax.data import Data
from cards_jax.phase import Phase
from cards_jax.train import Recipe

HEADROOM = 0.6  # share of the free memory that a group may plan with: the estimate is rough


@dataclasses.dataclass(frozen=True)
class Need:
    """Rough memory of training, in bytes.

    state: of every realization of a group, and twice in a loop, which cannot write its results where it reads.
    work: of every realization that is computed at once: gradients, effective weights, saved activations.
    """

    state: int
    work: int

    def of(self, count: int, loop: bool) -> int:
        """What so many realizations of one device take, one after another in a loop or side by side."""
        return count * 2 * self.state + self.work if loop else count * (self.state + self.work)

    def fit(self, memory: float, loop: bool) -> int:
        """How many realizations so many bytes hold on one device; 1 where not even that is sure."""
        if loop:
            return max(1, int((memory - self.work) / (2 * self.state)))
        return max(1, int(memory / (self.state + self.work)))


def state_shapes(c: ConfigDict, recipe: Recipe) -> train.TrainState:
    """What a checkpoint holds of one realization, as shapes."""
    whole = dataclasses.replace(recipe, batch_axis=None)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    scalars = train.Scalars(jax.ShapeDtypeStruct((), jnp.uint32), scalar, scalar, scalar)
    method = methods.method(c.method)
    saves = method.saves(c) if hasattr(method, "saves") else ()
    # What a method is given are masks at most: as large as those that pruning starts with.
    init = getattr(pruning if hasattr(method, "given") else method, "init", None)
    init = init and partial(init, c)
    return jax.eval_shape(lambda s: train.deal(s, {}, (), whole, init, saves), scalars)


def need_of(c: ConfigDict, recipe: Recipe, phase: Phase) -> Need:
    """The memory that one realization of a phase needs, by shapes alone.

    Activations are what reverse-mode differentiation keeps of one batch.
    """
    whole = dataclasses.replace(recipe, batch_axis=None)
    state = state_shapes(c, recipe)
    shapes = [x.shape for x in jax.tree.leaves(tree.only_prunable(state.card.params))]
    row = phase.keep(shapes, 0.0)[0]
    keep = jax.ShapeDtypeStruct(row.shape, row.dtype)
    part = recipe.batch_size // recipe.split
    images = jax.ShapeDtypeStruct((views(recipe) * part, *recipe.spec.image_HWC), jnp.float32)
    labels = jax.ShapeDtypeStruct((part,), jnp.int32)

    def backward(card, keep, images, labels):
        loss = lambda p: train.batch_loss(p, card, keep, phase.rules, whole, images, labels)[0]
        return jax.vjp(loss, card.params)[1]

    saved = tree.nbytes(jax.eval_shape(backward, state.card, keep, images, labels))
    params = tree.nbytes(state.card.params)
    return Need(tree.nbytes(state), 3 * params + int(1.5 * saved))


def realization_bytes(c: ConfigDict, recipe: Recipe, phase: Phase) -> int:
    """Rough memory of one realization in training, alone or side by side with others."""
    return need_of(c, recipe, phase).of(1, loop=False)


def views(recipe: Recipe) -> int:
    """How many images the augmentation makes of one."""
    image = jax.ShapeDtypeStruct(recipe.spec.image_HWC, jnp.float32)
    return jax.eval_shape(recipe.views, jax.random.key(0), image).shape[0]


def free_bytes() -> int:
    """Free memory of one device, or a CPU device's share of this machine's. All processes have to call it."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return memory.free() // (jax.local_device_count() * realizations.processes_here())


def group_size(need: Need, count: int, rows: int, loop: bool) -> int:
    """How many of `count` realizations fit at once on `rows` devices: all, or a multiple of rows."""
    return min(count, rows * need.fit(HEADROOM * free_bytes(), loop))


def step_flops(recipe: Recipe) -> float:
    """Multiply-adds times six of one training step of one realization (forward and both gradients), all views."""
    return 6.0 * views(recipe) * recipe.batch_size * multiply_adds(recipe)


def multiply_adds(recipe: Recipe) -> int:
    """Multiply-adds of one image's forward pass: those of its convolutions and matrix products."""
    model = dataclasses.replace(recipe, batch_axis=None, convolution="native").model
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, *recipe.spec.image_HWC), jnp.float32)
    jaxpr = jax.make_jaxpr(lambda p, s, x: model.apply(p, s, x, False)[0])(params, stats, image)
    return sum(_multiply_adds(e) for e in _equations(jaxpr.jaxpr))


def _equations(jaxpr: Any):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", None)
            if inner is not None:
                yield from _equations(inner)


def _multiply_adds(equation: Any) -> int:
    out = int(np.prod(equation.outvars[0].aval.shape))
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape  # HWIO
        return out * int(np.prod(kernel[:3]))
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return out * int(np.prod([equation.invars[0].aval.shape[i] for i in contracted]))
    return 0


def describe(
    c: ConfigDict, data: Data, recipe: Recipe, phases: list[Phase], trained: list[int], count: int
) -> str:
    """The lines of `--dry_run` about size, memory and time."""
    params, _ = jax.eval_shape(recipe.model.init, jax.random.key(0))
    prunable = tree.only_prunable(params)
    steps = sum(p.steps for p in phases)
    each = sum(p.steps * n for p, n in zip(phases, trained, strict=True))
    need = need_of(c, recipe, phases[0])
    flops = step_flops(recipe)
    images = data.train_images.nbytes + data.test_images.nbytes
    lines = [
        f"realizations        {count} cards, {max(trained)} trained side by side",
        f"parameters          {tree.size(params):,} each, {tree.size(prunable):,} of them prunable",
        f"training images     {len(data.train_images):,}, test {len(data.test_images):,}, "
        f"holdout {len(data.holdout_images):,}",
        f"steps               {steps:,} of {recipe.batch_size} images in {len(phases)} phase(s), each realization",
        f"multiply-adds       {multiply_adds(recipe):,} for one image's forward pass",
        f"arithmetic          {flops * each:.3g} floating-point operations in all",
        f"memory              about {need.state / 1e6:,.0f} MB for each realization of a group, "
        f"{need.work / 1e6:,.0f} MB for each that is computed at once, {images / 1e6:,.0f} MB of images per device",
    ]
    return "\n".join(lines)
