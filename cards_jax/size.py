"""What a card weighs: in the paper's accounting and in true bytes, always both, layer by layer.

    python -m cards_jax.size CARD... [--format=text|markdown|csv]

paper bytes  kept weights times 32 bits, or 1 where they are binary (16 in float16, 8 in int8): the paper's
             formula, which leaves out masks, gains, BatchNorm and biases
true bytes   what the card's file takes on a disk
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cards_jax import container, forms, layout, npz, pack
from cards_jax.layout import Entry
from cards_jax.plain import csv_text
from cards_jax.tree import is_kernel

COLUMNS = ("layer", "weights", "kept", "density", "paper bytes", "true bytes")
COLUMNS += ("mask", "values", "gain")
FORMATS = ("text", "markdown", "csv")
FAILED, MISUSED = 1, 2  # exit codes
Source = str | Path | bytes | memoryview


def paper_bytes(kept: int, bits: int) -> float:
    """The paper's memory of so many kept weights: bits is 32, or 1 for a binary network."""
    return kept * bits / 8


class Row(NamedTuple):
    """What one layer, or several together, or what is no layer, takes; bytes but for the first two numbers."""

    name: str
    weights: int = 0
    kept: int = 0
    paper: float = 0.0
    mask: int = 0
    values: int = 0
    gain: int = 0

    @property
    def true(self) -> int:
        """All that it takes in the file."""
        return self.mask + self.values + self.gain

    def cells(self) -> list[Any]:
        """In the order of COLUMNS; None where there is nothing to say."""
        layer = self.weights > 0
        density = self.kept / self.weights if layer else None
        counts = [self.weights, self.kept, density, self.paper] if layer else [None] * 4
        parts = [self.mask, self.values, self.gain] if layer else [None] * 3
        return [self.name, *counts, self.true, *parts]


