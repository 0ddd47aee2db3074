"""Losses of one batch, in float32."""

import jax
import jax.numpy as jnp
from jax import Array


def cross_entropy(logits_BK: Array, labels_B: Array, smoothing: float = 0.0) -> Array:
    """Cross-entropy of each image, (B,); `smoothing` spreads that much probability evenly over all classes."""
    log_p = jax.nn.log_softmax(logits_BK.astype(jnp.float32))
    of_label = jnp.take_along_axis(log_p, labels_B[:, None], axis=1)[:, 0]
    return -(1 - smoothing) * of_label - smoothing * jnp.mean(log_p, axis=1)
