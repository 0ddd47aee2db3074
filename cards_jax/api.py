"""The commands as Python functions, for notebooks and scripts: the same work, with values for results.

run = cards_jax.train_cards("configs/quickstart.py", {"epochs": 5})
report = cards_jax.measure_corruptions([run.folder], baseline=run.baseline, images=100)
deck = cards_jax.build_deck([run.folder], gate="none")
"""

import argparse
import dataclasses
import tempfile
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cards_jax import (
    commands,
    deck_inputs,
    experiment,
    files,
    folder,
    heatmap,
    main,
    programs,
    realizations,
    robust_tables,
    robustness,
    summary,
    tabular,
    validation,
)
from cards_jax import config as fields
from cards_jax.commands import use_all_cores
from cards_jax.config import ConfigError
from cards_jax.deck import Deck

Place = str | Path
ENDS = {"": "main", "_difference": "difference"}  # of the files of pictures


class Picture(bytes):
    """A PNG, which notebooks show."""

    def _repr_png_(self) -> bytes:
        return bytes(self)

    def __repr__(self) -> str:
        return f"Picture({len(self):,} bytes)"


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    folder: where everything lies. config: what it was, resolved. results: one dict for each realization, as in
    results.json; accuracies and sparsities are fractions. baseline: folder of its dense run, None where it has none.
    """

    folder: Path
    config: ConfigDict
    results: list[dict[str, Any]]
    baseline: Path | None

    @property
    def cards(self) -> list[Path]:
        """The files of its cards, in the order of the results."""
        return [folder.card_path(self.config, point) for point in fields.points(self.config)]

    @property
    def curves(self) -> Picture:
        """Loss and accuracy while it trained."""
        return Picture((self.folder / "plots" / "curves.png").read_bytes())

    def _repr_markdown_(self) -> str:
        return str(self)

    def __str__(self) -> str:
        """The table that the command prints, without the dense row."""
        rows = summary.summarise(self.results)
        return f"{tabular.caption(rows)}\n\n{tabular.markdown_table(rows, tabular.table_columns(rows))}"


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """What a measurement of cards found. `str()` is the table, which notebooks show.

    rows: one dict for each row of the table, in fractions. pictures: {name: PNG}; `main` is the table's.
    """

    text: str
    rows: list[dict[str, Any]]
    pictures: dict[str, Picture]

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Measured({len(self.rows)} rows, pictures: {', '.join(self.pictures) or 'none'})"


def resolve(config: ConfigDict | Place, changes: Mapping[str, Any] | None = None) -> ConfigDict:
    """A validated config: a ConfigDict, or FILE[:args] as the command takes it, with other values for dotted fields.

    Fields that hold several values (`seeds`, `sparsity`, ...) take one as well. Raises ConfigError, in one line, for
    whatever is wrong.
    """
    read = main.load_config
    is_file = isinstance(config, str | Path)
    c = read(str(config)) if is_file else fields.completed(fields.flat(config))
    for field, value in (changes or {}).items():
        several = isinstance(fields.flat(c).get(field), tuple)
        fields.assign(c, field, _plain(value, several))
    return validation.validate(c)


def _plain(value: Any, several: bool) -> Any:
    """A value as configs hold them: numbers and arrays of NumPy, ranges and lists are taken too."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | range):
        value = tuple(value)
    return (value,) if several and not isinstance(value, tuple) else value


def _places(cards: Place | Sequence[Place]) -> list[Place]:
    """One place, or several; ConfigError where there is none."""
    found = [cards] if isinstance(cards, str | Path) else list(cards)
    if not found:
        raise ConfigError("cards=[]: allowed are card files, run folders, folders of cards")
    return found


def _stem(save: Place | None) -> Path | None:
    """Where files shall be written, checked before any work."""
    if save is None:
        return None
    try:
        path = commands.stem(str(save))
    except argparse.ArgumentTypeError as error:
        raise ConfigError(f"save={error}") from None
    files.check_place(path)
    return path