@dataclasses.dataclass(frozen=True)
class Table:
    """The sizes of one card.

    layers: one row per convolution and linear layer. rest: BatchNorm (averages, scales, biases), other biases, and the
    header with everything that the card says of itself, and the hash.
    entropy: bits that the masks cost at least, from the layers' densities.
    """

    name: str
    layers: tuple[Row, ...]
    rest: tuple[Row, ...]
    entropy: float

    @property
    def total(self) -> Row:
        """Sum of all rows: its true bytes are the file's size."""
        columns = zip(*(row[1:] for row in (*self.layers, *self.rest)), strict=True)
        return Row("total", *(sum(column) for column in columns))

    @property
    def rows(self) -> tuple[Row, ...]:
        """Layers, rest, total."""
        return *self.layers, *self.rest, self.total

    def summary(self) -> str:
        """Both sizes, against the weights in float32, and what the masks cost, in three lines."""
        total, whole = self.total, 4 * self.total.weights
        share = lambda x: f"{x:,.0f} ({x / 1e6:,.3f} MB), {x / whole if whole else 0:.2%} of"
        return (
            f"paper bytes {share(total.paper)} the weights in float32 ({whole:,})\n"
            f"true bytes {share(total.true)} them\n"
            f"masks {self._masks()}"
        )

    def _masks(self) -> str:
        bits = 8 * self.total.mask
        if not bits:
            return "none"
        over = f", {bits / self.entropy - 1:+.2%} over their entropy" if self.entropy else ""
        return f"{bits / self.total.weights:.4f} bits per weight{over}"

    def text(self) -> str:
        """Aligned columns for a console, then the summary."""
        cells = [list(COLUMNS), *(shown(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [_padded(line, widths, "  ").rstrip() for line in cells]
        return "\n".join([self.name, *lines, self.summary()]) + "\n"

    def markdown(self) -> str:
        """A markdown table that also reads well on a console, then the summary."""
        cells = [list(COLUMNS), *(shown(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        rule = [":" + "-" * (widths[0] - 1), *("-" * (w - 1) + ":" for w in widths[1:])]
        lines = [f"| {_padded(line, widths, ' | ')} |" for line in (cells[0], rule, *cells[1:])]
        summary = self.summary().replace("\n", "  \n")
        return "\n".join([f"**{self.name}**", "", *lines, "", summary]) + "\n"

    def csv(self, head: bool = True) -> str:
        """Rows of numbers, the card's name first."""
        lines = [["card", *COLUMNS]] if head else []
        return csv_text([*lines, *([self.name, *row.cells()] for row in self.rows)])


def table(source: Source, name: str | None = None) -> Table:
    """The sizes of a card's file, or of its content (`pack.encode` gives that of a card in memory).

    Nothing is decoded: only the header is read, and the hash checked. Raises ValueError in one line for what is no
    intact card file, OSError where it cannot be read.
    """
    given = isinstance(source, bytes | memoryview)
    name = name or ("card" if given else str(source))
    if not given and npz.is_archive(source):
        raise ValueError(f"{name}: an .npz of an older version; load it and save it again")
    with pack.reasons(name):
        whole = bytes(source) if given else container.read(source)
        contents, _ = layout.read(whole)
        entries = {path: entry for path, entry in contents.params.items() if is_kernel(path)}
        layers = tuple(_row(path, entry) for path, entry in entries.items())
        rest = (*_rest(contents), Row("header", values=container.header_bytes(whole)))
        return Table(name, layers, rest, sum(entry.entropy for entry in entries.values()))


def _row(path: str, entry: Entry) -> Row:
    paper = paper_bytes(entry.kept, forms.paper_bits(entry.form))
    parts = entry.mask_bytes, entry.value_bytes, entry.gain_bytes
    return Row(path.rpartition("/")[0], entry.size, entry.kept, paper, *parts)


def _rest(contents: layout.Contents) -> list[Row]:
    """BatchNorm: all arrays of modules that have averages, or a scale; and what is left of the params."""
    modules = lambda paths: {path.rpartition("/")[0] for path in paths}
    scaled = [path for path in contents.params if path.endswith("/scale")]
    norms = modules([*contents.stats, *scaled])
    batchnorm = sum(entry.bytes for entry in contents.stats.values())
    biases = 0
    for path, entry in contents.params.items():
        if not is_kernel(path):
            norm = path.rpartition("/")[0] in norms
            batchnorm, biases = batchnorm + norm * entry.bytes, biases + (not norm) * entry.bytes
    return [Row("BatchNorm", values=batchnorm), Row("biases", values=biases)]


def shown(row: Row) -> list[str]:
    """The cells of COLUMNS as text."""
    out = [row.name]
    for column, value in zip(COLUMNS[1:], row.cells()[1:], strict=True):
        form = ".4f" if column == "density" else ",.0f"
        out.append("" if value is None else format(value, form))
    return out


def _padded(cells: Sequence[str], widths: Sequence[int], between: str) -> str:
    first, *others = zip(cells, widths, strict=True)
    return between.join([first[0].ljust(first[1]), *(cell.rjust(w) for cell, w in others)])


def together(tables: Sequence[Table]) -> str:
    """One line on several cards, as a deck has."""
    paper, true = (sum(getattr(t.total, x) for t in tables) for x in ("paper", "true"))
    return (
        f"{len(tables)} cards: paper bytes {paper:,.0f} ({paper / 1e6:,.3f} MB), "
        f"true bytes {true:,} ({true / 1e6:,.3f} MB)\n"
    )


class _Parser(argparse.ArgumentParser):
    """One line on stderr for what was given wrong."""

    def error(self, message: str):
        self.exit(MISUSED, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = _Parser("cards_jax.size", description=__doc__.split("\n\n")[0])
    parser.add_argument("cards", nargs="+", metavar="CARD", help="a card file")
    parser.add_argument("--format", choices=FORMATS, default="text")
    given = parser.parse_args(arguments)
    try:
        tables = [table(path) for path in given.cards]
        if given.format == "csv":
            text = "".join(t.csv(head=not i) for i, t in enumerate(tables))
        else:
            text = "\n".join(getattr(t, given.format)() for t in tables)
            text += f"\n{together(tables)}" if len(tables) > 1 else ""
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return MISUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
