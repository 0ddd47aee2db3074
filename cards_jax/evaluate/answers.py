"""What a card answers to every image: class, confidence and loss, from which all accuracies follow."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from cards_jax.losses import cross_entropy


def measure(
    predict: Callable[[Array], Array], images: Array, labels: Array, batch_size: int
) -> dict[str, Array]:
    """`predicted` int32, `confidence` and `loss` float32, each (M,), of uint8 images (M, H, W, C).

    predicted: -1 where the logits are not finite, which is wrong about every image.

    Which corruption and severity an image has is not known here: one program serves them all. batch_size divides M.
    """
    batches = lambda x: x.reshape(-1, batch_size, *x.shape[1:])

    def answer(batch: tuple[Array, Array]) -> dict[str, Array]:
        logits = predict(batch[0])
        return {
            "predicted": jnp.where(
                jnp.isfinite(jnp.max(logits, -1)), jnp.argmax(logits, -1).astype(jnp.int32), -1
            ),
            "confidence": jnp.max(jax.nn.softmax(logits), -1),
            "loss": cross_entropy(logits, batch[1]),
        }

    found = lax.map(answer, (batches(images), batches(labels)))
    return jax.tree.map(lambda x: x.reshape(-1), found)