def _whole(name: str, value: Any) -> int:
    """A whole number; ConfigError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ConfigError(f"{name}={value!r}: allowed is a whole number")
    return int(value)


def train_cards(config: ConfigDict | Place, changes: Mapping[str, Any] | None = None) -> Run:
    """Train what is missing of a config and of its baseline, as `python -m cards_jax.main` does.

    Called again, it reads what is finished; an interrupt saves, and the same call continues. On a CPU its cores become
    as many devices of JAX, unless JAX has computed something before.

    Args:
      config: a ConfigDict (`cards_jax.config.defaults()` with changes), or a config file as FILE[:args].
      changes: {dotted field: value}, as {"epochs": 5, "model.width": 16}.

    Raises ConfigError before any compute, Stopped after a signal, OSError where nothing can be saved.
    """
    c = resolve(config, changes)
    main.use_flags(c)
    realizations.use_cores(c.compute.devices)
    if not jax.config.jax_compilation_cache_dir:
        cache = Path(c.workdir).absolute() / "cache" / "xla"
        programs.sweep(cache)
        jax.config.update("jax_compilation_cache_dir", str(cache))
    results = experiment.complete(c)
    return Run(folder.path_of(c), c, results, experiment.baseline_folder(c))


def measure_corruptions(
    cards: Place | Sequence[Place],
    baseline: Place | None = None,
    *,
    corruptions: str | Sequence[str] = "benchmark",
    images: int = 0,
    corruptions_dir: str | None = None,
    frost: str | None = None,
    population: Sequence[Place] = (),
    data_dir: str | None = None,
    title: str | None = None,
    download: bool = False,
    save: Place | None = None,
) -> Measured:
    """Cards on corrupted images, as `python -m cards_jax.robustness` measures them.

    Args:
      cards: card files, run folders, folders of cards; one or several.
      baseline: dense cards that the others are compared with.
      corruptions: sets "benchmark", "extra", "bar", or names.
      images: the first so many of the test set, 0 is all.
      corruptions_dir: CIFAR-10-C as a folder, a .tar, a tfds folder or "published"; None makes the corruptions from the
        cards' own test set.
      frost: folder of the textures of frost, or an .npz of them.
      population: dense cards for effective robustness.
      data_dir, title: where the data of the cards lie now, and their name for people.
      save: PATH; writes PATH.md, .tex, .csv, .json, .png, .svg.

    Raises ConfigError for what was given wrong, ValueError for damaged cards.
    """
    named = corruptions if isinstance(corruptions, str) else ",".join(corruptions)
    save = _stem(save)
    args = robustness.form().parse_args(["cards"])
    vars(args).update(
        cards=_places(cards),
        baseline=baseline,
        population=list(population),
        corruptions=named,
        images=_whole("images", images),
        dir=corruptions_dir,
        frost=frost,
        data_dir=data_dir,
        data_title=title,
        download=download,
    )
    use_all_cores()
    summary = robustness.evaluated(args)
    text = robust_tables.texts(summary)["corruptions.md"]
    pictures = _pictures(lambda path: robustness.save(path, summary), save)
    return Measured(text, summary.rows, pictures)


def measure_heatmaps(
    cards: Place | Sequence[Place],
    baseline: Place | None = None,
    *,
    eps: float | Sequence[float] = (3.0, 4.0, 6.0),
    images: int = 1000,
    data_dir: str | None = None,
    title: str | None = None,
    save: Place | None = None,
) -> Measured:
    """Fourier heatmaps of cards, as `python -m cards_jax.heatmap` measures them.

    Args:
      cards, baseline, data_dir, title: as for `measure_corruptions`.
      eps: L2 norms of the noise in each channel.
      images: the first so many of the test set.
      save: PATH; writes PATH.npz, .csv, .md, .png, .svg and PATH_difference.png, .svg.

    Raises ConfigError for what was given wrong, ValueError for damaged cards.
    """
    args = heatmap.form().parse_args(["cards"])
    save = _stem(save)
    norms = tuple(eps) if isinstance(eps, Sequence) else (eps,)
    vars(args).update(cards=_places(cards), baseline=baseline, eps=norms)
    vars(args).update(images=_whole("images", images))
    vars(args).update(data_dir=data_dir, data_title=title)
    use_all_cores()
    found = heatmap.measured(args)
    pictures = _pictures(lambda path: found.save(path, path), save)
    return Measured(found.text(), found.records(), pictures)


def _pictures(write: Callable[[Path], None], save: Place | None) -> dict[str, Picture]:
    """What `write(PATH)` draws, as {name: PNG}; PATH is kept where it is given."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(save) if save else Path(temporary) / "picture"
        write(path)
        places = {name: path.with_name(f"{path.name}{end}.png") for end, name in ENDS.items()}
        return {k: Picture(p.read_bytes()) for k, p in places.items() if p.is_file()}


def build_deck(
    cards: Place | Sequence[Place],
    gate: str | None = "ours",
    *,
    augment: Sequence[str] | None = None,
    data_dir: str | None = None,
    cache_dir: str | None = None,
) -> Deck:
    """Cards as a deck, as `python -m cards_jax.deck build` makes it; `deck.save(PATH)` writes it.

    Args:
      cards: card files, run folders, folders of cards.
      gate: "ours", "paper", a file of `deck choose`, or "none" or None, where all cards predict every image.
      augment: names of augmentations, one for each card, of cards that do not say theirs.
      data_dir, cache_dir: where the data of the cards lie now; a gate looks at their training images.

    Raises ConfigError for what was given wrong, ValueError for damaged cards.
    """
    args = Namespace(cards=_places(cards), augment=augment, gate=gate or "none")
    args.data_dir, args.cache_dir = data_dir, cache_dir
    use_all_cores()
    return deck_inputs.assembled(args)
