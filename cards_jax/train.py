"""Training one realization: deal a card, enter a phase, step, a chunk of steps, evaluate, finish.

No function here knows how many realizations there are; `realizations.Layout.map` maps them.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from cards_jax import augment, losses, models
from cards_jax.card import Card
from cards_jax.card import weights as card_weights
from cards_jax.evaluate import clean
from cards_jax.losses import cross_entropy
from cards_jax.models import Spec, layers
from cards_jax.phase import Entry, Rules, Saved, Start
from cards_jax.tree import Tree, flatten, map_leaves, only_prunable

INIT, METHOD, ORDER, AUGMENT, ENTER, UPDATE = range(6)  # streams of keys of one realization


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What all realizations of a program share; hashable, part of the key of compilation."""

    spec: Spec
    batch_size: int
    views: Callable = augment.views("standard")
    smoothing: float = 0.0
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    dtype: str = "float32"
    convolution: str | None = None
    batch_axis: str | None = None
    split: int = 1

    @property
    def model(self) -> models.Model:
        return models.build(self.spec, self.convolution, self.dtype, self.batch_axis)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scalars:
    """The point of one realization, on the device."""

    seed: Array  # uint32
    learning_rate: Array  # float32, as all below
    weight_decay: Array
    density: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sums:
    """Training metrics since the last row, as sums over steps, so that chunks of any length give the same."""

    loss: Array  # sum of batch means
    correct: Array
    steps: Array
    images: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a step changes; saved whole.

    saved: cards that a later phase returns to, such as the one that rewinding goes back to.
    diverged_at: step of the phase at which the loss or a gradient was not finite, -1 while all is well.
    """

    card: Card
    saved: Saved
    optimizer: Tree
    sums: Sums
    diverged_at: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Clock:
    """Traced values that all realizations of a phase share; tables may be padded at their end.

    phase: number of the phase; updates_U: steps at which the next row of `keep` holds; rate_T: learning-rate factors.
    """

    phase: Array
    updates_U: Array
    rate_T: Array


def stream(seed: Array, *path: int | Array) -> Array:
    """Key of one purpose of one realization; never depends on how many realizations there are."""
    key = jax.random.key(seed)
    for part in path:
        key = jax.random.fold_in(key, part)
    return key


def optimizer(recipe: Recipe, weight_decay: Array | float = 0.0) -> optax.GradientTransformation:
    """SGD or Adam as in PyTorch, without the learning rate: decay joins the gradient before the momentum."""
    moments = {
        "sgd": lambda: optax.trace(recipe.momentum, recipe.nesterov),
        "adam": lambda: optax.scale_by_adam(recipe.momentum, nesterov=recipe.nesterov),
    }
    return optax.chain(optax.add_decayed_weights(weight_decay), moments[recipe.optimizer]())


def keep_at(step: Array, clock: Clock, keep_U: Array) -> Array:
    """The count of kept weights that holds at a step: () or (L,) int32."""
    return keep_U[jnp.maximum(jnp.sum(clock.updates_U <= step) - 1, 0)]


def deal(
    scalars: Scalars,
    given: Tree,
    weights: tuple[Tree, Tree] | tuple[()],
    recipe: Recipe,
    init=None,
    saves: tuple[str, ...] = (),
) -> TrainState:
    """A fresh card, which also stands in for the cards that phases will save.

    `init(card, start)` is the method's own beginning, if it has one; `given` is what the method brings along for this
    realization, such as a mask that another run found. weights: (params, stats) to begin with, () for random ones.
    """
    params, stats = weights or recipe.model.init(stream(scalars.seed, INIT))
    nothing = map_leaves(lambda _: None, params)
    card = Card(params, nothing, nothing, stats)
    if init is not None:
        key = stream(scalars.seed, METHOD)
        card = init(card, Start(key, scalars.density, given, recipe.model.init))
    zero = jnp.int32(0)
    sums = Sums(jnp.float32(0), zero, zero, zero)
    # Copies: a buffer that stands in a state twice cannot be donated.
    saved = {name: jax.tree.map(jnp.copy, card) for name in saves}
    return TrainState(card, saved, optimizer(recipe).init(card.params), sums, jnp.int32(-1))


def enter(state, scalars: Scalars, keep_U, clock: Clock, images, labels, recipe, rules: Rules):
    """Begin a phase: its rules may prune, rewind or set a card aside; the momentum starts at zero unless they say not.

    A realization that has diverged stays as it is, unless the phase departs from a card that was set aside before. What
    it sets aside itself is nan, from which nothing departs.
    """
    key = stream(scalars.seed, ENTER, clock.phase)
    card, alive = state.card, state.diverged_at < 0
    if rules.departs_from:
        card = state.saved[rules.departs_from]
        alive = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(card.params)]).all()
    choose = lambda new, old: jax.tree.map(lambda a, b: jnp.where(alive, a, b), new, old)
    saved = state.saved
    if rules.sets_aside:
        lost = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), card.params)
        kept = card.replace(params=choose(card.params, lost))
        saved = {**saved, rules.sets_aside: kept}
    entry = entry_of(card, keep_U[0], key, images, labels, recipe)
    card = rules.enter(card, saved, entry)
    fresh = optimizer(recipe).init(card.params) if rules.fresh_optimizer else state.optimizer
    sums = jax.tree.map(lambda x: jnp.where(state.diverged_at < 0, x, 0), state.sums)
    entered = TrainState(card, saved, fresh, sums, jnp.full_like(state.diverged_at, -1))
    return dataclasses.replace(choose(entered, state), saved=saved)


def entry_of(card: Card, keep: Array, key: Array, images, labels, recipe: Recipe) -> Entry:
    """What entering a phase and updating a mask may use."""
    gradient = partial(
        mean_gradient, stats=card.stats, key=key, images=images, labels=labels, recipe=recipe
    )
    return Entry(keep, key, gradient)


def mean_gradient(weights, batches: int, stats, key, images, labels, recipe: Recipe) -> Tree:
    """Gradient of the mean loss of `batches` random training batches, not augmented, in the effective weights."""
    whole = dataclasses.replace(recipe, batch_axis=None, split=1)
    order = jax.random.permutation(key, images.shape[0])[: batches * recipe.batch_size]

    def loss(weights, rows):
        logits, _ = whole.model.apply(weights, stats, images[rows], True)
        return jnp.mean(cross_entropy(logits, labels[rows]))

    one = lambda total, rows: (jax.tree.map(jnp.add, total, jax.grad(loss)(weights, rows)), None)
    zero = jax.tree.map(jnp.zeros_like, weights)
    total, _ = lax.scan(one, zero, order.reshape(batches, recipe.batch_size))
    return jax.tree.map(lambda x: x / batches, total)


def augmented(images: Array, keys: Array, recipe: Recipe) -> Array:
    """uint8 images (B, H, W, C) as augmented floats in [0, 1], (V * B, H, W, C), view by view."""
    with jax.named_scope("augmentation"):
        views = jax.vmap(recipe.views)(keys, images / jnp.float32(255))
    return views.swapaxes(0, 1).reshape(-1, *views.shape[2:])


def batch_loss(params: Tree, card: Card, keep: Array, rules: Rules, recipe, images, labels):
    """Mean loss of a batch of floats, view by view, with (new statistics, number of correct predictions)."""
    weights = rules.view(card.replace(params=params), keep)
    logits, stats = recipe.model.apply(weights, card.stats, images, True)
    logits_VBK = logits.reshape(-1, *labels.shape, logits.shape[-1])
    consistency = getattr(recipe.views, "consistency", 0.0)
    loss = jnp.mean(losses.of_views(logits_VBK, labels, consistency, recipe.smoothing))
    correct = jnp.sum(jnp.argmax(logits_VBK[0], -1) == labels, dtype=jnp.int32)
    return loss, (stats, correct)


def step(state: TrainState, rate, weight_decay, keep, at, images, labels, recipe, rules):
    """One step on a batch of floats. A realization whose loss or gradient is not finite changes no more."""
    card = state.card
    grad = jax.value_and_grad(batch_loss, has_aux=True)
    (loss, (stats, correct)), grads = grad(card.params, card, keep, rules, recipe, images, labels)
    if recipe.batch_axis:
        loss, grads = lax.pmean((loss, grads), recipe.batch_axis)
        correct = lax.psum(correct, recipe.batch_axis)
    finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads, squared=True))
    alive = (state.diverged_at < 0) & finite
    change = partial(jax.tree.map, lambda new, old: jnp.where(alive, new, old))
    with jax.named_scope("optimizer"):
        moves, moved = optimizer(recipe, weight_decay).update(grads, state.optimizer, card.params)
        params = jax.tree.map(lambda p, m: p - rate * m, card.params, moves)
        params, moved = change(params, card.params), change(moved, state.optimizer)
    sums = state.sums
    count = labels.size * recipe.split
    more = Sums(sums.loss + loss, sums.correct + correct, sums.steps + 1, sums.images + count)
    died = (state.diverged_at < 0) & ~finite
    return dataclasses.replace(
        state,
        card=card.replace(params=params, stats=change(stats, card.stats)),
        optimizer=moved,
        sums=change(more, sums),
        diverged_at=jnp.where(died, at, state.diverged_at),
    )


def chunk(state, scalars, keep_U, clock: Clock, bounds, images, labels, recipe, rules):
    """Steps bounds[0] to bounds[1] of a phase, all of one epoch; returns (state, report).

    Traced bounds: chunks of any length run in one program, and the arithmetic does not depend on the cuts. bounds[2] is
    1 where the sums start anew. images (N, H, W, C) uint8 and labels (N,) lie on every device; each epoch has its own
    order, and what the last whole batch leaves over is dropped.
    """
    first, last, anew = bounds
    size, part = recipe.batch_size, recipe.batch_size // recipe.split
    epoch = first // (images.shape[0] // size)
    order = jax.random.permutation(stream(scalars.seed, ORDER, clock.phase, epoch), images.shape[0])
    begin = lax.axis_index(recipe.batch_axis) * part if recipe.batch_axis else 0
    key = stream(scalars.seed, AUGMENT, clock.phase)
    state = dataclasses.replace(
        state, sums=jax.tree.map(lambda x: jnp.where(anew, 0, x), state.sums)
    )

    def body(at, state):
        keep = keep_at(at, clock, keep_U)
        if rules.remask is not None:
            due = jnp.any(clock.updates_U == at)
            own = stream(scalars.seed, UPDATE, clock.phase, at)
            entry = entry_of(state.card, keep, own, images, labels, recipe)
            # Not part of the condition, which all realizations have in common.
            alive = partial(jnp.where, state.diverged_at < 0)
            remask = lambda card: jax.tree.map(alive, rules.remask(card, entry), card)
            card = lax.cond(due, remask, lambda card: card, state.card)
            state = dataclasses.replace(state, card=card)
        slot = at % (images.shape[0] // size) * size + begin
        rows = lax.dynamic_slice(order, (slot,), (part,))
        positions = begin + jnp.arange(part)
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, at)))(positions)
        with jax.named_scope("data"):
            batch = images[rows]
        batch = augmented(batch, keys, recipe)
        wanted, rate = labels[rows], scalars.learning_rate * clock.rate_T[at]
        return step(state, rate, scalars.weight_decay, keep, at, batch, wanted, recipe, rules)

    state = lax.fori_loop(first, last, body, state)
    return state, report(state)


def report(state: TrainState) -> dict[str, Array]:
    """The sums since the last row, and where the realization diverged (-1: it did not)."""
    return {**vars(state.sums), "diverged_at": state.diverged_at}


def evaluate(card: Card, images, labels, batches, recipe: Recipe, batch_size: int):
    """The sums of `clean.measure` over batches [first, last) of whole rows, which are split over the batch axis.

    `nonzero` among them is the number of prunable weights that are not zero.
    """
    weights = card_weights(card)

    def predict(images: Array) -> Array:
        return recipe.model.apply(weights, card.stats, images, False)[0]

    axis = recipe.batch_axis
    part = lax.axis_index(axis) if axis else 0
    sums = clean.measure(predict, images, labels, batches, batch_size, part, recipe.split)
    sums = lax.psum(sums, axis) if axis else sums
    return {**sums, "nonzero": nonzero(weights)}


def nonzero(weights: Tree) -> Array:
    """Number of convolution and linear weights that are not zero, int32."""
    kernels = jax.tree.leaves(only_prunable(weights))
    return sum((jnp.sum(w != 0, dtype=jnp.int32) for w in kernels), jnp.int32(0))


def finish(state: TrainState, keep_U: Array, clock: Clock, at: Array, rules: Rules) -> Card:
    """The card of plain weights, final mask and BatchNorm averages that is delivered."""
    return rules.finish(state.card, keep_at(at, clock, keep_U))


def recalibrate(card: Card, images, recipe: Recipe, batches: int) -> tuple[Card, Array]:
    """(card, shift): BatchNorm averages estimated anew for the final weights, on whole batches of training images.

    The first `batches` batches of `images`, not augmented, count equally: the mean of their means, and the mean of
    their unbiased variances. `shift` is the largest change of a mean, in standard deviations of its channel before.
    """
    whole = dataclasses.replace(recipe, batch_axis=None, split=1)
    weights = card_weights(card)
    blank = jax.tree.map(jnp.zeros_like, card.stats)

    def one(at, total):
        rows = lax.dynamic_slice_in_dim(images, at * recipe.batch_size, recipe.batch_size)
        # From zero, the running average moves by (1 - MOMENTUM) of the batch's own statistics.
        moved = whole.model.apply(weights, blank, rows, True)[1]
        return jax.tree.map(lambda t, m: t + m / (1 - layers.MOMENTUM), total, moved)

    total = lax.fori_loop(0, batches, one, blank)
    stats = jax.tree.map(lambda t: t / batches, total)
    was, now = flatten(card.stats), flatten(stats)
    shifts = [
        jnp.max(jnp.abs(now[k] - was[k]) * lax.rsqrt(was[k[:-4] + "var"] + layers.EPSILON))
        for k in was
        if k.endswith("mean")
    ]
    return card.replace(stats=stats), jnp.max(jnp.stack([jnp.float32(0), *shifts]))
