"""Tables: read from the markdown that runs leave, written as HTML with captions, headers and shaded cells."""

import dataclasses
import re
from collections.abc import Callable, Sequence

from cards_jax.page.html import Html, join, tag

MINUS = "\u2212"
LONG = 24  # characters of a cell that is not broken
Shade = Callable[[int, int], float | None]


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells as text. left: which columns hold words. text: what stands above it, its long caption."""

    text: str
    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    left: tuple[bool, ...]

    def column(self, name: str) -> list[str]:
        """The cells below a head; ValueError where there is none."""
        place = self.head.index(name)
        return [row[place] for row in self.body]


def of_rows(text: str, head: Sequence[str], body: Sequence[Sequence[object]], words: int = 1):
    """A table whose first `words` columns are words; None is an empty cell."""
    cells = tuple(tuple("" if v is None else str(v) for v in row) for row in body)
    return Table(text, tuple(head), cells, tuple(i < words for i in range(len(head))))


def read(markdown: str) -> list[Table]:
    """Every table of a text, each with the paragraph above it."""
    found, text = [], ""
    for block in re.split(r"\n\s*\n", markdown):
        lines = block.strip().splitlines()
        if len(lines) > 1 and all(line.lstrip().startswith("|") for line in lines):
            head, rule, *body = map(_cells, lines)
            width = len(head)
            rows = tuple((*row, *[""] * width)[:width] for row in body)
            left = tuple(not cell.endswith(":") for cell in (*rule, *["-"] * width)[:width])
            found.append(Table(text, head, rows, left))
            text = ""
        elif lines:
            text = " ".join(lines)
    return found


def _cells(line: str) -> tuple[str, ...]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return tuple(c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", inner))


def number(text: str) -> float | None:
    """The number that a cell is, None where it is none."""
    try:
        return float(text.replace(",", "").replace(MINUS, "-"))
    except ValueError:
        return None


def render(
    table: Table,
    title: str,
    identity: str,
    shade: Shade | None = None,
    cell: Callable[[int, int], Html | None] | None = None,
    note: str | None = None,
) -> Html:
    """A <table> in a region that scrolls alone, so that a narrow page does not.

    shade: of row and column, from -1 (worse, more error) over 0 to 1 (better), or None. cell: what stands in a cell in
    place of its text.
    """
    note = table.text if note is None else note
    caption = tag("caption", tag("span", tag("strong", title), f" {note}" if note else None))
    head = tag("tr", [_head(name, left) for name, left in zip(table.head, table.left, strict=True)])
    body = [tag("tr", _row(table, r, shade, cell)) for r in range(len(table.body))]
    whole = tag("table", caption, tag("thead", head), tag("tbody", body), id=identity)
    return tag("div", whole, class_="scroll", role="region", aria_label=title, tabindex=0)


def _head(name: str, left: bool) -> Html:
    if not name:
        return tag("td")
    classes = [c for c, there in (("word", left), ("long", len(name) > LONG)) if there]
    return tag("th", name, scope="col", class_=" ".join(classes) or None)


def _row(table: Table, r: int, shade: Shade | None, cell: Callable | None) -> list[Html]:
    out = []
    for c, text in enumerate(table.body[r]):
        kind = ("word long" if len(text) > LONG else "word") if table.left[c] else None
        content = (cell(r, c) if cell else None) or re.sub(r"(?<![\w.)])-(?=\d)", MINUS, text)
        if c == 0:
            out.append(tag("th", content, scope="row", class_=kind))
            continue
        value = shade(r, c) if shade else None
        style = None if value is None else f"--t:{round(abs(value), 2):g}"
        tint = None if value is None else ("better" if value > 0 else "worse")
        classes = " ".join(x for x in (kind, tint) if x) or None
        out.append(tag("td", content, class_=classes, style=style))
    return out


def scale(values: Sequence[float | None]) -> Callable[[float | None], float | None]:
    """From -1 for the smallest of the values, shaded most, to 0 for the largest."""
    there = [v for v in values if v is not None]
    low, high = min(there, default=0.0), max(there, default=0.0)
    span = (high - low) or 1.0
    return lambda value: None if value is None else (value - high) / span


def prose(text: str) -> Html:
    """A paragraph, nothing where there is no text."""
    return tag("p", text) if text else join()
