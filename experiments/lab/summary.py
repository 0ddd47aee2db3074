"""What every group of cards reached, as a table: a row for each run and sparsity, means over seeds."""

from collections.abc import Sequence

import numpy as np

from cards_jax import tabular
from lab import draw
from lab.collect import Card, Findings, rings

HEAD = ("run", "sparsity (%)", "n", "learning rate", "weight decay", "clean (%)", "min", "max")
CORRUPTED = ("corrupted (%)", "min", "max")
LEFT = ("run",)


def markdown(findings: Findings) -> str:
    """The table, with a line above that says what was measured."""
    eps = findings.wanted.eps if any(card.heat for card in findings.cards) else ()
    head = [*HEAD, *(CORRUPTED if findings.wanted.robust else ())]
    head += [f"Fourier error, norm {norm:g} (%)" for norm in eps] + ["true bytes"]
    body = [
        _row(findings, label, sparsity, cards, eps) for label, sparsity, cards in _groups(findings)
    ]
    about = draw.about(findings, "Means over seeds; min and max are seeds.")
    return f"{about}\n\n{tabular.aligned(head, body, [x in LEFT for x in head])}"


def _groups(findings: Findings) -> list[tuple[str, float, list[Card]]]:
    """(label, sparsity, cards that did not diverge), in the order of declaration."""
    return [
        (run.label, sparsity, findings.group(run.name, sparsity))
        for run in findings.runs()
        for sparsity in findings.sparsities(run.name)
    ]


def _row(
    findings: Findings, label: str, sparsity: float, cards: list[Card], eps: Sequence[float]
) -> list[str]:
    of = lambda key: f"{cards[0].result[key]:g}"
    row = [label, f"{100 * sparsity:.4g}", str(len(cards)), of("learning_rate"), of("weight_decay")]
    row += _spread(findings.clean_of(cards))
    row += _spread(findings.robust_of(cards)) if findings.wanted.robust else []
    found = [rings(card, eps) for card in cards if card.heat] if eps else []
    row += [_percent([each[f"heat_{norm:g}_all"] for each in found]) for norm in eps]
    return [*row, f"{np.mean([card.result['true_bytes'] for card in cards]):,.0f}"]


def _spread(values: np.ndarray) -> list[str]:
    return [_percent(values), _percent([values.min()]), _percent([values.max()])]


def _percent(values: Sequence[float]) -> str:
    return f"{100 * np.mean(values):.2f}" if len(values) else ""
