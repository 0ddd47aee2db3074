"""Errors under Fourier noise: every wave, every norm, every image (Yin et al. 2019; Diffenderfer et al. 2021, 2.3)."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cards_jax import fourier
from cards_jax.progress import Progress

PIECE_SECONDS = 5.0  # a piece of the sweep, after which progress is shown, takes about this long
CPU_ROWS, ROWS = 32, 1000  # of a batch; a core's cache is small


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


def sweep(
    hand: Any, images: np.ndarray, labels: np.ndarray, s: Settings, rows: int = 0, label: str = ""
) -> np.ndarray:
    """Error rates float64 (R, E, H, W) of the cards of a `Hand`, in [0, 1]; low frequencies are in the centre.

    All cards see the same images and the same signs, which are drawn anew for every wave. One program is compiled for
    all waves, norms and cards, and dispatched a few times, so that progress can be shown.

    Args:
      images: uint8 (N, H, W, C), of which the first `s.images` count.
      rows: noisy images of a batch; 0 is this backend's default. Signs do not depend on it.
      label: what the line of progress opens with.
    """
    images, labels = images[: s.images], labels[: s.images]
    H, W = images.shape[1:3]
    waves = fourier.frequencies(H, W)
    count = counter(hand, s, rows)
    most = (2**31 - 1) // (len(images) * len(s.eps)) - 1  # noisy images are counted in int32
    wrong, pace, done = 0, None, 0
    progress = Progress(len(waves), len(hand), len(images) * len(s.eps), label=label)
    while done < len(waves):
        seconds = time.monotonic()
        step = max(1, int(PIECE_SECONDS * pace)) if pace else 1
        stop = min(len(waves), done + min(step, most))
        wrong = wrong + count(images, labels, done, stop)
        seconds = time.monotonic() - seconds
        # The first piece compiles the program: the second tells the pace.
        if done:
            pace = (stop - done) / max(seconds, 1e-6)
        else:
            progress.compiled(seconds, stop)
        done = stop
        progress.update(done)
    progress.close()
    return fourier.spread(wrong / len(images), H, W)


def counter(hand: Any, s: Settings, rows: int = 0) -> Callable[..., np.ndarray]:
    """(images, labels, start, stop) -> int (R, E, D): wrong answers under these waves, by one program."""
    rows = rows or (CPU_ROWS if jax.default_backend() == "cpu" else ROWS)
    eps = np.asarray(s.eps, np.float32)

    def count(predict: Callable, part: Array, parts: int, *shared: Array) -> Array:
        return wrong(predict, s, rows, part, parts, *shared)

    program = hand.sums(count, 5)
    return lambda images, labels, start, stop: program(
        images, labels, eps, np.int32(start), np.int32(stop)
    )


def wrong(
    predict: Callable[[Array], Array],
    s: Settings,
    rows: int,
    part: Array,
    parts: int,
    images: Array,
    labels: Array,
    eps: Array,
    start: Array,
    stop: Array,
) -> Array:
    """int32 (E, D): wrong answers of one card on the batches of one part, under the waves from start to stop.

    Waves, norms and images are one axis, cut into batches of `rows`: small sets of images fill a batch with several
    waves. Batch b belongs to part b % parts; start and stop are traced.
    """
    N, H, W, C = images.shape
    E, key = len(eps), jax.random.key(s.seed)
    waves = jnp.asarray(fourier.frequencies(H, W))

    def noisy(wave: Array, norm: Array, image: Array) -> Array:
        sign = fourier.signs(key, wave, image, C)
        pattern = fourier.wave(*waves[wave], H, W, s.phase)
        return fourier.perturb(images[image] / jnp.float32(255), pattern, sign, eps[norm], s.clip)

    def body(i: Array, counts: Array) -> Array:
        at = (part + i * parts) * rows + jnp.arange(rows)
        real = at < (stop - start) * E * N
        wave, norm, image = start + at // (E * N), at // N % E, at % N
        logits = predict(jax.vmap(noisy)(wave, norm, image))
        missed = (jnp.argmax(logits, -1) != labels[image]) & real
        return counts.at[norm, wave].add(missed.astype(jnp.int32), mode="drop")

    batches = -((start - stop) * E * N // rows)  # rounded up
    mine = (batches - part + parts - 1) // parts
    return lax.fori_loop(0, mine, body, jnp.zeros((E, len(waves)), jnp.int32))
