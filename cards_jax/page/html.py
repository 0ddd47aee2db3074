"""HTML as strings that cannot be injected into: every text is escaped unless it is Html already."""

import dataclasses
import json
from collections.abc import Iterable
from html import escape
from typing import Any

VOID = ("meta", "link", "img", "br", "input")


class Html(str):
    """Text that is markup; everything else is escaped where it is put into a tag."""


Child = str | int | float | None | Iterable["Child"]


def join(*children: Child) -> Html:
    """The children one after another; None is nothing, lists are flattened."""
    parts = []
    for child in children:
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, str | int | float):
            parts.append(escape(str(child)))
        elif child is not None:
            parts.append(join(*child))
    return Html("".join(parts))


def tag(name: str, /, *children: Child, **attributes: Any) -> Html:
    """One element. Attributes: `class_` is class, `_` is `-`; True is a bare name, None and False are left out."""
    text = "".join(
        f" {key.rstrip('_').replace('_', '-')}"
        + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{name}{text}>" if name in VOID else f"<{name}{text}>{join(*children)}</{name}>")


def data(identity: str, value: Any) -> Html:
    """A block of JSON for the script; nothing in it can end the block."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{escape(identity)}">{text}</script>')


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page with a heading that it is named by, and a place in the list of contents."""

    identity: str
    title: str
    content: Html

    def html(self) -> Html:
        name = f"{self.identity}-title"
        heading = tag("h2", self.title, id=name)
        return tag("section", heading, self.content, id=self.identity, aria_labelledby=name)


def section(identity: str, title: str, *children: Child) -> Section:
    """A section of these children."""
    return Section(identity, title, join(*children))


def details(summary: Child, *children: Child, open_: bool = False) -> Html:
    """What is shown on demand, also without a script."""
    return tag("details", tag("summary", summary), *children, open=open_)


def picker(identity: str, label: str, options: Iterable[str]) -> Html:
    """A labelled choice; its values are the numbers of the options. Not shown where there is nothing to choose."""
    options = list(options)
    choices = [tag("option", text, value=i) for i, text in enumerate(options)]
    select = tag("select", choices, id=identity, autocomplete="off")
    return tag("label", tag("span", label), select, hidden=len(options) < 2, for_=identity)
