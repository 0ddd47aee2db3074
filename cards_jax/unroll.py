"""A batching rule that calls a function once per realization, where XLA's batched form is slower than a loop."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap


def unroll(piece: Callable, images_first: bool = False, loop: bool = False) -> Callable:
    """`piece(a, b)` of two trees, which under vmap is called once per element of the new axis.

    With `loop` it is compiled once and runs in a loop, for pieces of much code and little data.

    The rule calls the wrapped function, so that nested vmaps (views or bases inside realizations) unroll as well. Where
    only `a` is batched and `images_first` says that its leading axis holds independent images, the new axis joins them.
    """
    wrapped = custom_vmap(piece)

    @wrapped.def_vmap
    def rule(size, batched, a, b):
        if images_first and not batched[1]:
            merged = wrapped(a.reshape(-1, *a.shape[2:]), b)
            return merged.reshape(size, -1, *merged.shape[1:]), True

        def pick(i):
            take = lambda x, is_batched: x[i] if is_batched else x
            return jax.tree.map(take, (a, b), tuple(batched))

        if loop:
            stacked = lax.map(lambda i: wrapped(*pick(i)), jnp.arange(size))
            return stacked, jax.tree.map(lambda _: True, stacked)
        parts = [wrapped(*pick(i)) for i in range(size)]
        stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *parts)
        return stacked, jax.tree.map(lambda _: True, stacked)

    return wrapped
