"""Learning rate and sparsity against progress, as tables made on the host in float64."""

import math

import numpy as np
from ml_collections import ConfigDict

KINDS = ("cosine", "step", "constant")


def learning_rate_factors(
    kind: str,
    epochs: int,
    steps_per_epoch: int,
    *,
    per: str = "step",
    warmup_epochs: float = 0,
    drops: tuple[int, ...] = (),
    drop_factor: float = 0.1,
) -> np.ndarray:
    """Factor on the base learning rate for every step, float32 (epochs * steps_per_epoch,).

    cosine falls from 1 towards 0, per step or per epoch (as the originals of edge-popup and biprop do); step multiplies
    by `drop_factor` at each epoch of `drops`; a linear warm-up over the first epochs multiplies either, from 0.
    """
    steps = np.arange(epochs * steps_per_epoch, dtype=np.float64)
    epoch = steps / steps_per_epoch if per == "step" else np.floor(steps / steps_per_epoch)
    if kind == "cosine":
        factor = 0.5 * (1 + np.cos(math.pi * epoch / epochs))
    elif kind == "step":
        factor = drop_factor ** np.sum(epoch[:, None] >= np.array(drops, np.float64), axis=1)
    elif kind == "constant":
        factor = np.ones_like(steps)
    else:
        raise ValueError(f"schedule must be one of {', '.join(KINDS)}, got {kind!r}")
    if warmup_epochs:
        factor = factor * np.minimum(1, steps / (warmup_epochs * steps_per_epoch))
    return factor.astype(np.float32)


def progressive_sparsities(final: float, epochs: int) -> list[float]:
    """Sparsity at each of the first `epochs` epochs, then the final one: epochs + 1 values.

    The cubic of biprop's global scope, from 0.5 to `final`; below 0.5 it is `final` throughout. Without it a global
    threshold empties whole layers at the start, because initial scores shrink with the fan-in.
    """
    if final < 0.5:
        return [final] * (epochs + 1)
    return [final + (0.5 - final) * (1 - e / epochs) ** 3 for e in range(epochs)] + [final]


def cubic_sparsities(final: float, intervals: int) -> list[float]:
    """Sparsity at `intervals` + 1 updates: the cubic from 0 to `final` of Zhu and Gupta (2017)."""
    if not intervals:
        return [final]
    return [final * (1 - (1 - i / intervals) ** 3) for i in range(intervals)] + [final]


def learning_rate_table(c: ConfigDict, steps_per_epoch: int) -> np.ndarray:
    """The factors that a config asks for (fields `epochs` and `schedule`)."""
    s = c.schedule
    return learning_rate_factors(
        s.kind,
        c.epochs,
        steps_per_epoch,
        per=s.per,
        warmup_epochs=s.warmup_epochs,
        drops=s.drops,
        drop_factor=s.drop_factor,
    )
