"""Errors under Fourier noise: every wave, every norm, every image (Yin et al. 2019; Diffenderfer et al. 2021, 2.3)."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cards_jax import fourier
from cards_jax.progress import Progress

PIECE_SECONDS = 5.0  # a piece of the sweep, after which progress is shown, takes about this long
PIECE = 2**17  # noisy images of a card that one call of the program takes at most
FIRST = 64  # of the first call, before the pace is known
# Noisy images of a batch: on a CPU, whose caches are small, and elsewhere, where all cards compute them side by side.
CPU_ROWS, ROWS, MOST_AT_ONCE = 32, 1000, 8192


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the numbers of a heatmap depend on, beside the card and the images.

    eps: L2 norms of the noise in each channel, of images in [0, 1]. images: the first so many. phase: of the waves, in
    radians. clip: whether noisy images are clipped to [0, 1]. seed: of the signs.
    """

    eps: tuple[float, ...] = (3.0, 4.0, 6.0)
    images: int = 1000
    phase: float = fourier.PHASE
    clip: bool = True
    seed: int = 0


# --- the sweep


def sweep(
    hand: Any, images: np.ndarray, labels: np.ndarray, s: Settings, rows: int = 0, label: str = ""
) -> np.ndarray:
    """bool (R, E, D, N): under which waves, of which norms, the cards of a `Hand` are wrong about which images.

    All cards see the same images and the same signs, which are drawn anew for every wave and image, whatever the other
    images are. One program is compiled for all waves, norms and cards.

    Args:
      images: uint8 (N, H, W, C), of which the first `s.images` count.
      rows: noisy images of a batch; 0 is this backend's default. Signs do not depend on it.
      label: what the line of progress opens with.
    """
    return np.concatenate(list(image_by_image(hand, images, labels, s, 0, rows, label)), -1)


def image_by_image(
    hand: Any,
    images: np.ndarray,
    labels: np.ndarray,
    s: Settings,
    first: int = 0,
    rows: int = 0,
    label: str = "",
) -> Iterator[np.ndarray]:
    """What `sweep` gives, from image `first` on, in parts (R, E, D, n): the next n images, as soon as they are done.

    The program is dispatched once in some seconds, so that progress can be shown.
    """
    images, labels = images[: s.images], labels[: s.images]
    E, D = len(s.eps), len(fourier.frequencies(*images.shape[1:3]))
    count = counter(hand, s, rows)
    begun, total = first * D * E, len(images) * D * E
    progress = Progress(total, len(hand), 1, start_step=begun, label=label)
    rest, pace, done = np.zeros((len(hand), 0), bool), None, begun
    while done < total:
        seconds = time.monotonic()
        step = max(1, int(PIECE_SECONDS * pace)) if pace else FIRST
        stop = min(total, done + step)
        rest = np.concatenate([rest, count(images, labels, done, stop)], 1)
        seconds = time.monotonic() - seconds
        # The first piece compiles the program: the second tells the pace.
        if done > begun:
            pace = (stop - done) / max(seconds, 1e-6)
        else:
            progress.compiled(seconds, stop - done)
        done = stop
        progress.update(done)
        if whole := rest.shape[1] // (D * E):
            ready, rest = np.split(rest, [whole * D * E], 1)
            yield ready.reshape(-1, whole, D, E).transpose(0, 3, 2, 1)
    progress.close()


