"""The page of a deck: its cards and gate, how it did under corruptions, what its gate chose."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from cards_jax import deck_file, deck_table, size
from cards_jax.config import ConfigError
from cards_jax.deck import Deck
from cards_jax.files import sha256
from cards_jax.page import about, matrix, tables, weights
from cards_jax.page.chart import colour
from cards_jax.page.document import document
from cards_jax.page.html import Html, Section, details, join, section, tag
from cards_jax.page.tables import Table


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `deck evaluate --save=STEM` left: STEM.md as tables, and what STEM.json says of it."""

    path: Path
    tables: list[Table]
    text: str
    about: dict[str, Any]


def stem_of(path: Path) -> Path:
    """A deck's path without its suffix, where it has that of decks."""
    return path.with_suffix("") if path.suffix == deck_file.SUFFIX else path


def read_evaluation(stem: Path, deck: Path) -> Evaluation | None:
    """None where there is none, of several decks what is about this one; ConfigError where it is that of another."""
    file, note = (stem.with_name(f"{stem.name}.{kind}") for kind in ("md", "json"))
    if not file.is_file():
        return None
    text = file.read_text()
    found = {}
    if note.is_file():
        try:
            found = dict(json.loads(note.read_text()))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{note}: cannot be read ({error})") from None
    mine, several = sha256(deck), found.get("decks") or {}
    names = [name for name, theirs in several.items() if theirs == mine]
    if found.get("deck_sha256") not in (None, mine) or several and not names:
        raise ConfigError(
            f"evaluation={str(stem)!r}: is of another deck than {deck}; evaluate this one"
        )
    if len(several) > 1:
        head, *parts = text.split("\n## ")
        own = [part.partition("\n") for part in parts if part.partition("\n")[0] in names[:1]]
        text = "\n".join([head, *(rest for _, _, rest in own)])
    return Evaluation(stem, tables.read(text), text.split("\n", 1)[0], found)


def of_deck(path: Path, evaluation: Path | None, base: Path) -> str:
    """The page of a deck's file beside its evaluation; ConfigError for a card, ValueError for a damaged file."""
    deck = deck_file.load(path)
    if not isinstance(deck, Deck):
        raise ConfigError(f"{path}: is a card; allowed are decks and folders of runs")
    found = read_evaluation(evaluation or stem_of(path), path)
    if evaluation and found is None:
        raise ConfigError(f"evaluation={str(evaluation)!r}: there is no {evaluation.name}.md")
    return page(path, deck, found, base)


def page(path: Path, deck: Deck, found: Evaluation | None, base: Path) -> str:
    """The document of a deck."""
    names = deck_table.card_names(deck)
    tables_of = [size.table(m.content, name) for m, name in zip(deck.members, names, strict=True)]
    sized = {one.name: [one] for one in tables_of}
    sections = [
        section("cards", "Cards", tables.render(_cards(deck), "Cards of the deck", "cards-table")),
        *(_measured(deck, found) if found else ()),
        _gate(deck),
        weights.sizes(sized),
        _configs(deck),
        _files(path, found, base),
    ]
    gate = (
        f"a gate picks among {', '.join(g.label for g in deck.groups)}"
        if deck.gate
        else "no gate: all cards answer"
    )
    H, W, C = deck.image_HWC
    lead = join(
        tag("p", f"{len(deck)} cards; {gate}", class_="lead"),
        about.facts(
            [
                ("images", f"{H} x {W} x {C}"),
                ("classes", deck.num_classes),
                ("paper bytes", f"{deck_file.paper_bytes(deck):,.0f}"),
                ("true bytes", f"{deck_file.true_bytes(deck):,}"),
            ]
        ),
    )
    return document("deck", path.stem, lead, sections)


def _cards(deck: Deck) -> Table:
    body = []
    for name, member in zip(deck_table.card_names(deck), deck.members, strict=True):
        result = member.file.meta.get("result") or {}
        total = size.table(member.content, member.name).total
        percent = lambda key, result=result: (
            f"{100 * result[key]:.2f}" if result.get(key) is not None else ""
        )
        words = [
            name,
            member.name,
            str(result.get("method", "")),
            str(result.get("model", "")),
        ]
        numbers = [result.get("seed"), percent("sparsity"), percent("test_accuracy")]
        body.append([*words, *numbers, f"{total.paper:,.0f}", f"{total.true:,}"])
    head = ["card", "file", "method", "model", "seed", "sparsity (%)", "test accuracy (%)"]
    text = "Paper bytes count the kept weights alone; true bytes are a card's file. A gate is in neither."
    return tables.of_rows(text, [*head, "paper bytes", "true bytes"], body, 4)


