"""Cards on corrupted images: accuracy by corruption and severity, calibration, relative to dense.

python -m cards_jax.robustness CARD_OR_RUN ... [--baseline=DENSE_RUN] [--corruptions=benchmark] [--save=PATH]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from cards_jax import (
    config,
    data,
    files,
    folder,
    hand,
    pack,
    page,
    report,
    robust_plot,
    robust_summary,
    robust_tables,
    scores,
)
from cards_jax.commands import (
    Form,
    add_data_flags,
    data_config,
    dense_only,
    ended,
    methods_of,
    say,
    stem,
    use_all_cores,
)
from cards_jax.config import ConfigError
from cards_jax.corruptions import frost
from cards_jax.data import corrupted
from cards_jax.data.corrupted import Clean, Source
from cards_jax.evaluate import potential
from cards_jax.log import RunLog
from cards_jax.robust_summary import Summary


def clean_of(c: ConfigDict) -> Clean:
    """The test set of a config; ConfigError where it cannot be read, or has no name for people."""
    d = c.data
    title = corrupted.title_of(d.name, d.title)
    place = dict(download=d.download, cache_dir=d.cache_dir, image_size=d.image_size)
    images, labels = data.load(d.name, "test", d.dir, **place)
    return Clean(images, labels, d.name, title)


def source_of(c: ConfigDict, clean: Clean) -> Source:
    """The corrupted images that a config asks for; textures of frost are set for the whole process."""
    e = c.evaluate
    if e.frost:
        frost.use(e.frost)
    return corrupted.find(
        clean,
        e.corruptions,
        e.corruptions_dir,
        e.corruption_images,
        download=c.data.download,
        cache_dir=c.data.cache_dir,
    )


def check(c: ConfigDict) -> None:
    """Raise ConfigError, before any training, where what a config asks for afterwards cannot be done."""
    if not c.evaluate.corruptions:
        return
    clean = clean_of(c)
    source = source_of(c, clean)
    where = f"evaluate.corruptions_dir={c.evaluate.corruptions_dir!r}"
    size = lambda shape: " x ".join(map(str, shape))
    if tuple(source.image_HWC) != clean.images.shape[1:]:
        raise ConfigError(
            f"{where}: holds images of {size(source.image_HWC)}; allowed are those of the data, "
            f"{size(clean.images.shape[1:])}"
        )
    classes = max(c.model.num_classes or 0, int(clean.labels.max()) + 1)
    if source.labels.max() >= classes:
        raise ConfigError(
            f"{where}: has label {source.labels.max()}; allowed are 0 to {classes - 1}, as the network's"
        )


def of_run(
    c: ConfigDict, cards: Sequence[Path], baseline: Sequence[Path], log: RunLog
) -> dict[str, Any]:
    """Evaluate these cards of a run, beside dense ones; {} where the config asks for nothing.

    Writes tables/corruptions* and plots/corruptions.* into the run's folder and gives what belongs into results.json.
    """
    if not c.evaluate.corruptions:
        return {}
    clean = clean_of(c)
    source = source_of(c, clean)
    log.say(f"corruptions: {source.name}")
    measure = lambda places: scores.evaluate(
        places, source, clean, c.evaluate.batch_size, log.say, jax.process_index() == 0
    )
    found = measure(cards)
    dense = measure(baseline) if baseline else []
    summary = robust_summary.summarise(source, clean.title, found, dense)
    if jax.process_index() == 0:
        path = folder.path_of(c)
        (path / "tables").mkdir(exist_ok=True)
        for name, text in robust_tables.texts(summary).items():
            files.write_atomically(path / "tables" / name, text)
        robust_plot.draw(path / "plots" / "corruptions", summary)
        log.say(robust_tables.caption(summary))
    return {"corruptions": source.about() | {"rows": summary.rows, "each": summary.corruptions}}


# --- the command


def _resolved(args: argparse.Namespace, cards: Sequence[Path]) -> ConfigDict:
    """The config of the first card, with what the command line says otherwise."""
    c = data_config(args, cards)
    with c.unlocked():
        c.data.download = args.download
        c.evaluate.corruptions = tuple(x for x in args.corruptions.split(",") if x)
        c.evaluate.corruption_images, c.evaluate.corruptions_dir = args.images, args.dir
        c.evaluate.batch_size, c.evaluate.frost = args.batch_size, args.frost
    for field, least in (("images", 0), ("batch_size", 1)):
        if (value := getattr(args, field)) < least:
            raise ConfigError(f"{field}={value}: allowed are whole numbers from {least}")
    return c


def _same_data(args: argparse.Namespace, c: ConfigDict, cards: Sequence[Path]) -> str | None:
    """A line of warning where cards were trained on other images than those that they are tested on.

    Raises ConfigError where that was not asked for.
    """
    prints = {path: pack.meta(path).get("data_fingerprint") for path in cards}
    known = {path: p for path, p in prints.items() if p}
    if not known:
        return None
    now = data.prepare(_whole(c)).fingerprint
    others = [path for path, p in known.items() if p != now]
    if not others:
        return None
    text = f"{others[0]} was trained on other images (fingerprint {known[others[0]]}) than {c.data.name} holds ({now})"
    if not any(getattr(args, f"data_{f}") for f in ("name", "dir", "image_size")):
        raise ConfigError(f"{text}; name them with --data.name and --data.dir if that is meant")
    return f"note: {text}"


def _whole(c: ConfigDict) -> ConfigDict:
    """The same data without subset or holdout, which the fingerprint does not depend on."""
    whole = config.defaults()
    whole.data = ConfigDict(c.data.to_dict())
    whole.data.subset = whole.data.subset_per_class = 0
    return whole


def evaluated(args: argparse.Namespace) -> Summary:
    """Everything that the command does before it prints.

    Raises ConfigError for what was given wrong, ValueError for damaged cards.
    """
    dense_paths = hand.find([args.baseline]) if args.baseline else []
    cards = [p for p in hand.find(args.cards) if p not in dense_paths] or dense_paths
    population = hand.find(args.population) if args.population else []
    dense_only("baseline", args.baseline, methods_of(dense_paths))
    dense_only("population", " ".join(map(str, args.population or ())), methods_of(population))
    c = _resolved(args, cards)
    clean = clean_of(c)
    note = _same_data(args, c, [*cards, *dense_paths, *population])
    source = source_of(c, clean)
    say(note) if note else None
    say(source.name)
    everything = list(dict.fromkeys([*cards, *dense_paths, *population]))
    found = scores.evaluate(everything, source, clean, c.evaluate.batch_size, say)
    by_path = {score.path: score for score in found}
    pick = lambda paths: [by_path[path] for path in paths]
    dense = pick(dense_paths) if cards != dense_paths else []
    return robust_summary.summarise(
        source, clean.title, pick(cards), dense, pick(population), args.margin / 100
    )


def save(path: Path, s: Summary) -> None:
    """PATH.md, .tex, .csv, PATH_each.csv, PATH_cells.csv, PATH.json (everything), PATH.png and .svg.

    Where they are the tables of a run, its report.html is written anew.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, text in robust_tables.texts(s).items():
        own = path.name + name.removeprefix("corruptions")
        files.write_atomically(path.with_name(own), text)
    report.write_json(path.with_name(f"{path.name}.json"), robust_tables.payload(s))
    robust_plot.draw(path, s)
    page.rewrite(path)