def counter(hand: Any, s: Settings, rows: int = 0) -> Callable[..., np.ndarray]:
    """(images, labels, start, stop) -> bool (R, stop - start): wrong answers to these noisy images, by one program.

    Noisy images are in the order of their images, then of the waves, then of the norms.
    """
    most = max(1, min(ROWS, MOST_AT_ONCE // len(hand)))
    rows = rows or (CPU_ROWS if jax.default_backend() == "cpu" else most)
    eps = np.asarray(s.eps, np.float32)

    def count(images: np.ndarray, labels: np.ndarray, start: int, stop: int) -> np.ndarray:
        each = len(eps) * len(fourier.frequencies(*images.shape[1:3]))
        most = min(PIECE, each * len(images))
        program, found = programs(-(-most // rows) * rows), []
        for at in range(start, stop, most):
            here = min(most, stop - at)
            where = [np.int32(x) for x in (*divmod(at, each), here)]
            found.append(program(images, labels, eps, *where)[:, :here].astype(bool))
        return np.concatenate(found, 1)

    @functools.cache
    def programs(size: int) -> Callable[..., np.ndarray]:
        def f(predict: Callable, part: Array, parts: int, *shared: Array) -> Array:
            return wrong(predict, s, rows, size, part, parts, *shared)

        return hand.sums(f, 6)

    return count


def wrong(
    predict: Callable[[Array], Array],
    s: Settings,
    rows: int,
    size: int,
    part: Array,
    parts: int,
    images: Array,
    labels: Array,
    eps: Array,
    image: Array,
    skipped: Array,
    count: Array,
) -> Array:
    """uint8 (size,): 1 where one card is wrong about a noisy image, in the batches of one part, 0 in those of others.

    `count` noisy images, from that which comes `skipped` after the first one of `image`. All three are traced; what
    stands behind them has no meaning. Images, waves and norms are one axis, cut into batches of `rows`, a divisor of
    size: batch b belongs to part b % parts.
    """
    N, H, W, C = images.shape
    E, key = len(eps), jax.random.key(s.seed)
    waves = jnp.asarray(fourier.frequencies(H, W))
    D = len(waves)

    def noisy(image: Array, wave: Array, norm: Array) -> Array:
        sign = fourier.signs(key, wave, image, C)
        pattern = fourier.wave(*waves[wave], H, W, s.phase)
        return fourier.perturb(images[image] / jnp.float32(255), pattern, sign, eps[norm], s.clip)

    def body(i: Array, found: Array) -> Array:
        begin = (part + i * parts) * rows
        at = skipped + begin + jnp.arange(rows)
        which, wave, norm = jnp.minimum(image + at // (E * D), N - 1), at // E % D, at % E
        logits = predict(jax.vmap(noisy)(which, wave, norm))
        missed = (jnp.argmax(logits, -1) != labels[which]) | ~jnp.isfinite(jnp.max(logits, -1))
        return lax.dynamic_update_slice(found, missed.astype(jnp.uint8), (begin,))

    batches = -(-count // rows)
    mine = (batches - part + parts - 1) // parts
    return lax.fori_loop(0, mine, body, jnp.zeros(size, jnp.uint8))


# --- what it found


def errors(wrong: np.ndarray, H: int, W: int) -> np.ndarray:
    """Error rates float64 (..., H, W) in [0, 1] of wrong answers (..., D, N); low frequencies are in the centre."""
    return fourier.spread(wrong.mean(-1), H, W)


def error_by_image(wrong_DN: np.ndarray, H: int, W: int) -> np.ndarray:
    """float64 (N,): the share of the H x W cells of a map under whose wave a card is wrong about an image."""
    return fourier.weights(H, W) @ wrong_DN


def unevenness_by_image(wrong_DN: np.ndarray, H: int, W: int) -> np.ndarray:
    """float64 (N,): what each image says of how uneven a map is; the mean is the standard deviation over its cells.

    The map of N images is rougher than that of many, by the noise of their answers: its variance over cells is here the
    mean over all pairs of two images of the covariance of their answers over cells, which has no such part. An image's
    number is its mean covariance with the others, divided by that standard deviation: the linear part of the
    deviations that other images would cause, so that images can be drawn anew. Zeros of a map without any unevenness,
    and of a single image.
    """
    weights, count = fourier.weights(H, W), wrong_DN.shape[1]
    if count < 2:
        return np.zeros(count)
    centred = wrong_DN - weights @ wrong_DN
    with_all = (weights * centred.mean(1)) @ centred * count
    with_others = (with_all - weights @ centred**2) / (count - 1)
    variance = with_others.mean()
    return with_others / np.sqrt(variance) if variance > 0 else np.zeros(count)
