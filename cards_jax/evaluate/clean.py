"""Accuracy and cross-entropy on a test set."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cards_jax.losses import cross_entropy

PAD = -1  # label of rows that only fill the last batch


def padded(images: np.ndarray, labels: np.ndarray, multiple: int) -> tuple[np.ndarray, np.ndarray]:
    """The set filled up to a multiple with black images whose label is PAD."""
    more = -len(images) % multiple
    blank = np.zeros((more, *images.shape[1:]), images.dtype)
    return np.concatenate([images, blank]), np.concatenate(
        [labels, np.full(more, PAD, labels.dtype)]
    )


def measure(
    predict: Callable[[Array], Array],
    images: Array,
    labels: Array,
    batches: Array,
    batch_size: int,
    part: Array | int = 0,
    parts: int = 1,
) -> dict[str, Array]:
    """Sums over images (N, H, W, C): `loss` float32, `correct` and `count` int32.

    batches: int32 (2,), first and last of those that count. Each is `parts` times `batch_size` images, of which this
    device measures the `part`-th.
    """

    def body(i, sums):
        rows = lambda x: lax.dynamic_slice_in_dim(x, (i * parts + part) * batch_size, batch_size)
        logits, wanted = predict(rows(images)), rows(labels)
        real = wanted != PAD
        loss = cross_entropy(logits, jnp.maximum(wanted, 0))
        answered = jnp.isfinite(jnp.max(logits, -1))  # argmax takes nan for class 0
        correct = (jnp.argmax(logits, -1) == wanted) & real & answered
        more = {
            "loss": jnp.sum(jnp.where(real, loss, 0)),
            "correct": jnp.sum(correct, dtype=jnp.int32),
            "count": jnp.sum(real, dtype=jnp.int32),
        }
        return jax.tree.map(jnp.add, sums, more)

    start = {"loss": jnp.float32(0), "correct": jnp.int32(0), "count": jnp.int32(0)}
    return lax.fori_loop(batches[0], batches[1], body, start)
