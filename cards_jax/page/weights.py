"""What cards weigh and where they are dense: layer by layer, in the paper's bytes and in true ones."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from cards_jax import size, summary, tabular
from cards_jax.page import tables
from cards_jax.page.html import Html, Section, details, section
from cards_jax.page.switch import switched

Row = dict[str, Any]
BYTES = (
    "Paper bytes count the kept weights alone (32 bits each, 1 where they are binary); true bytes are what the "
    "card's file takes, with masks, gains, BatchNorm and what it says of itself."
)


def kinds(found: Sequence[tuple[Row, size.Table]], run: str = "") -> dict[str, list[size.Table]]:
    """Sizes of cards by what tells the cards apart but for their seed, which is in their name; `run` begins it."""
    rows = [result for result, _ in found]
    keys = ["method", *(k for k in summary.POINT if k != "method")]
    out: dict[str, list[size.Table]] = {}
    for result, one in found:
        label = tabular.named(rows, result, keys) or str(result.get("method") or "cards")
        label = f"{run} {label}".strip()
        known = result.get("seed") is not None
        name = f"{label}, seed {result['seed']}" if known else one.name
        out.setdefault(label, []).append(dataclasses.replace(one, name=name))
    return out


def density(groups: dict[str, Sequence[size.Table]]) -> tables.Table | None:
    """Layers by kinds of cards: percent of the weights that are kept, mean over cards (smallest to largest)."""
    layers = list(dict.fromkeys(row.name for g in groups.values() for t in g for row in t.layers))
    if not layers:
        return None
    body = []
    for name in [*layers, None]:
        cells = []
        for group in groups.values():
            rows = [
                next((r for r in t.layers if r.name == name), None) if name else t.total
                for t in group
            ]
            kept = [100 * r.kept / r.weights for r in rows if r and r.weights]
            cells.append(_range(kept))
        body.append([name or "all layers", *cells])
    text = "Kept weights in percent, mean over cards (smallest to largest where they differ)."
    return tables.of_rows(text, ["layer", *groups], body)


def _range(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, mean, high = (f"{f(values):.2f}" for f in (min, np.mean, max))
    return mean if low == high else f"{mean} ({low} to {high})"


def of_card(table: size.Table, identity: str, title: str) -> Html:
    """All sizes of one card."""
    head, *body = [list(size.COLUMNS), *(size.shown(row) for row in table.rows)]
    text = f"{BYTES} {table.summary().replace(chr(10), '; ')}."
    return tables.render(tables.of_rows(text, head, body), title, identity)


def totals(cards: Sequence[size.Table]) -> tables.Table:
    """Both sizes of every card, beside its weights in float32."""
    body = []
    for one in cards:
        total, whole = one.total, 4 * one.total.weights
        share = lambda x, whole=whole: f"{100 * x / whole:.2f}" if whole else ""
        numbers = [
            f"{total.weights:,}",
            f"{total.kept:,}",
            f"{total.paper:,.0f}",
            share(total.paper),
        ]
        body.append([one.name, *numbers, f"{total.true:,}", share(total.true)])
    head = [
        "card",
        "weights",
        "kept",
        "paper bytes",
        "(% of float32)",
        "true bytes",
        "(% of float32)",
    ]
    return tables.of_rows(BYTES, head, body)


def sizes(groups: dict[str, Sequence[size.Table]]) -> Section | None:
    """The section on sizes; of each kind of card all layers of its first one. None without cards."""
    if not groups:
        return None
    known = density(groups)
    each = {
        label: of_card(group[0], f"size-{i}", f"Sizes of {group[0].name}")
        for i, (label, group) in enumerate(groups.items())
    }
    return section(
        "sizes",
        "Density and sizes",
        tables.render(known, "Density by layer", "density") if known else None,
        tables.render(
            totals([one for group in groups.values() for one in group]),
            "Sizes of the cards",
            "totals",
        ),
        details("Layer by layer", switched("size-view", "Card", each)),
    )
