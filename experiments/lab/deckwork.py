"""Decks in experiments: the runs that their cards come from, tables of how they did, answers to the paper's claims."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cards_jax import files, gate, tabular
from cards_jax.deck_plot import LARGEST, SMALLEST
from cards_jax.evaluate import bootstrap
from cards_jax.evaluate.bootstrap import Estimate
from lab import collect, decks, draw, verdict
from lab.collect import Card, Findings
from lab.decks import ADAPTIVE, AGNOSTIC, AUGMENTS, Decks
from lab.plan import Run
from lab.recipes import family
from lab.scales import Scale

NAMES = {"lth": "LTH", "lrr": "LRR", "ep_global": "EP, binary", "bp_global": "BP, binary"}
METHODS = ("lrr", "ep_global")  # of decks
MARKERS = {"": "o", "augmix": "s", "gaussian": "^"}
DENSE = "dense"


def network(scale: Scale) -> str:
    """Whose cards decks are made of."""
    return "wrn18_2" if scale.is_paper else scale.one


def sparsity(scale: Scale) -> float:
    """Of the cards of decks."""
    return 0.945 if scale.is_paper else scale.middle


def runs(network: str, sparsity: float, scale: Scale, methods: Sequence[str] = ()) -> list[Run]:
    """Cards of both augmentations, and dense networks of these and of clean images."""
    found = []
    for augment in ("standard", *AUGMENTS):
        found += family(DENSE, network, scale, None, scale.augmented, augment)
    for kind in methods or METHODS:
        for augment in AUGMENTS:
            found += family(kind, network, scale, (sparsity,), scale.augmented, augment)
    return found


def pair_runs(method: str, scale: Scale) -> list[Run]:
    """Cards of one method with both augmentations, of which one deck is shown."""
    mine = runs(network(scale), sparsity(scale), scale, (method,))
    return [run for run in mine if not run.name.startswith((DENSE, f"tune_{DENSE}"))]


def first_deck(findings: Findings, method: str, size: int) -> list[Card]:
    """The cards of the one deck of a method that is shown; [] where cards are missing."""
    scale = findings.scale
    kinds = cards_of(findings, network(scale), sparsity(scale), (method,))
    return next(iter(decks.members(kinds[NAMES[method]], size)), [])


def of_one(hand: Sequence[Card]) -> str:
    """What a caption says of a single deck in the place of a number of seeds."""
    seeds = ", ".join(map(str, sorted({card.result["seed"] for card in hand})))
    return f"one deck, of the cards of seeds {seeds}: no interval"


def cards_of(findings: Findings, network: str, sparsity: float, methods: Sequence[str] = ()):
    """{label: {augmentation: cards by seed}}."""
    found = {}
    for kind in (DENSE, *(methods or METHODS)):
        augments = ("standard", *AUGMENTS) if kind == DENSE else AUGMENTS
        at = 0.0 if kind == DENSE else sparsity
        own = {a: findings.group(f"{kind}_{network}_{a}", at) for a in augments}
        found[NAMES.get(kind, kind)] = {a: cards for a, cards in own.items() if cards}
    return found


def measured(
    findings: Findings,
    network: str,
    sparsity: float,
    sizes: Sequence[int],
    out: Path,
    settings: gate.Settings = gate.OURS,
    methods: Sequence[str] = (),
) -> list[Decks]:
    """Every single card and every deck."""
    return decks.measured(
        decks.kinds_of(cards_of(findings, network, sparsity, methods), sizes),
        findings.wanted,
        findings.scale.references,
        out.parents[1],
        print,
        settings,
    )


def find(found: Sequence[Decks], label: str, size: int, way: str) -> Decks | None:
    """The decks of that kind."""
    return next((d for d in found if (d.label, d.size, d.way) == (label, size, way)), None)


def answers(found: Sequence[Decks]) -> list[dict[str, Any]]:
    """The paper's claims about decks: written before any run, by the rule of verdict.py."""
    dense = find(found, f"{DENSE}", 1, "")
    rows = []
    for label in map(NAMES.get, METHODS):
        ways = [find(found, label, 2, way) for way in (ADAPTIVE, AGNOSTIC)]
        text = f"adaptive decks of two are more robust than agnostic ones ({label})"
        rows.append(_judged(text, *ways, "corrupted", 1, None, "1 to 2 points"))
    binary = NAMES["ep_global"]
    for size in sorted({d.size for d in found if d.size > 1}):
        for measure in ("clean", "corrupted"):
            text = f"binary decks of {size} match dense within 1 point"
            deck = find(found, binary, size, ADAPTIVE)
            rows.append(_judged(text, deck, dense, measure, 1, 1.0))
    return rows


def _judged(
    claim, a: Decks | None, b: Decks | None, measure, sign, within, paper=""
) -> dict[str, Any]:
    name = lambda d: f"{d.label} {d.size} {d.way}".strip() if d else "missing"
    estimate = difference(a, b, measure) if a and b else None
    answer = verdict.answer(estimate, sign, within)
    return verdict.row_of(claim, measure, f"{name(a)} minus {name(b)}", estimate, answer, paper)


