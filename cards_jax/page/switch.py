"""One of several parts at a time."""

from cards_jax.page.html import Html, join, picker, tag


def switched(identity: str, label: str, parts: dict[str, Html]) -> Html:
    """One of several parts, by a picker; without a script all of them, one below another."""
    choice = picker(f"{identity}-pick", label, parts)
    panels = [tag("div", part, data_panel=i) for i, part in enumerate(parts.values())]
    return tag(
        "div", tag("div", choice, class_="controls script"), panels, class_="switch", id=identity
    )


def under(parts: dict[str, Html]) -> dict[str, Html]:
    """Each part below a heading of its name."""
    return {name: join(tag("h3", name), part) for name, part in parts.items()}
