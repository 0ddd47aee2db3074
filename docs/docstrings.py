"""Docstrings of this package as reStructuredText: they are plain sentences with a few habits of layout.

Within a paragraph `name: ...` and `name(...) -> ...: ...` begin an entry, `Args:` heads a list of them, two spaces or
more between two columns make a table, and deeper lines after a blank one are code. Backquotes are code.
"""

import re
from collections.abc import Iterator, Sequence

# `name, name: text`, or `f(x) -> y: text`; a sentence with a colon in it is none.
NAME = r"[\w.*]+(?:\([^()]*\))?"
ENTRY = re.compile(rf"(?P<head>{NAME}(?:, {NAME})*(?: -> [^:{{]+)?): (?P<body>\S.*)")
RESULT = re.compile(r"(?P<head>\w+\([^()]*\)) -> (?P<body>\S.*)")
COLUMNS = re.compile(r"(?P<head>\S(?:.*?\S)?) {2,}(?P<body>\S.*)")
SPECIAL = re.compile(r"([\\*_|])")


def rst(lines: Sequence[str]) -> list[str]:
    """A docstring's lines, without their common indent, as reStructuredText; its first line is always a sentence."""
    out: list[str] = []
    for i, block in enumerate(_blocks(lines)):
        if i == 0 and not _indent(block[0]) and block[0] != "Args:":
            out += [_text(block[0]), *(["", *_block(block[1:])] if _starts(block[1:]) else [])]
            out += [] if _starts(block[1:]) else [_text(line.strip()) for line in block[1:]]
        else:
            out += _block(block)
        out.append("")
    return out


def _starts(block: Sequence[str]) -> bool:
    """Whether what follows a first line is a list of its own, and not the rest of a sentence."""
    return bool(block) and bool(_indent(block[0]) or _head(block[0]))


def _blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Paragraphs: runs of lines between blank ones."""
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line.rstrip())
        elif block:
            yield block
            block = []


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _block(block: list[str]) -> list[str]:
    if all(_indent(line) >= 4 for line in block):
        return [".. code-block:: text", "", *("    " + line[4:] for line in block)]
    if block[0] == "Args:":
        return [".. rubric:: Arguments", "", *_entries(block[1:])]
    if block[0].startswith(("- ", "* ")):
        return [_text(line) if _indent(line) else f"- {_text(line[2:])}" for line in block]
    first, rest = block[0], block[1:]
    if rest and not _head(first) and all(_indent(line) for line in rest):
        return [_text(first), "", *_list(rest)]  # a sentence and what belongs to it
    if any(map(_head, block)):
        return _mixed(block)
    return [_text(line.lstrip()) for line in block]


def _head(line: str) -> re.Match | None:
    line = line.strip()
    found = ENTRY.fullmatch(line) or RESULT.fullmatch(line)
    return found or (None if _sentence(line) else COLUMNS.fullmatch(line))


def _sentence(line: str) -> bool:
    return "   " not in line and bool(re.search(r"[.:] {2}", line))


def _mixed(block: list[str]) -> list[str]:
    """Sentences, then entries."""
    at = next(i for i, line in enumerate(block) if _head(line))
    lead = [_text(line.strip()) for line in block[:at]]
    return [*lead, *([""] if lead else []), *_entries(block[at:])]


def _entries(block: list[str]) -> list[str]:
    """A list; lines that begin no entry belong to the one above."""
    base = min(map(_indent, block))
    out: list[str] = []
    for line in block:
        head = _head(line) if _indent(line) == base else None
        if head:
            out.append(f"- ``{head['head']}``: {_text(head['body'])}")
        elif out:
            out.append(f"  {_text(line.strip())}")
        else:
            out.append(f"- {_text(line.strip())}")
    return out


def _list(block: list[str]) -> list[str]:
    """One item for each line, where deeper lines belong to the one above."""
    base = min(map(_indent, block))
    mark = lambda line: "- " if _indent(line) == base else "  "
    return [f"{mark(line)}{_text(line.strip())}" for line in block]


def _text(line: str) -> str:
    """A line whose characters mean themselves; backquotes are code, **stars** bold, *star* emphasis."""
    pieces = re.split(r"(`[^`]+`|\*\*[^*]+\*\*|(?<!\w)\*\w[^*]*\*(?!\w))", line)
    return "".join(_piece(piece) for piece in pieces)


def _piece(piece: str) -> str:
    if piece.startswith("`"):
        return f"``{piece[1:-1]}``"
    if piece.startswith("*") and piece.endswith("*") and len(piece) > 2:
        return piece
    return SPECIAL.sub(r"\\\1", piece).replace("`", "\\`")


def _event(app, what, name, obj, options, lines: list[str]) -> None:
    lines[:] = rst(lines)


def setup(app) -> dict:
    app.connect("autodoc-process-docstring", _event)
    return {"parallel_read_safe": True}
