"""The compiled programs of a deck: which card sees which image on which device, and what their answers sum to."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from cards_jax import gate, models, pack
from cards_jax.gate import Choice
from cards_jax.tree import Tree

# Images that pass through the cards together, over all devices: on a CPU as many as its caches like.
PIECE = pack.PIECE
IMAGES = "images"  # the mesh's axis


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the program of a deck depends on, beside arrays: the key of its compilation.

    parts: (group, network) of every stack of cards. cards_A: cards of every group.
    """

    parts: tuple[tuple[int, models.Spec], ...]
    cards_A: tuple[int, ...]
    settings: gate.Settings | None
    batch: int
    piece: int
    devices: int


def piece() -> int:
    """PIECE of this backend."""
    return PIECE.get(jax.default_backend(), PIECE["other"])


@functools.lru_cache(maxsize=64)
def program(plan: Plan, mode: str, mesh: Mesh):
    """(stacks, references, images, count) -> (probabilities, choice), images split over the devices."""
    f = functools.partial(_predict, plan, mode)
    return jax.jit(
        jax.shard_map(f, mesh=mesh, in_specs=(P(), P(), P(), P()), out_specs=P(), check_vma=False)
    )


def _predict(plan: Plan, mode: str, stacks, references_APF, images_NHWC, count):
    """One device's part. Choices need all features, the mean over cards all probabilities: once each, they meet."""
    N, batches = len(images_NHWC), len(images_NHWC) // plan.batch
    A = len(plan.cards_A)
    even = jnp.full((batches, A), 1 / sum(plan.cards_A))
    choice = Choice(even, jnp.zeros((batches, A)), jnp.ones(batches, bool))
    if mode != "agnostic":
        features_NF = _features(plan, images_NHWC)
        known = plan.settings.temperature
        choice = gate.choose_all(
            features_NF, count, plan.batch, references_APF, plan.cards_A, known
        )
    if mode == "gate":
        return jnp.zeros((N, 0)), choice
    weights_NA = jnp.repeat(choice.weights, plan.batch, axis=0)
    real_N = jnp.arange(N) < count
    total_NK = jnp.zeros((N, plan.parts[0][1].num_classes))
    for group in range(A):
        mine = [
            (spec, stack) for (g, spec), stack in zip(plan.parts, stacks, strict=True) if g == group
        ]
        if mine:
            weights_N = jnp.where(real_N, weights_NA[:, group], 0)
            total_NK += _of_group(plan, mine, images_NHWC, weights_N)
    return lax.psum(total_NK, IMAGES), choice


def _features(plan: Plan, images_NHWC: Array) -> Array:
    """(N, F): every device computes its share, or where they are few all of them, which is faster than to meet."""
    spectrum, share = plan.settings.spectrum, len(images_NHWC) // plan.devices
    if len(images_NHWC) <= gate.PIECE:
        return jax.vmap(spectrum)(images_NHWC)
    mine = lax.dynamic_slice_in_dim(images_NHWC, lax.axis_index(IMAGES) * share, share)
    features = lax.map(spectrum, mine, batch_size=min(share, gate.PIECE))
    return lax.all_gather(features, IMAGES, tiled=True)


def _of_group(plan: Plan, parts, images_NHWC: Array, weights_N: Array) -> Array:
    """Weighted sum of the probabilities of a group's cards, (N, K), for this device's share of its images.

    Images with a weight are gathered in pieces; the loop ends with them, and no card sees an image that is not its own.
    """
    rows_N = jnp.argsort(weights_N == 0, stable=True)
    wanted = jnp.sum(weights_N > 0)
    share = plan.piece // plan.devices
    rows_N = jnp.concatenate([rows_N, jnp.zeros(plan.piece, rows_N.dtype)])

    def body(i, total_NK):
        first = i * plan.piece + lax.axis_index(IMAGES) * share
        rows = lax.dynamic_slice(rows_N, (first,), (share,))
        mine = jnp.where(first + jnp.arange(share) < wanted, weights_N[rows], 0)[:, None]
        some = images_NHWC[rows]
        found = sum(sum_of_cards(spec, stack, some) for spec, stack in parts)
        # Not a product with 0, which would spread what is not finite.
        return total_NK.at[rows].add(jnp.where(mine > 0, mine * found, 0))

    none = jnp.zeros((len(images_NHWC), parts[0][0].num_classes))
    return lax.fori_loop(0, -(-wanted // plan.piece), body, none)


def sum_of_cards(spec: models.Spec, stack: Tree, images_BHWC: Array, native: bool = False):
    """Sum of the probabilities of stacked cards, (B, K)."""
    return jnp.sum(_of_cards(spec, stack, images_BHWC, False, native), axis=0)


def _of_cards(
    spec: models.Spec, stack: Tree, images_BHWC: Array, train: bool = False, native: bool = False
) -> Array:
    """Probabilities of stacked cards, (R, B, K): on a CPU one card after another, in one loop."""
    apply = models.build(spec, "native" if native else None).apply
    one = lambda card: jax.nn.softmax(apply(*card, images_BHWC, train)[0])
    loop = native or jax.default_backend() == "cpu"
    return lax.map(one, stack) if loop else jax.vmap(one)(stack)


@functools.lru_cache(maxsize=16)
def each(specs: tuple[models.Spec, ...], train: bool, mesh: Mesh):
    """(stacks, images (pieces, B, H, W, C)) -> for every stack (pieces, R, B, K), pieces split over the devices."""

    def f(stacks, images):
        one = lambda piece: tuple(
            _of_cards(*pair, piece, train) for pair in zip(specs, stacks, strict=True)
        )
        return lax.map(one, images)

    split = P(IMAGES)
    return jax.jit(
        jax.shard_map(f, mesh=mesh, in_specs=(P(), split), out_specs=split, check_vma=False)
    )
