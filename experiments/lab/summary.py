"""What every group of cards reached, and how far from dense: a row for each run and sparsity, over seeds."""

from collections.abc import Sequence

import numpy as np

from cards_jax import tabular
from cards_jax.evaluate.bootstrap import Estimate
from lab import draw, verdict
from lab.collect import Card, Findings, collapsed, rings
from lab.plan import CONTROL
from lab.verdict import Group

HEAD = ("run", "sparsity (%)", "n", "learning rate", "weight decay", "clean (%)", "min", "max")
CORRUPTED = ("corrupted (%)", "min", "max")
LEFT = ("run",)
RELATIVE = (
    "To dense cards of the same network and augmentation, paired by seed: points, with 95% intervals bootstrapped over "
    "seeds and images. Clean on all test images, corrupted and heatmaps on those that they were measured on."
)


def markdown(findings: Findings) -> str:
    """Both tables, with a line above each that says what was measured."""
    return "\n\n".join(filter(None, (means(findings), relative(findings))))


def means(findings: Findings) -> str:
    """What every group reached."""
    eps = findings.wanted.eps if any(card.heat for card in findings.cards) else ()
    head = [*HEAD, *(CORRUPTED if findings.wanted.robust else ())]
    head += [f"Fourier error, norm {norm:g} (%)" for norm in eps] + ["true bytes"]
    body = [
        _row(findings, label, cards, eps)
        for label, (run, sparsity) in _groups(findings)
        for cards in [findings.group(run, sparsity)]
    ]
    about = draw.about(findings, "Means over seeds; min and max are seeds.")
    return (
        f"{about}\n\n{tabular.aligned(head, body, [x in LEFT for x in head])}{_collapsed(findings)}"
    )


def _collapsed(findings: Findings) -> str:
    """A line for every group with cards that lost a whole layer."""
    lines = [
        collapsed(f"{label}, {100 * group[1]:.4g}%", findings.group(*group))
        for label, group in _groups(findings)
    ]
    return "".join(f"\n{line}" for line in lines if line)


def relative(findings: Findings) -> str:
    """Differences of every group to its dense one; "" where there is none, or nothing to compare."""
    measures = _measures(findings)
    pairs = [(label, group, _dense(findings, group)) for label, group in _groups(findings)]
    pairs = [(label, group, dense) for label, group, dense in pairs if dense]
    if not (measures and pairs):
        return ""
    head = ["run", "sparsity (%)", "n"]
    head += [word for name in measures for word in (f"{name} (points)", "95%", "min", "max")]
    body = []
    for label, group, dense in pairs:
        found = [verdict.difference(findings, m, group, dense) for m in measures.values()]
        if None in found:  # no seed in common
            continue
        row = [label, f"{100 * group[1]:.4g}", str(found[0].n)]
        body.append(row + [word for estimate in found for word in _words(estimate)])
    return f"{RELATIVE}\n\n{tabular.aligned(head, body, [x in LEFT for x in head])}"


def _measures(findings: Findings) -> dict[str, str]:
    """{name of a column: measure} of what was measured."""
    found = {"clean": "clean", "corrupted": "corrupted"} if findings.wanted.robust else {}
    if all(card.heat for card in findings.cards):
        norm = max(findings.wanted.eps)
        found |= {f"Fourier error, norm {norm:g}": "heat", "its unevenness": "uneven"}
    return found


def _groups(findings: Findings) -> list[tuple[str, Group]]:
    """(label, (run, sparsity)) of cards that did not diverge, in the order of declaration.

    Augmentations are named where there are several.
    """
    augment = {card.run.name: card.config.augment for card in findings.cards}
    several = len(set(augment.values())) > 1
    return [
        (f"{run.label}, {augment[run.name]}" if several else run.label, (run.name, sparsity))
        for run in findings.runs()
        for sparsity in findings.sparsities(run.name)
    ]


def _dense(findings: Findings, group: Group) -> Group | None:
    """The dense group of the same network, width and augmentation, unless it is the group itself; never a control."""
    kind = _kind(findings, group)
    for _, other in _groups(findings):
        card = findings.group(*other)[0]
        dense = card.config.method == "dense" and card.run.role != CONTROL
        if dense and _kind(findings, other) == kind:
            return other if other != group else None
    return None


def bases(findings: Findings) -> set[Group]:
    """The dense groups that all cards of their network are compared with: those of networks that have only one."""
    networks: dict[str, set[Group | None]] = {}
    for _, group in _groups(findings):
        card, base = findings.group(*group)[0], _dense(findings, group)
        if not base and card.config.method == "dense":
            base = group
        if card.run.role != CONTROL:
            networks.setdefault(card.config.model.name, set()).add(base)
    return {base for found in networks.values() if len(found) == 1 for base in found if base}


def _kind(findings: Findings, group: Group) -> tuple[str, int, str]:
    c = findings.group(*group)[0].config
    return c.model.name, c.model.width, c.augment


def _row(findings: Findings, label: str, cards: list[Card], eps: Sequence[float]) -> list[str]:
    of = lambda key: cards[0].result[key]
    row = [label, f"{100 * of('sparsity'):.4g}", str(len(cards))]
    row += [f"{of('learning_rate'):g}", f"{of('weight_decay'):g}"]
    row += _spread(findings.clean_of(cards))
    row += _spread(findings.robust_of(cards)) if findings.wanted.robust else []
    found = [rings(card, eps) for card in cards if card.heat] if eps else []
    row += [_percent([each[f"heat_{norm:g}_all"] for each in found]) for norm in eps]
    return [*row, f"{np.mean([card.result['true_bytes'] for card in cards]):,.0f}"]


def _words(estimate: Estimate) -> list[str]:
    span = f"[{estimate.low:+.2f}, {estimate.high:+.2f}]"
    return [f"{estimate.mean:+.2f}", span, f"{estimate.smallest:+.2f}", f"{estimate.largest:+.2f}"]


def _spread(values: np.ndarray) -> list[str]:
    return [_percent(values), _percent([values.min()]), _percent([values.max()])]


def _percent(values: Sequence[float]) -> str:
    return f"{100 * np.mean(values):.2f}" if len(values) else ""
