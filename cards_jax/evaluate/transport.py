"""Distances between sets of images: the cost of moving one onto the other (Wasserstein, with Euclidean cost).

Three numbers, none of them exact. Moving every image onto its own changed self is one way to do it, so its cost bounds
the distance from above. Sinkhorn's algorithm (Cuturi 2013, in logarithms) finds the cheapest way with some blur; taking
off what a set costs from itself (Genevay et al. 2018) removes most of the blur's bias. Between two samples of one
distribution it still is not 0: that number, its null, belongs beside it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import logsumexp

BLUR = 0.02  # of the entropic term, as a part of the mean cost
SWEEPS = 200
COOLING = 0.9  # of the blur from sweep to sweep, from the largest cost on: far faster than one blur throughout


def coupled(x_ND: Array, y_ND: Array) -> Array:
    """Mean distance of row i of one set to row i of the other, (): an upper bound of the distance of the sets."""
    return jnp.mean(jnp.sqrt(jnp.sum(jnp.square(x_ND - y_ND), axis=1)))


def costs(x_ND: Array, y_MD: Array) -> Array:
    """(N, M) Euclidean distances, from differences: the squares of near neighbours would cancel."""
    one = lambda x: jnp.sqrt(jnp.sum(jnp.square(x[None] - y_MD), axis=1))
    return lax.map(one, x_ND)


def sinkhorn(costs_NM: Array, blur: Array | float, sweeps: int = SWEEPS) -> Array:
    """The entropic cost between two sets with equal weights: the dual value, (); blur has the costs' unit."""
    N, M = costs_NM.shape
    a, b = -jnp.log(jnp.float32(N)), -jnp.log(jnp.float32(M))
    first = jnp.max(costs_NM)

    def step(f: Array, g: Array, width: Array) -> tuple[Array, Array]:
        new_f = -width * logsumexp((g[None] - costs_NM) / width + b, axis=1)
        new_g = -width * logsumexp((f[:, None] - costs_NM) / width + a, axis=0)
        return new_f, new_g

    def sweep(i, potentials: tuple[Array, Array]) -> tuple[Array, Array]:
        new = step(*potentials, jnp.maximum(blur, first * COOLING**i))
        # The mean of old and new: on a symmetric cost it converges far faster than taking turns.
        return tuple((old + x) / 2 for old, x in zip(potentials, new, strict=True))

    f, g = lax.fori_loop(0, sweeps, sweep, (jnp.zeros(N), jnp.zeros(M)))
    f = step(f, g, jnp.float32(blur))[0]
    return jnp.mean(f) + jnp.mean(step(f, g, jnp.float32(blur))[1])


@jax.jit
def divergence(x_ND: Array, y_MD: Array, blur: float = BLUR) -> Array:
    """The entropic cost between two sets, less half of what each costs from itself, ()."""
    between = costs(x_ND, y_MD)
    width = blur * jnp.mean(between)
    own = sinkhorn(costs(x_ND, x_ND), width) + sinkhorn(costs(y_MD, y_MD), width)
    return sinkhorn(between, width) - own / 2


def by_class(x_ND: np.ndarray, y_ND: np.ndarray, labels_N: np.ndarray) -> dict[str, float]:
    """Distances of two versions of the same images, class by class; means over the classes, weighted by their images.

    coupled: the upper bound. sinkhorn: from the first half of a class's images in one version to the second half in
    the other, so that no image meets itself; null: the same within one version, the mean of both, which is what two
    samples of one distribution are apart. Halves are those of the smallest class of the set; NaN where it has fewer
    than four images.
    """
    x_ND, y_ND = (jnp.asarray(v, jnp.float32).reshape(len(v), -1) for v in (x_ND, y_ND))
    rows = [np.flatnonzero(labels_N == k) for k in np.unique(labels_N)]
    counts, half = [len(mine) for mine in rows], min(map(len, rows)) // 2
    found = {"coupled": [float(coupled(x_ND[mine], y_ND[mine])) for mine in rows]}
    halves = [(mine[:half], mine[half : 2 * half]) for mine in rows]
    apart = lambda u, v: np.array(
        [float(divergence(u[a], v[b])) if half > 1 else np.nan for a, b in halves]
    )
    found["sinkhorn"] = apart(x_ND, y_ND)
    found["null"] = (apart(x_ND, x_ND) + apart(y_ND, y_ND)) / 2
    return {name: float(np.average(values, weights=counts)) for name, values in found.items()}
