"""What a run is and how it was started: config, commands, versions, files."""

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ml_collections import ConfigDict

from cards_jax import config
from cards_jax.page import tables
from cards_jax.page.html import Html, details, join, tag

LISTED = ("", "tables", "plots", "cards")  # folders of a run whose files are linked
MANY = 12  # files of a folder that are shown without asking


def facts(pairs: Sequence[tuple[str, Any]]) -> Html:
    """Names and values; those without a value are left out."""
    known = [(name, value) for name, value in pairs if value not in (None, "")]
    return tag("dl", [tag("div", tag("dt", n), tag("dd", v)) for n, v in known], class_="facts")


def code(text: str) -> Html:
    """Text to copy, which scrolls alone."""
    return tag("pre", tag("code", text), tabindex=0)


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def fields(c: ConfigDict, identity: str) -> Html:
    """The fields that differ from the defaults, then all of them."""
    standard, mine = config.flat(config.defaults()), config.flat(c)
    changed = [(k, _written(v), _written(standard[k])) for k, v in config.changes(c).items()]
    every = [(k, _written(v)) for k, v in mine.items()]
    text = "Fields that differ from their defaults."
    return join(
        tables.render(
            tables.of_rows(text, ["field", "value", "default"], changed, 3),
            "Config",
            f"{identity}-changed",
        ),
        details(
            f"All {len(every)} fields",
            tables.render(
                tables.of_rows("", ["field", "value"], every, 2), "Every field", f"{identity}-all"
            ),
        ),
    )


def commands(given: Sequence[str], folder: str) -> Html:
    """The commands that trained a run, and the one that needs nothing but its folder."""
    again = f"python -m cards_jax.main --resume={shlex.quote(folder)}"
    return join(
        [
            tag("p", "Started with" if len(given) == 1 else "Started with, in this order:"),
            [code(line) for line in given],
        ]
        if given
        else None,
        tag("p", "The same from config.json alone, in the folder that holds the run's:"),
        code(again),
    )


def versions(found: dict[str, Any]) -> Html | None:
    """What it ran on."""
    return facts([(k, str(v)) for k, v in found.items() if v is not None]) if found else None


def files(folder: Path, base: Path) -> Html:
    """Links, relative to `base`, to the files that are there."""
    out = []
    for name in LISTED:
        place = folder / name
        if not place.is_dir():
            continue
        there = sorted(p for p in place.iterdir() if _shown(p))
        items = [tag("li", link(path, base), f" {path.stat().st_size:,} bytes") for path in there]
        if not items:
            continue
        title = f"{name or folder.name}/"
        listing = tag("ul", items, class_="files")
        if len(items) > MANY:
            out.append(details(f"{title} ({len(items)} files)", listing))
        else:
            out.append(join(tag("h3", title), listing))
    return join(out)


def _shown(path: Path) -> bool:
    # The page is no news to its reader.
    return path.is_file() and not path.name.startswith(".") and path.name != "report.html"


def link(path: Path, base: Path, text: str | None = None) -> Html:
    """A relative link from a page in `base`."""
    return tag("a", text or path.name, href=quote(Path(os.path.relpath(path, base)).as_posix()))