def _measured(deck: Deck, found: Evaluation) -> list[Section]:
    """Accuracies, choices and controls; whatever of them there is."""
    out, gates = [], 0
    several = sum(map(_tells_choices, found.tables)) > 1
    for table in found.tables:
        named = dataclasses.replace(table, head=(table.head[0] or "corruption", *table.head[1:]))
        if named.head[0] == "deck":
            shown = tables.render(named, "Cards and decks, with their sizes", "summary-table")
            out.append(section("summary", "Summary", shown))
        elif named.head[0] == "predictor":
            out.append(
                section(
                    "controls",
                    "Controls",
                    tables.render(named, "Accuracy under controls", "controls-table"),
                )
            )
        elif _tells_choices(named):
            gates += 1
            suffix = f"-{gates}" if gates > 1 else ""  # of other settings of the gate
            setting = re.search(r"\(([^()]+)\)\.?$", named.text) if several else None
            title = f"Gate choices: {setting[1]}" if setting else "Gate choices"
            shown = choices(deck, named, f"choices-table{suffix}")
            out.append(section(f"choices{suffix}", title, shown))
        else:
            shown = matrix.shaded(named, "Accuracy by corruption", "accuracy-table")
            out.append(section("accuracy", "Corruptions", tables.prose(found.text), shown))
    return out


def _tells_choices(table: Table) -> bool:
    if table.head[0] in ("deck", "predictor"):
        return False
    return any("/" in cell for row in table.body for cell in row[1:])


def choices(deck: Deck, table: Table, identity: str) -> Html:
    """Which cards batches went to: shares as bars with their numbers."""
    labels = [group.label for group in deck.groups]

    def cell(r: int, c: int) -> Html | None:
        shares = [tables.number(x) for x in table.body[r][c].split("/")] if c else []
        if len(shares) != len(labels) or None in shares:
            return None
        bars = [
            tag("i", style=f"--w:{share:g};--c:{colour(i, len(labels))}")
            for i, share in enumerate(shares)
        ]
        return join(
            tag("span", table.body[r][c]), tag("span", bars, class_="bar", aria_hidden="true")
        )

    key = [
        tag("li", tag("i", class_="swatch", style=f"--c:{colour(i, len(labels))}"), label)
        for i, label in enumerate(labels)
    ]
    return join(
        tag("ul", key, class_="legend"),
        tables.render(table, "Batches by group of cards", identity, cell=cell),
    )


def _gate(deck: Deck) -> Section | None:
    if deck.gate is None:
        return None
    written = deck.gate.settings.written()
    flat = {
        f"{k}.{n}" if isinstance(v, dict) else k: w
        for k, v in written.items()
        for n, w in (v.items() if isinstance(v, dict) else [("", v)])
    }
    _, P, F = deck.gate.references_APF.shape
    pairs = [*flat.items(), ("references of each group", f"{P:,}"), ("frequencies", F)]
    return section("gate", "Gate", about.facts([(str(k), str(v)) for k, v in pairs]))


def _configs(deck: Deck) -> Section:
    """What the cards were trained with: fields in common, and those in which they differ."""
    each = [dict(m.file.meta.get("config") or {}) for m in deck.members]
    keys = list(dict.fromkeys(k for c in each for k in c))
    differ = [k for k in keys if len({str(c.get(k)) for c in each}) > 1]
    same = [[k, each[0].get(k)] for k in keys if k not in differ]
    names = deck_table.card_names(deck)
    body = [[name, *(c.get(k) for k in differ)] for name, c in zip(names, each, strict=True)]
    stacks = {json.dumps(m.file.meta.get("versions") or {}, sort_keys=True) for m in deck.members}
    return section(
        "config",
        "Config",
        tables.render(
            tables.of_rows(
                "Fields that differ from the defaults, of all cards.", ["field", "value"], same, 2
            ),
            "Config of the cards",
            "config-same",
        ),
        tables.render(
            tables.of_rows(
                "Fields in which the cards differ.", ["card", *differ], body, 1 + len(differ)
            ),
            "Differences",
            "config-differ",
        )
        if differ
        else None,
        [
            details("Versions", about.versions(json.loads(text)))
            for text in sorted(stacks)
            if text != "{}"
        ],
    )


def _files(path: Path, found: Evaluation | None, base: Path) -> Section:
    stem = found.path if found else path.with_suffix("")
    there = [path, *(stem.with_name(f"{stem.name}.{kind}") for kind in ("md", "csv", "json"))]
    items = [
        tag("li", about.link(p, base), f" {p.stat().st_size:,} bytes") for p in there if p.is_file()
    ]
    command = found.about.get("command") if found else None
    return section(
        "files",
        "Files and command",
        tag("ul", items, class_="files"),
        join(tag("p", "Evaluated with"), about.code(str(command))) if command else None,
    )
