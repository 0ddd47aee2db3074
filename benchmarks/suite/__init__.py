"""The parts of `python -m benchmarks`: each module has `run(options) -> list[Table]`."""

import csv
import dataclasses
import io
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.contest import Contestant, Failed, Rates, apart, hold, ratios


@dataclasses.dataclass(frozen=True)
class Options:
    """How a part measures.

    quick: a rough look; folder: where figures go, None where nothing is saved; networks: which, where a part has
    several, None for all; together: contestants get ready side by side, where there are cores for it.
    """

    quick: bool = False
    folder: Path | None = None
    networks: tuple[str, ...] | None = None
    together: bool = False
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)

    @property
    def rounds(self) -> int:
        """Rounds of a contest, the first of which warms up."""
        return 3 if self.quick else 4

    @property
    def seconds(self) -> float:
        """Of a turn, at least one step."""
        return 0.3 if self.quick else 0.8


@dataclasses.dataclass
class Table:
    """Rows under a title; notes say what the numbers are. A row may lack columns."""

    title: str
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(key for row in self.rows for key in row))

    def markdown(self) -> str:
        lines = [f"## {self.title}", ""]
        if self.rows:
            cells = [[_shown(row.get(c)) for c in self.columns] for row in self.rows]
            lines += [f"| {' | '.join(row)} |" for row in [self.columns, *cells]]
            lines.insert(3, "|---" * len(self.columns) + "|")
        return "\n".join([*lines, "", *self.notes, ""])

    def csv(self) -> str:
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["table", *self.columns])
        rows.writerows([self.title, *(row.get(c, "") for c in self.columns)] for row in self.rows)
        return text.getvalue()


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "-" if value is None else str(value)


def contest(contestants: list[Contestant], options: Options) -> tuple[Rates, dict[str, str]]:
    """A contest of the part's length; in a quick one every turn may be a single step."""
    if options.quick:
        contestants = [dataclasses.replace(c, least=1) for c in contestants]
    return hold(contestants, options.rounds, options.seconds, options.say, options.together)


def median(rates: Rates, name: str) -> float | None:
    """The middle rate, None for who failed."""
    return statistics.median(rates[name]) if name in rates else None


def times(rates: Rates, one: str, other: str) -> str | None:
    """How many times faster, within a round: the median, lowest and highest."""
    if one not in rates or other not in rates:
        return None
    found = ratios(rates, one, other)
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def failed(failures: dict[str, str]) -> list[str]:
    """Notes about who failed."""
    return [f"{name} failed: {reason}" for name, reason in failures.items()]


def measured(options: Options, what: str, task: Callable, **arguments: Any) -> tuple[Any, str]:
    """(what the task returned in a process of its own, "") or (None, why not)."""
    options.say(what)
    try:
        return apart(task, **arguments), ""
    except Failed as reason:
        options.say(f"{what} failed: {reason}")
        return None, f"{what} failed: {reason}"
