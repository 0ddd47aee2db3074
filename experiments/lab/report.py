"""The page of an experiment: its tables and claims, pictures, curves, corruptions, heatmaps, sizes and commands.

One file beside the figures that needs nothing else, in the form of cards_jax/page: everything on it is there already,
as a table, a picture or a measurement; nothing is computed for it but means.
"""

import base64
import shlex
from collections.abc import Sequence
from pathlib import Path

from cards_jax import files, pack, robust_summary, robust_tables, size
from cards_jax.page import about, curves, heat, matrix, outcome, tables, weights
from cards_jax.page.document import document
from cards_jax.page.html import Html, Section, details, join, section, tag
from cards_jax.page.outcome import Heats
from cards_jax.summary import told_apart
from lab import draw, summary, sweep
from lab.collect import Card, Findings
from lab.plan import Place, Run, arguments

NAME = "report.html"
FIRST = ("summary.md", "verdicts.md")  # tables in their order, then those of the experiment itself


def write(
    findings: Findings,
    question: str,
    out: Path,
    named: dict[str, Run],
    place: Place,
    command: Sequence[str],
) -> Path:
    """OUT/report.html, from what `collect` and `draw` left there; its path."""
    alive = [card for card in findings.cards if card.alive]
    sections = [
        _tables(out),
        _pictures(out),
        curves.history(_metrics(findings)),
        _corruptions(findings, alive),
        _heatmaps(findings, alive),
        weights.sizes(_sizes(alive)),
        _commands(findings, named, place, command, out),
        section("files", "Files", about.files(out, out)),
    ]
    lead = join(tag("p", question, class_="lead"), tag("p", draw.about(findings)))
    files.write_atomically(out / NAME, document("experiment", findings.experiment, lead, sections))
    return out / NAME


def _tables(out: Path) -> Section | None:
    there = sorted(path.name for path in out.glob("*.md") if path.name not in FIRST)
    names = [name for name in (*FIRST, *there) if (out / name).is_file()]
    titles = {"summary.md": "What every group reached", "verdicts.md": "The paper's claims"}
    shown = []
    for name in names:
        title = titles.get(name, Path(name).stem.replace("_", " "))
        for i, table in enumerate(tables.read((out / name).read_text())):
            which = "Relative to dense" if name == FIRST[0] and i else title
            shown.append(tables.render(table, which, f"table-{Path(name).stem}-{i}"))
    return section("results", "Results", shown) if shown else None


def _pictures(out: Path) -> Section | None:
    shown = []
    for path in sorted(out.glob("*.png")):
        words = path.stem.replace("_", " ")
        source = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        image = tag("img", src=source, alt=f"Figure {words}; its numbers are in the tables above")
        caption = tag("figcaption", words)
        shown.append(tag("figure", image, caption, class_="picture"))
    return section("figures", "Figures", shown) if shown else None


def _metrics(findings: Findings) -> list[tuple[str, list]]:
    """(label, metrics) of each run."""
    folders = {card.path.parent.parent: card.run.label for card in findings.cards}
    there = [(label, path) for path, label in folders.items() if outcome.is_run(path)]
    return [(label, outcome.read(path).metrics) for label, path in there]


def _split(findings: Findings, alive: Sequence[Card]) -> tuple[list[Card], list[Card]]:
    """(dense cards that all others can be compared with, the others): no controls, and none where cards of several
    widths or augmentations have a dense group each."""
    bases = summary.bases(findings)
    is_base = lambda card: (card.run.name, card.result["sparsity"]) in bases
    return [c for c in alive if is_base(c)], [c for c in alive if not is_base(c)]


def _corruptions(findings: Findings, alive: Sequence[Card]) -> Section | None:
    """Every kind of card by corruption and severity."""
    if findings.source is None or any(card.score is None for card in alive) or not alive:
        return None
    dense, others = ([card.score for card in cards] for cards in _split(findings, alive))
    found = robust_summary.summarise(findings.source, findings.title, others, dense)
    text = robust_tables.texts(found)["corruptions.md"]
    part = matrix.Part(findings.experiment, tables.read(text), found.rows, found.cells)
    return matrix.robustness([part])


def _heatmaps(findings: Findings, alive: Sequence[Card]) -> Section | None:
    if any(card.heat is None for card in alive) or not alive:
        return None
    dense, others = ([card.heat for card in cards] for cards in _split(findings, alive))
    images = alive[0].heat.wrong.shape[-1]
    known = {"eps": list(findings.wanted.eps), "images": images, "data": findings.title}
    held = Heats([*others, *dense], len(dense), known)
    return heat.spectra([(findings.experiment, held, [])])


def _sizes(alive: Sequence[Card]) -> dict[str, list[size.Table]]:
    configs = [pack.meta(card.path).get("config") or {} for card in alive]
    results = told_apart([card.result for card in alive], configs)
    pairs = zip(results, (size.table(card.path, card.path.name) for card in alive), strict=True)
    return weights.kinds(list(pairs))


def _commands(
    findings: Findings, named: dict[str, Run], place: Place, command: Sequence[str], out: Path
) -> Section:
    """What was typed, and the command of every run, with a link to its own page."""
    folders = {card.run.name: card.path.parent.parent for card in findings.cards}
    each: list[Html] = []
    for name, folder in folders.items():
        run, page = named[name], folder / "report.html"
        step = sweep.known(run, named, place)
        link = about.link(page, out, run.label) if page.is_file() else run.label
        line = arguments(run, place, step.given if step else {})
        text = shlex.join(["python", "-m", "cards_jax.main", *line])
        each.append(join(tag("h3", link), about.code(text)))
    return section(
        "commands",
        "Commands",
        tag("p", "This page was made with"),
        about.code(shlex.join(command)),
        details(f"Commands of the {len(each)} runs", each),
    )
