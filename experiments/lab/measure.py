"""Corruptions and heatmaps of finished cards, all networks of one architecture in one pass, each card once."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from cards_jax import config, data, heat, pack, robustness, scores
from cards_jax.config import ConfigError
from cards_jax.data import corrupted
from cards_jax.data.corrupted import Clean, Source
from cards_jax.heat import Heat
from cards_jax.scores import Score


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is measured of every card: corruptions on so many images (0 is all), heatmaps of norms eps on so many.

    robust: the fifteen corruptions, and all test images as they are. decks: whether decks are measured afterwards, on
    the same corruptions.
    """

    robust: bool
    heat: bool
    images: int
    heat_images: int
    eps: tuple[float, ...]
    corruptions_dir: str | None = None
    decks: bool = False


def source_of(c: ConfigDict, wanted: Wanted) -> tuple[Clean, Source]:
    """The test set of a config, and its corruptions."""
    c = ConfigDict(c.to_dict())
    c.evaluate.corruptions = ("benchmark",)
    c.evaluate.corruption_images = wanted.images
    c.evaluate.corruptions_dir = wanted.corruptions_dir
    clean = robustness.clean_of(c)
    if not wanted.corruptions_dir:  # of a small test set there are fewer
        c.evaluate.corruption_images = min(wanted.images, len(clean.labels))
    return clean, robustness.source_of(c, clean)


def robust(
    paths: Sequence[Path], c: ConfigDict, wanted: Wanted, say: Callable[[str], None]
) -> tuple[Source, list[Score]]:
    """The benchmark's fifteen corruptions; what was measured before is read."""
    clean, source = source_of(c, wanted)
    return source, scores.evaluate(paths, source, clean, c.evaluate.batch_size, say)


def clean(paths: Sequence[Path], c: ConfigDict, say: Callable[[str], None]) -> list[Score]:
    """All images of the test set as they are; what was measured before is read."""
    whole = robustness.clean_of(c)
    return scores.evaluate(paths, corrupted.without(whole), whole, c.evaluate.batch_size, say)


def heatmaps(
    paths: Sequence[Path], c: ConfigDict, wanted: Wanted, say: Callable[[str], None]
) -> list[Heat]:
    """Errors under Fourier noise; what was measured before is read."""
    settings = heat.settings(wanted.eps, wanted.heat_images)
    return heat.evaluate(paths, data.prepare(c), settings, say)


# --- in a process of its own


def order(path: Path, c: ConfigDict, cards: Sequence[Path], wanted: Wanted) -> None:
    """Write down what `main` shall measure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"config": c.to_dict(), "cards": list(map(str, cards))}
    path.write_text(json.dumps(about | {"wanted": dataclasses.asdict(wanted)}))


def main(arguments: Sequence[str]) -> int:
    """Measure what a file written by `order` asks for; the exit code."""
    from cards_jax.commands import ended, use_all_cores

    use_all_cores()

    def action() -> None:
        about = json.loads(Path(arguments[0]).read_text())
        c = config.from_json(json.dumps(about["config"]))
        _use_cache(c)
        wanted = Wanted(**{**about["wanted"], "eps": tuple(about["wanted"]["eps"])})
        cards = [Path(card) for card in about["cards"]]
        if wanted.robust:
            clean(cards, c, print)
            robust(cards, c, wanted, print)
        if wanted.heat:
            heatmaps(cards, c, wanted, print)

    return ended("measure", action)


def _use_cache(c: ConfigDict) -> None:
    """Compiled programs are kept where the runs keep theirs."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(Path(c.workdir).absolute() / "cache/xla"))


def check(c: ConfigDict, wanted: Wanted, cards: Sequence[Path] = ()) -> None:
    """ConfigError, before anything is trained, where corruptions cannot be had afterwards, or finished cards were
    trained on other images."""
    if wanted.robust or wanted.decks:
        source_of(c, wanted)
    same_data(cards, c)


def same_data(cards: Sequence[Path], c: ConfigDict) -> None:
    """Raise ConfigError for a card that was trained on other images than the config's: runs do not depend on where
    these lie, so that two data sets of one name would share them. And for a damaged card."""
    there = [path for path in cards if path.is_file()]
    now = data.prepare(c).fingerprint if there else None
    for path in there:
        try:
            theirs = pack.meta(path).get("data_fingerprint", now)
        except ValueError as error:
            raise ConfigError(
                f"{error}; once it is deleted, the same command makes it anew"
            ) from None
        if theirs != now:
            raise ConfigError(
                f"{path}: trained on other images (fingerprint {theirs}) than data.name={c.data.name}, "
                f"data.dir={c.data.dir} holds ({now}); allowed is one data set in a workdir"
            )
