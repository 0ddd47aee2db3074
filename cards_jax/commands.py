"""What the commands on finished cards share: exit codes, one-line errors, the config of a card, all cores."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from cards_jax import config, data, methods, pack, realizations
from cards_jax.config import ConfigError
from cards_jax.data import store

ENDINGS = (".md", ".csv", ".tex", ".json", ".npz", ".png", ".svg")
FAILED, MISUSED, INTERRUPTED = 1, 2, 75  # exit codes
DATA_FLAGS = {"name": str, "dir": str, "title": str, "cache_dir": str, "image_size": int}
GIVEN_WRONG = (ValueError, FileNotFoundError, IsADirectoryError, NotADirectoryError)


class _Defaults(argparse.HelpFormatter):
    """Says an option's default, where it has one that says something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        shown = action.default not in (None, False, argparse.SUPPRESS, []) and action.option_strings
        return f"{action.help or ''} (default: %(default)s)" if shown else action.help


class Form(argparse.ArgumentParser):
    """One line on stderr for what was given wrong."""

    def __init__(self, *args, **options):
        super().__init__(*args, **{"formatter_class": _Defaults, **options})

    def error(self, message: str):
        self.exit(MISUSED, f"{self.prog}: {message}\n")


def stem(text: str) -> Path:
    """Of files that differ in their ending: a path, without the ending where one was typed; for argparse."""
    path = Path(text)
    if not path.name or text.endswith(("/", os.sep)) or path.is_dir():
        raise argparse.ArgumentTypeError(
            f"{text!r}: allowed is the beginning of file names, as results/robustness"
        )
    return path.with_suffix("") if path.suffix in ENDINGS else path


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def dense_only(field: str, place: object, found: Iterable[str | None]) -> None:
    """Raise ConfigError where what others are compared with is not dense, by its methods; None is not known, as of
    imported cards."""
    dense = {m for m in methods.names() if not getattr(methods.method(m), "PRUNES", True)}
    if wrong := sorted({name for name in found if name} - dense):
        raise ConfigError(
            f"{field}={str(place)!r}: holds cards of {', '.join(wrong)}; allowed are dense ones"
        )


def methods_of(cards: Sequence[Path]) -> list[str | None]:
    """What each card was made by, as far as it says."""
    return [(pack.meta(path).get("result") or {}).get("method") for path in cards]


def ended(name: str, action: Callable[[], None]) -> int:
    """The exit code of an action; what went wrong as one line on stderr."""

    def end(code: int, text: str) -> int:
        print(f"{name}: {text}", file=sys.stderr)
        return code

    try:
        action()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (ValueError, OSError) as error:  # ConfigError is a ValueError
        return end(
            MISUSED if isinstance(error, GIVEN_WRONG) else FAILED, " ".join(str(error).split())
        )
    except MemoryError as error:
        return end(FAILED, f"out of memory ({' '.join(str(error).split())})")
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        advice = "try fewer cards, or a smaller batch where the command has one"
        reason = " ".join(str(error).split())
        return end(FAILED, f"the device is out of memory; {advice} ({reason})")
    except KeyboardInterrupt:
        return end(INTERRUPTED, "interrupted; what is finished is kept, the same command continues")
    return 0


def config_of(card: Path) -> ConfigDict:
    """What a card was trained with: by its run's folder, else by its file; ConfigError where neither says."""
    snapshot = card.parent.parent / "config.json"
    if card.parent.name == "cards" and snapshot.is_file():
        try:
            return config.from_json(snapshot.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{snapshot} cannot be read ({error})") from None
    fields = pack.meta(card).get("config")
    if not isinstance(fields, dict):
        raise ConfigError(f"{card}: does not say what it was trained on; allowed are cards of runs")
    return config.completed(fields)


def add_data_flags(form: argparse.ArgumentParser) -> None:
    """Options that say which data are meant, for cards that do not, or where these lie now."""
    for field, kind in DATA_FLAGS.items():
        text = f"in place of the cards' {field}"
        form.add_argument(f"--data.{field}", dest=f"data_{field}", type=kind, help=text)


def data_config(args: argparse.Namespace, cards: Sequence[Path]) -> ConfigDict:
    """The config of the first card, with what these options say otherwise; with a data set's name defaults alone."""
    given = {f: getattr(args, f"data_{f}") for f in DATA_FLAGS}
    c = config.defaults() if given["name"] else config_of(cards[0])
    for field, value in given.items():
        if value is not None:
            config.assign(c, f"data.{field}", value)
    config.one_of(c, "data.name", data.names())
    return c


def use_all_cores() -> None:
    """One host device per core, and programs kept between calls; before the first computation."""
    realizations.use_cores()
    if not jax.config.jax_compilation_cache_dir:
        cache = store.cache_folder(None) / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))
