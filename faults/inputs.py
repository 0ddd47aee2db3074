"""Configs, command lines, config files and data folders of any content: taken, or refused in one line."""

import contextlib
import dataclasses
import io
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import test_config
import test_main
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_data_folder import png

from cards_jax import config, data, main, validation
from cards_jax.config import ConfigError
from faults.trial import HARMLESS, REFUSED, SILENT, TRACEBACK, Trial

AMOUNTS = {
    "fields": 400,
    "command lines": 300,
    "config files": 150,
    "snapshots": 150,
    "folders": 200,
}


def total(quick: bool) -> int:
    return sum(n // 20 if quick else n for n in AMOUNTS.values())


def trials(place: Path, quick: bool) -> Iterator[Trial]:
    os.chdir(place)
    of = {
        "fields": (FIELDS, _fields),
        "command lines": (LINES, _line),
        "config files": (FILES, _file),
        "snapshots": (SNAPSHOTS, _snapshot),
        "folders": (TREES, lambda tree: _folder(place, tree)),
    }
    for name, amount in AMOUNTS.items():
        strategy, take = of[name]
        yield from _drawn(strategy, take, amount // 20 if quick else amount, name)


def _drawn(strategy, take: Callable, amount: int, name: str) -> list[Trial]:
    """Trials of so many examples of a strategy, the same ones every time."""
    found = []

    @settings(
        max_examples=amount,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(example):
        found.append(_judged(f"any {name}", lambda: take(example)))

    each()
    # Hypothesis may stop earlier, where it has tried all there is, or try a little more.
    return found[:amount]


def _judged(fault: str, take: Callable) -> Trial:
    quiet = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(quiet),
            contextlib.redirect_stderr(quiet),
        ):
            warnings.simplefilter("ignore")
            wrong = take()
    except ConfigError as error:
        fine = str(error) and "\n" not in main.one_line(error)
        return Trial(fault, REFUSED if fine else TRACEBACK, main.one_line(error))
    except OSError as error:
        return Trial(fault, REFUSED, main.one_line(error))
    except Exception as error:
        return Trial(fault, TRACEBACK, repr(error))
    return Trial(fault, SILENT if wrong else HARMLESS, wrong or "")


FIELDS = st.dictionaries(
    st.sampled_from(sorted(test_config.STANDARD)), test_config.JSON, max_size=2
)
LINES = st.lists(test_main.ARGUMENT, max_size=4)
QUICKSTART = Path(main.__file__).parents[1].joinpath("configs", "quickstart.py").read_text()
FILES = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(str.encode),
    st.builds(
        lambda at, more: (QUICKSTART[:at] + more + QUICKSTART[at:]).encode(),
        st.integers(0, len(QUICKSTART)),
        st.text(max_size=5),
    ),
    st.integers(0, len(QUICKSTART)).map(lambda at: QUICKSTART[:at].encode()),
    st.sampled_from(
        [
            b"def get_config():\n    raise SystemExit(0)\n",
            b"def get_config():\n    return 3\n",
            b"import nothing_of_this_name\n",
            b"get_config = 1\n",
        ]
    ),
)
SNAPSHOT = config.to_json(config.defaults())
SNAPSHOTS = st.one_of(
    st.text(max_size=40),
    test_config.JSON.map(str),
    st.builds(
        lambda at, more: SNAPSHOT[:at] + more + SNAPSHOT[at + len(more) :],
        st.integers(0, len(SNAPSHOT)),
        st.text(min_size=1, max_size=3),
    ),
)


def _fields(fields: dict) -> str:
    c = validation.validate(config.completed(fields))
    return "" if config.points(c) else "no point"


def _line(arguments: list[str]) -> str:
    first = [] if any(a.startswith("--resume") for a in arguments) else [test_main.QUICK]
    _, c = main.parse(["cards_jax", *first, *arguments])
    return "" if c is None or config.points(c) else "no point"


def _file(content: bytes) -> str:
    Path("any.py").write_bytes(content)
    return _line(["--config=any.py"])


def _snapshot(text: str) -> str:
    Path("run").mkdir(exist_ok=True)
    Path("run/config.json").write_text(text)
    return _line(["--resume=run"])


# --- folders of images


NAMES = st.sampled_from(
    [
        "train/a/0.png",
        "train/a/1.png",
        "train/b/0.jpg",
        "test/a/0.png",
        "test/b/0.png",
        "x",
        "train/0.png",
    ]
    + ["val/a/0.png", "test/c/0.png", "train/ä/0.png", "train/a/b/0.png", "train/a/.0.png"]
)
IMAGES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            png((1, 2, 3)),
            png((1, 2, 3), (5, 9)),
            png(7, mode="L"),
            png(1, mode="1"),
            png(9, mode="P"),
            b"",
        ]
    ),
    st.builds(
        lambda at, bit: _flipped(png((1, 2, 3)), at, bit), st.integers(0, 10**4), st.integers(0, 7)
    ),
)
TREES = st.dictionaries(NAMES, IMAGES, max_size=6)


def _flipped(content: bytes, at: int, bit: int) -> bytes:
    content = bytearray(content)
    content[at % len(content)] ^= 1 << bit
    return bytes(content)


@dataclasses.dataclass
class _Count:
    """Of the folders written so far: each has a name of its own."""

    value: int = 0


_count = _Count()


def _folder(place: Path, tree: dict[str, bytes]) -> str:
    _count.value += 1
    path = place / f"tree_{_count.value}"
    path.mkdir()
    for name, content in tree.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    c = config.defaults()
    c.data.name, c.data.dir, c.data.cache_dir = "folder", str(path), str(place / "data")
    d = data.prepare(validation.validate(c))
    fine = d.train_images.dtype == "uint8" and len(d.train_images) == len(d.train_labels)
    return "" if fine and len(d.test_images) == len(d.test_labels) else "images without labels"