SAVES = "writes PATH.md, .tex, .csv, .json, .png, .svg, PATH_each.csv and PATH_cells.csv"


def form() -> argparse.ArgumentParser:
    """The command line."""
    f = Form("python -m cards_jax.robustness", description=__doc__.split("\n")[0])
    add = f.add_argument
    add("cards", nargs="+", metavar="CARD_OR_RUN", help="card files, run folders, folders of cards")
    add("--baseline", metavar="DENSE_RUN", help="dense cards that others are compared with")
    add("--population", nargs="+", metavar="RUN", help="dense cards for effective robustness")
    add("--corruptions", default="benchmark", help="benchmark, extra, bar or names, with commas")
    add("--dir", help="CIFAR-10-C: folder, .tar, tfds folder or 'published'; else made")
    add("--frost", metavar="PATH", help="folder of the textures of frost, or an .npz of them")
    add("--images", type=int, default=0, metavar="N", help="first N images, 0 is all")
    add("--batch_size", type=int, default=500)
    add("--margin", type=float, default=100 * potential.MARGIN, help="points, of prune potential")
    add("--download", action="store_true", help="allow to fetch published data (3 GB)")
    add("--save", type=stem, metavar="PATH", help=SAVES)
    add_data_flags(f)
    return f


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = form()
    args = parser.parse_args(arguments)
    use_all_cores()

    def action() -> None:
        if args.save:
            files.check_place(args.save)
        summary = evaluated(args)
        print(robust_tables.texts(summary)["corruptions.md"])
        if args.save:
            save(args.save, summary)
            say(f"written: {args.save}.*")

    return ended(parser.prog, action)


if __name__ == "__main__":
    sys.exit(main())
