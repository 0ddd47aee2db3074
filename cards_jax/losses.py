"""Losses of one batch, in float32."""

import jax
import jax.numpy as jnp
from jax import Array


def cross_entropy(logits_BK: Array, labels_B: Array, smoothing: float = 0.0) -> Array:
    """Cross-entropy of each image, (B,); `smoothing` spreads that much probability evenly over all classes."""
    log_p = jax.nn.log_softmax(logits_BK.astype(jnp.float32))
    of_label = jnp.take_along_axis(log_p, labels_B[:, None], axis=1)[:, 0]
    return -(1 - smoothing) * of_label - smoothing * jnp.mean(log_p, axis=1)


def jensen_shannon(logits_VBK: Array) -> Array:
    """How much the predictions of an image's views differ, (B,): the mean divergence KL(view || mean of the views)."""
    log_p = jax.nn.log_softmax(logits_VBK.astype(jnp.float32))
    p = jnp.exp(log_p)
    log_mean = jnp.log(jnp.clip(jnp.mean(p, axis=0, keepdims=True), 1e-7, 1))
    return jnp.mean(jnp.sum(p * (log_p - log_mean), axis=-1), axis=0)


def of_views(
    logits_VBK: Array, labels_B: Array, consistency: Array | float, smoothing: float = 0.0
) -> Array:
    """Cross-entropy of the first view, and `consistency` times the Jensen-Shannon divergence of all, (B,)."""
    loss = cross_entropy(logits_VBK[0], labels_B, smoothing)
    return loss if len(logits_VBK) == 1 else loss + consistency * jensen_shannon(logits_VBK)