def difference(a: Decks, b: Decks, measure: str) -> Estimate | None:
    """Of two kinds of decks in points, paired by the seed that they begin with; None where no seed has both.

    One deck of all seeds is held against the mean of the others.
    """
    sides = [100 * getattr(d, measure).astype(float) for d in (a, b)]
    if 1 in map(len, sides):
        sides = [side.mean(0, keepdims=True) for side in sides]
    else:
        common = [seed for seed in a.firsts if seed in b.firsts]
        if not common:
            return None
        sides = [
            side[[d.firsts.index(seed) for seed in common]]
            for side, d in zip(sides, (a, b), strict=True)
        ]
    count = len(sides[0])
    shared = min(max(d.shared for d in (a, b)), max(count - 1, 1))
    weights = verdict.weights_of(sides[0].shape[1])
    return bootstrap.difference(*sides, weights, paired=True, shared=shared)


def provenance(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a row about several cards, whose own rows these are, says of where it comes from: each value there is."""
    keys = ("experiment", "scale", "network", "data", "corruptions", "corruption_images")
    keys = (*keys, "config_hash", *collect.VERSIONS)
    each = {k: dict.fromkeys(str(row[k]) for row in rows if row.get(k) is not None) for k in keys}
    return {k: "; ".join(values) for k, values in each.items()}


def rows(found: Sequence[Decks], findings: Findings) -> list[dict[str, Any]]:
    """A row for every kind of deck, with what its cards come from; fractions and bytes."""
    table, known = [], {row["id"]: row for row in collect.table(findings)}
    for d in found:
        row: dict[str, Any] = {"cards": d.label, "size": d.size, "way": d.way or "card"}
        for key in ("clean", "corrupted"):
            each = getattr(d, key).mean(1)
            low, high = each.min(), each.max()
            row |= {f"{key}_mean": each.mean(), f"{key}_min": low, f"{key}_max": high}
        row |= {"n": len(d.clean), "paper_bytes": d.paper_bytes, "true_bytes": d.true_bytes}
        sparse = sorted({card.result["sparsity"] for card in d.cards})
        row |= {"sparsity": sparse[0]} if len(sparse) == 1 else {}
        mine = [known[card.result["id"]] for card in d.cards]
        table.append(row | provenance(mine))
    return table


def tables(findings: Findings, found: Sequence[Decks], out: Path, name: str) -> list[Path]:
    """NAME.csv and NAME.md, every kind of deck; NAME_verdicts.csv and .md, the claims."""
    if not found:
        return []
    table, judged = rows(found, findings), answers(found)
    head = ["cards", "size", "way", "clean (%)", "corrupted (%)", "min", "max", "n", "MB, paper"]
    percent = lambda x: f"{100 * x:.2f}"
    body = [
        [
            r["cards"],
            str(r["size"]),
            r["way"],
            percent(r["clean_mean"]),
            percent(r["corrupted_mean"]),
        ]
        + [percent(r["corrupted_min"]), percent(r["corrupted_max"]), str(r["n"])]
        + [f"{r['paper_bytes'] / 1e6:.3f}", f"{r['true_bytes'] / 1e6:.3f}"]
        for r in table
    ]
    words = [True, False, True, *[False] * 7]
    text = f"{draw.about(findings)}\n\n{tabular.aligned([*head, 'MB, true'], body, words)}"
    where = draw.stem(out, name)
    paths = [
        where.with_name(f"{name}{x}") for x in (".csv", ".md", "_verdicts.csv", "_verdicts.md")
    ]
    contents = [tabular.csv_table(table), text, tabular.csv_table(judged)]
    contents.append(verdict.markdown(judged, findings))
    for path, content in zip(paths, contents, strict=True):
        files.write_atomically(path, content)
    return paths


def bubbles(axes: Any, found: Sequence[Decks]) -> str:
    """Corrupted over clean accuracy, areas by memory; adaptive decks are filled, numbers are sizes. What to say of it.

    A method has a colour, the augmentation of single cards a marker.
    """
    most = max(d.paper_bytes for d in found)
    methods = list(dict.fromkeys(d.method for d in found))
    drawn = set()
    for d in sorted(found, key=lambda d: -d.paper_bytes):  # small ones stay visible
        x, y = 100 * d.clean.mean(), 100 * d.corrupted.mean()
        shade = draw.colour(d.method, methods.index(d.method), methods)
        filled = d.way != AGNOSTIC
        axes.scatter(
            x,
            y,
            s=max(SMALLEST, LARGEST * d.paper_bytes / most),
            marker=MARKERS[d.augment],
            facecolor=shade if filled else "none",
            edgecolor=shade,
            alpha=0.6 if filled else 1.0,
            label=None if d.label in drawn else d.label,
        )
        drawn.add(d.label)
        axes.annotate(
            str(d.size) if d.size > 1 else "", (x, y), fontsize=7, ha="center", va="center"
        )
    axes.set_xlabel("Clean accuracy (%)")
    axes.set_ylabel("Corrupted accuracy (%)")
    floor = min(d.paper_bytes for d in found) * LARGEST < SMALLEST * most
    return "Areas: memory" + ", the smallest dots larger than that." * floor + "." * (not floor)
