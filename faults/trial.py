"""One fault that was tried and what came of it; trials as rows and as a table."""

import csv
import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

SAME = "went on to the same end, bit for bit"
REFUSED = "refused with a reason"
BEFORE = "the good one before is used, which is said"
HARMLESS = "harmless: the same content, or an untouched one, is used"
MENDED = "made again, which is said, to the same end"
LOST, SILENT, TRACEBACK, HUNG = "LOST", "SILENTLY WRONG", "TRACEBACK", "HUNG"
GOOD = (SAME, REFUSED, BEFORE, HARMLESS, MENDED)
BAD = (LOST, SILENT, TRACEBACK, HUNG)
COLUMNS = ("kind", "fault", "tried", "outcome", "lost", "silent", "said", "date", "commit")


@dataclasses.dataclass(frozen=True)
class Trial:
    """fault: what was done to what. said: the line that tells the user."""

    fault: str
    outcome: str
    said: str = ""

    def __post_init__(self):
        if self.outcome not in GOOD + BAD:
            raise ValueError(f"outcome={self.outcome!r}: no such one")


def plainly(text: str) -> str:
    """The last line of what was said, without the places and numbers of one run."""
    line = (text.strip().splitlines() or [""])[-1]
    line = re.sub(r"(?<![\w.])/(?:[^\s/:;,'\")]+/)+", ".../", line)
    line = re.sub(r"process \d{3,}", "process N", line)
    return line if len(line) < 240 else line[:237] + "..."


def rows(kind: str, trials: Iterable[Trial], about: dict[str, str]) -> list[dict]:
    """One row for every fault and outcome, with one example of what was said."""
    found: dict[tuple, list[Trial]] = {}
    for trial in trials:
        found.setdefault((trial.fault, trial.outcome), []).append(trial)
    return [
        {
            "kind": kind,
            "fault": fault,
            "tried": len(group),
            "outcome": outcome,
            "lost": len(group) * (outcome == LOST),
            "silent": len(group) * (outcome == SILENT),
            "said": next((plainly(t.said) for t in group if t.said), ""),
            **about,
        }
        for (fault, outcome), group in found.items()
    ]


def read(path: Path) -> list[dict]:
    """The rows of a campaign that was begun."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def markdown(found: list[dict], notes: list[str]) -> str:
    """All rows for people: a line of sums for every kind, then every fault."""
    lines = ["# Faults", "", *(f"- {note}" for note in notes), ""]
    head = ["kind", "tried", "lost", "silently wrong", "tracebacks or hangs", "date", "commit"]
    lines += [_line(head), "|---" * len(head) + "|"]
    kinds = list(dict.fromkeys(row["kind"] for row in found))
    for kind in [*kinds, None]:
        group = [row for row in found if kind in (row["kind"], None)]
        tried, lost, silent = (
            sum(int(row[k]) for row in group) for k in ("tried", "lost", "silent")
        )
        broken = sum(int(row["tried"]) for row in group if row["outcome"] in (TRACEBACK, HUNG))
        about = [group[0]["date"], group[0]["commit"]] if kind and group else ["", ""]
        lines.append(_line([kind or "all", f"{tried:,}", lost, silent, broken, *about]))
    lines += [
        "",
        "Columns below: what was done; how often; what came of it; an example of the line that tells.",
    ]
    for kind in kinds:
        lines += [
            "",
            f"## {kind}",
            "",
            _line(["fault", "tried", "outcome", "said"]),
            "|---" * 4 + "|",
        ]
        for row in found:
            if row["kind"] == kind:
                lines.append(_line([row[k] for k in ("fault", "tried", "outcome", "said")]))
    return "\n".join(lines) + "\n"


def _line(cells: Iterable) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
