"""A batching rule that calls a function once per realization, where XLA's batched form is slower than a loop."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_batching import custom_vmap


def unroll(piece: Callable[[Array, Array], Array], images_first: bool = False) -> Callable:
    """`piece(a, b)`, which under vmap is called once per element of the new axis.

    The rule calls the wrapped function, so that nested vmaps (views or bases inside realizations) unroll as well. Where
    only `a` is batched and `images_first` says that its leading axis holds independent images, the new axis joins them.
    """
    wrapped = custom_vmap(piece)

    @wrapped.def_vmap
    def rule(size, batched, a, b):
        if images_first and not batched[1]:
            merged = wrapped(a.reshape(-1, *a.shape[2:]), b)
            return merged.reshape(size, -1, *merged.shape[1:]), True
        parts = [wrapped(a[i] if batched[0] else a, b[i] if batched[1] else b) for i in range(size)]
        return jax.tree.map(lambda *xs: jnp.stack(xs), *parts), True

    return wrapped
