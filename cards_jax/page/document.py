"""Pages: one self-contained HTML file about a run, about several, about a deck. No network, no files beside it."""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

import cards_jax
from cards_jax.page.html import Html, Section, join, tag

Child = Any


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text()


def document(kind: str, title: str, lead: Child, sections: Sequence[Section | None]) -> str:
    """The whole file.

    A policy in its head forbids everything that does not lie in it, and every script but ours: were a name ever not
    escaped, it still would not run.
    """
    style, script = _asset("style.css"), _asset("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    there = [part for part in sections if part]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content=f"cards_jax {cards_jax.__version__}"),
        tag("title", f"{title} \u2013 cards_jax"),
        tag("link", rel="icon", href="data:,"),
        tag("style", Html(style)),
    )
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#content", class_="skip"),
        tag("header", tag("p", f"cards_jax {kind}", class_="kind"), tag("h1", title), lead),
        _contents(there),
        tag("main", [part.html() for part in there], id="content", tabindex=-1),
        tag("script", Html(script)),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _contents(sections: Sequence[Section]) -> Html:
    """Links to the sections."""
    links = [tag("li", tag("a", part.title, href=f"#{part.identity}")) for part in sections]
    return tag("nav", tag("ul", links), aria_label="Contents") if links else join()
