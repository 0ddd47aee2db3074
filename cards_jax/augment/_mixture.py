"""Mixtures of random chains of operations (Hendrycks et al. 2020): what AugMix and PRIME share."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap

from cards_jax.tree import Tree

DEEPEST = 3  # steps of a chain of random depth


def chains(key: Array, image_HWC: Array, draws: Tree, step: Callable, depth: int) -> Array:
    """The image after each chain, (width, H, W, C), in the image's dtype.

    Args:
      draws: the random numbers of every step, arrays (width, steps, ...).
      step: step(image_HWC, draw) -> image_HWC, which must not close over traced values.
      depth: steps of every chain; 0 draws 1 to 3.
    """

    def chain(image, depth, draws):
        body = lambda i, x: step(x, jax.tree.map(lambda d: d[i], draws))
        return lax.fori_loop(0, depth, body, image)

    # A vmapped step computes every operation and selects one. In a loop over images a branch is a branch, which is
    # faster on a CPU, and a chain ends where it ends.
    if jax.default_backend() == "cpu":
        chain = sequential_vmap(chain)
    width = jax.tree.leaves(draws)[0].shape[0]
    depths = jax.random.randint(key, (width,), 1, DEEPEST + 1) if depth == 0 else [depth] * width
    return jax.vmap(chain, (None, 0, 0))(image_HWC, jnp.asarray(depths), draws)


def steps(depth: int) -> int:
    """How many steps of a chain have to be drawn."""
    return depth or DEEPEST


def mixed(key: Array, image_HWC: Array, chains_WHWC: Array, alpha: Array | float) -> Array:
    """(1 - m) image + m sum_i w_i chain_i, with w ~ Dirichlet(alpha, ..., alpha) and m ~ Beta(alpha, alpha)."""
    # Gamma variates, normalised, are such weights; one call, as each takes seconds to compile.
    log_gammas = jax.random.loggamma(key, alpha, (len(chains_WHWC) + 2,))
    weights = jax.nn.softmax(log_gammas[2:])
    share = jax.nn.sigmoid(log_gammas[0] - log_gammas[1])
    # A sum of so few is faster than a dot on a CPU. Rounding may leave [0, 1].
    chains = sum(weight * chain for weight, chain in zip(weights, chains_WHWC, strict=True))
    return jnp.clip((1 - share) * image_HWC + share * chains, 0, 1)


def views(key: Array, image_HWC: Array, mixture: Callable, consistency: float) -> Array:
    """The image and two mixtures of it, (3, H, W, C); without consistency one mixture, (1, H, W, C)."""
    if not consistency:
        return mixture(key, image_HWC)[None]
    mixtures = jax.vmap(mixture, (0, None))(jax.random.split(key), image_HWC)
    return jnp.concatenate([image_HWC[None], mixtures])
