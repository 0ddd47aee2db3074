"""How far an image is from being mistaken: a minimum-norm L2 attack.

Of the kind of Pintor et al. (2021): a ball around the image shrinks while its point fools the network and grows while
it does not, and the point follows the gradient of the margin inside the ball. What it finds is an upper bound of the
distance to the decision boundary, which is what the robustness of a classifier averages: an estimate, no certificate.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

STEPS = 60
BATCH = 50  # images that are attacked together
FIRST, LAST = 0.05, 1e-4  # share by which the ball changes, at the first and at the last step
HALVINGS = 12  # of the way back to the boundary
LEAST = 1e-12

Predict = Callable[[Array], Array]


class _State(NamedTuple):
    """Of B images: where the attack is, the radius of the ball, and the best point so far with its norm."""

    delta: Array
    radius: Array
    best: Array
    norm: Array


def distances(
    predict: Predict, images_NHWC: Array, labels_N: Array, steps: int = STEPS, batch: int = BATCH
) -> Array:
    """L2 norm of the smallest change found that makes each image be mistaken, (N,) float32; pixels stay in [0, 1].

    images: floats in [0, 1]; predict gives logits. 0 where an image is mistaken as it is, infinite where nothing was
    found.
    """
    N = len(images_NHWC)
    batch = min(batch, N)
    rest = -N % batch
    filled = jnp.concatenate([images_NHWC, images_NHWC[:1].repeat(rest, 0)])
    labels = jnp.concatenate([labels_N, labels_N[:1].repeat(rest, 0)])
    pieces = filled.reshape(-1, batch, *filled.shape[1:]), labels.reshape(-1, batch)
    return lax.map(lambda x: _of_batch(predict, *x, steps), pieces).reshape(-1)[:N]


def margins(logits_BK: Array, labels_B: Array) -> Array:
    """The label's logit minus the largest other one, (B,): negative where an image is mistaken."""
    mine = jax.nn.one_hot(labels_B, logits_BK.shape[-1], dtype=bool)
    others = jnp.max(jnp.where(mine, -jnp.inf, logits_BK), axis=-1)
    return jnp.sum(jnp.where(mine, logits_BK, 0), axis=-1) - others


def _of_batch(predict: Predict, images: Array, labels: Array, steps: int) -> Array:
    def total(delta: Array) -> tuple[Array, Array]:
        found = margins(predict(images + delta), labels)
        return jnp.sum(found), found

    slope = jax.value_and_grad(total, has_aux=True)

    def body(i, state: _State) -> _State:
        (_, margin), gradient = slope(state.delta)
        size, norm = _norm(gradient), _norm(state.delta)
        fooled = margin < 0
        better = fooled & (norm < state.norm)
        best = jnp.where(_wide(better), state.delta, state.best)
        smallest = jnp.where(better, norm, state.norm)
        share = LAST + (FIRST - LAST) * (1 + jnp.cos(jnp.pi * i / steps)) / 2
        # Until a first success, the ball reaches a little farther than where the margin falls to 0 on a straight line.
        straight = (norm + margin / jnp.maximum(size, LEAST)) * (1 + FIRST)
        grown = jnp.where(jnp.isinf(smallest), straight, state.radius * (1 + share))
        shrunk = jnp.minimum(state.radius, smallest) * (1 - share)
        radius = jnp.where(fooled, shrunk, grown)
        # A step as long as the ball is wide, shorter with time; the ball and the box then cut it.
        step = (LAST + (1 - LAST) * (1 + jnp.cos(jnp.pi * i / steps)) / 2) * radius
        moved = state.delta - _wide(step / jnp.maximum(size, LEAST)) * gradient
        cut = jnp.minimum(1, radius / jnp.maximum(_norm(moved), LEAST))
        delta = jnp.clip(images + _wide(cut) * moved, 0, 1) - images
        return _State(delta, radius, best, smallest)

    none = jnp.zeros_like(images)
    start = _State(none, jnp.zeros(len(images)), none, jnp.full(len(images), jnp.inf))
    found = lax.fori_loop(0, steps, body, start)
    mistaken = margins(predict(images), labels) < 0
    return jnp.where(mistaken, 0, _back(total, found))


def _back(total: Callable, found: _State) -> Array:
    """The norm of the last point that fools on the line back to the image, found by halving."""

    def body(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        fooled = total(_wide(middle) * found.best)[1] < 0
        return jnp.where(fooled, low, middle), jnp.where(fooled, middle, high)

    ones = jnp.ones_like(found.norm)
    high = lax.fori_loop(0, HALVINGS, body, (0 * ones, ones))[1]
    return jnp.where(jnp.isinf(found.norm), jnp.inf, high * found.norm)


def _norm(x_BHWC: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(x_BHWC), axis=(1, 2, 3)))


def _wide(x_B: Array) -> Array:
    return x_B[:, None, None, None]
