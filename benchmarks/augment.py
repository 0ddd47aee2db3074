"""Speed of the training augmentations on one core, beside Pillow, and what they cost in a training step.

    python -m benchmarks.augment --save=results/augment_cpu

First images per second of AugMix (the image and two mixtures of it), in one compiled program and as
the original makes it: Pillow and NumPy, image by image, in a worker of a data loader. Each is pinned
to one core. Then training steps on all cores: with an augmentation, beside the same step and loss on
three views that are cropped and flipped alone.
"""

import argparse
import dataclasses
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.command import conduct
from benchmarks.contest import Contestant, Rates, ratios
from benchmarks.machine import cores
from benchmarks.pillow import pillow_views
from benchmarks.steps import data
from benchmarks.train import _markdown, _positive, save

BATCH = 128
STEP_BATCH = {"conv4": 64, "resnet18": 32}
OURS, PILLOW, THREE = "cards_jax {}", "Pillow augmix", "three plain views"


# --- contestants: these run in processes of their own


def pillow_contestant(images: np.ndarray) -> Callable[[int], None]:
    """The original's way, a batch per step."""
    from PIL import Image

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pictures, rng = [Image.fromarray(image) for image in images], np.random.default_rng(0)

    def run(steps: int) -> None:
        for _ in range(steps):
            np.stack([pillow_views(rng, picture) for picture in pictures])

    return run


def our_contestant(name: str, images: np.ndarray) -> Callable[[int], None]:
    """An augmentation in a compiled program, a batch per step."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import jax

    jax.config.update("jax_platforms", "cpu")
    from cards_jax import augment

    views = jax.vmap(augment.views(name))
    batch = lambda key, x: views(jax.random.split(key, len(x)), x / np.float32(255))
    program, keys = jax.jit(batch), jax.random.split(jax.random.key(0), 1000)

    def run(steps: int) -> None:
        for step in range(steps):
            program(keys[step % len(keys)], images).block_until_ready()

    return run


@dataclasses.dataclass(frozen=True)
class ThreePlainViews:
    """An augmentation that costs next to nothing, with the loss of AugMix."""

    consistency: float = 12.0

    def __call__(self, key, image_HWC):
        import jax

        from cards_jax import augment

        return jax.vmap(augment.views("standard"), (0, None))(jax.random.split(key, 3), image_HWC)[
            :, 0
        ]


def step_contestant(name: str, network: str, batch_size: int) -> Callable[[int], None]:
    """Training steps with an augmentation, one realization per core."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", cores())
    from cards_jax import augment, config, realizations, validation
    from cards_jax.trainer import Trainer

    c = config.defaults()
    c.method, c.model.name, c.batch_size = "ep", network, batch_size
    c.seeds = tuple(range(cores()))
    points = config.points(validation.validate(c))
    trainer = Trainer(c, data(batch_size), realizations.layout(len(points), batch_size=batch_size))
    views = ThreePlainViews() if name == THREE else augment.views(name)
    trainer.recipe = dataclasses.replace(trainer.recipe, views=views)
    group = trainer.group(points)
    state = trainer.enter(trainer.deal(group), group, 0)

    def run(steps: int) -> None:
        nonlocal state
        for done in range(0, steps, 100):
            state, report = trainer.chunk(state, group, 0, 0, min(steps - done, 100), True)
        jax.block_until_ready(report)

    return run


# --- the command


def contestants(args: argparse.Namespace) -> list[Contestant]:
    """Pillow, the augmentations alone, then the training steps."""
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 32, 32, 3), np.uint8)
    if args.images:
        images = np.load(args.images)[args.images_key][:BATCH]
    found = [Contestant(PILLOW, pillow_contestant, BATCH, {"images": images})]
    for name in args.augment:
        arguments = {"name": name, "images": images}
        found.append(Contestant(OURS.format(name), our_contestant, BATCH, arguments))
    for network in args.network:
        work = cores() * STEP_BATCH[network]
        for name in (THREE, *args.step):
            arguments = {"name": name, "network": network, "batch_size": STEP_BATCH[network]}
            found.append(Contestant(f"{network}, {name}", step_contestant, work, arguments))
    return found


def report(rates: Rates, failures: dict[str, str], args: argparse.Namespace, notes: list) -> str:
    """The whole result as markdown."""
    ours = [PILLOW, *(OURS.format(name) for name in args.augment)]
    lines = ["# Speed of the training augmentations", "", *(f"- {note}" for note in notes), ""]
    lines += _compared("augmentation, one core", "times Pillow", ours, PILLOW, rates, 1)
    for network in args.network:
        steps = [f"{network}, {name}" for name in (THREE, *args.step)]
        lines += [
            "",
            *_compared("training step", "duration in plain steps", steps, steps[0], rates, -1),
        ]
    lines += ["", *(f"{name} failed: {reason}" for name, reason in failures.items())]
    lines += [
        f"Medians of {args.rounds - 1} interleaved rounds (lowest to highest), ratios within a round."
    ]
    return "\n".join(lines) + "\n"


def _compared(what: str, how: str, names: list[str], other: str, rates: Rates, power: int):
    rows = [[what, "images/s", how]]
    for name in names:
        if name not in rates or other not in rates:
            rows.append([name, "failed", "-"])
            continue
        times = sorted(x**power for x in ratios(rates, name, other))
        spread = f"{statistics.median(times):.2f} ({times[0]:.2f} to {times[-1]:.2f})"
        rows.append([name, f"{statistics.median(rates[name]):.0f}", spread])
    return _markdown(rows)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    words = lambda text: tuple(x for x in text.split(",") if x)
    form = argparse.ArgumentParser(
        "python -m benchmarks.augment", description=__doc__.split("\n")[0]
    )
    form.add_argument("--augment", type=words, default=("augmix", "prime", "gaussian", "standard"))
    form.add_argument("--network", type=words, default=tuple(STEP_BATCH), help="of training steps")
    form.add_argument("--step", type=words, default=("augmix",), help="augmentations in steps")
    form.add_argument("--images", type=Path, help="an .npz with uint8 images; random without")
    form.add_argument("--images-key", default="train_images")
    form.add_argument("--rounds", type=_positive, default=6, help="that count, after one warms up")
    form.add_argument("--seconds", type=float, default=2.0, help="of a turn")
    form.add_argument("--save", type=Path, help="writes SAVE.md and SAVE.csv")
    args = form.parse_args(arguments)
    args.rounds += 1
    return args


def main() -> int:
    """Hold the contest, print the tables, save them where asked."""
    return conduct("benchmarks.augment", parse(), contestants, report, save)


if __name__ == "__main__":
    sys.exit(main())
