"""The rule by which a claim of the paper is answered: written before the runs, the same for every claim.

A claim is about a difference between two groups of cards that differ in one thing, paired by seed. It is answered where
the 95% interval of the mean difference, bootstrapped over seeds and base images (all cells of an image together),
excludes zero (or, of a claim that two are alike or one no more than the other, lies within or outside its margin); else
it is undecided. So it is with fewer than five seeds, whatever the interval. Of heatmaps all waves of an image stay
together, at the largest norm.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from cards_jax import tabular
from cards_jax.evaluate import bootstrap, fourier
from cards_jax.evaluate.bootstrap import Estimate
from lab.collect import Card, Findings, collapsed

SEEDS = 5
DRAWS = 20_000  # of the bootstrap; fewer of many images
WEIGHTS = 4 * 10**7  # numbers that these take at most
AGREES, DISAGREES, UNDECIDED = "agrees", "disagrees", "undecided"
MISSING = "no cards"
MEASURES = {
    "corrupted": "corrupted accuracy",
    "clean": "clean accuracy",
    "heat": "mean Fourier error",
    "uneven": "unevenness of the Fourier map (standard deviation over frequencies)",
}
Group = tuple[str, float]  # run, sparsity


@dataclasses.dataclass(frozen=True)
class Rule:
    """A claim: `card` minus `than` has a sign (0: differs at all), or is smaller than `within` points either way, or
    than `most` points.

    control: two groups whose difference has to have that sign too before it may be called an effect of pruning: they
    were trained for equally long, and count where learning rate and weight decay are the same. Or four, the first two
    minus the other two, where the claim is about more of what makes a training longer. paper: the number that the paper
    gives, in words.
    """

    claim: str
    measure: str
    card: Group
    than: Group
    sign: int = 1
    within: float | None = None
    most: float | None = None
    control: tuple[Group, ...] | None = None
    paper: str = ""


def paired(*groups: Sequence[Card]) -> list[tuple[Card, ...]]:
    """Cards of one seed, one of each group."""
    seeds = [{card.result["seed"]: card for card in group} for group in groups]
    return [tuple(s[seed] for s in seeds) for seed in seeds[0] if all(seed in s for s in seeds)]


def difference(findings: Findings, measure: str, *groups: Group) -> Estimate | None:
    """Of the means of two groups, in percentage points; of four, (a - b) - (c - d); None where no seed has all."""
    found = paired(*(findings.group(*group) for group in groups))
    if not found:
        return None
    a, b, *more = [
        100 * np.array([_each(findings, measure, card) for card in side])
        for side in zip(*found, strict=True)
    ]
    if more:
        a, b = a - more[0], b - more[1]
    return bootstrap.difference(a, b, weights_of(a.shape[1]), paired=True)


@functools.lru_cache(maxsize=3)
def weights_of(images: int) -> np.ndarray:
    """Of the bootstrap, with more draws than usual: ends of intervals near zero move with the generator's seed."""
    return bootstrap.image_weights(images, int(np.clip(WEIGHTS // images, bootstrap.DRAWS, DRAWS)))


def _each(findings: Findings, measure: str, card: Card) -> np.ndarray:
    """What a card is worth image by image, (N,), clean on all test images."""
    if measure == "corrupted":
        return card.right(findings.corrupted)
    if measure == "clean":
        return card.right_of_clean.astype(float)
    wrong = card.heat.wrong[np.argmax(findings.wanted.eps)]
    by_image = fourier.error_by_image if measure == "heat" else fourier.unevenness_by_image
    return by_image(wrong, *card.heat.errors.shape[1:])


def answer(
    estimate: Estimate | None, sign: int, within: float | None = None, most: float | None = None
) -> str:
    """What an interval says to a claim."""
    if estimate is None:
        return MISSING
    if estimate.n < SEEDS:
        return UNDECIDED
    low, high = estimate.low, estimate.high
    if within is not None:
        if -within < low and high < within:
            return AGREES
        return DISAGREES if low > within or high < -within else UNDECIDED
    if most is not None:
        return AGREES if high < most else DISAGREES if low > most else UNDECIDED
    if not sign:
        return AGREES if low > 0 or high < 0 else UNDECIDED
    low, high = (low, high) if sign > 0 else (-high, -low)
    return AGREES if low > 0 else DISAGREES if high < 0 else UNDECIDED


def judge(findings: Findings, rules: Sequence[Rule]) -> list[dict[str, Any]]:
    """A row for every claim."""
    return [_judged(findings, rule) for rule in rules]


def _judged(findings: Findings, rule: Rule) -> dict[str, Any]:
    found = difference(findings, rule.measure, rule.card, rule.than)
    verdict = answer(found, rule.sign, rule.within, rule.most)
    if rule.measure == "uneven" and any(constant(findings, g) for g in (rule.card, rule.than)):
        verdict = UNDECIDED  # the map of a constant answer is flat whatever the method did
    cards = f"{_named(rule.card)} minus {_named(rule.than)}"
    row = row_of(rule.claim, rule.measure, cards, found, verdict, rule.paper)
    row["collapsed"] = "\n".join(_collapsed(findings, rule))
    if rule.control:
        control = difference(findings, rule.measure, *rule.control)
        sign = rule.sign or (1 if found and found.mean > 0 else -1)  # one that differs, this way
        same = verdict in (AGREES, DISAGREES) and answer(control, sign) == verdict
        pairs = list(zip(rule.control[::2], rule.control[1::2], strict=True))
        differences = [f"{_named(a)} minus {_named(b)}" for a, b in pairs]
        row["control"] = ", less ".join(differences)
        row["control_difference"] = control and control.mean
        row["control_low"], row["control_high"] = (
            (control.low, control.high) if control else (None, None)
        )
        alike = all(_rates(findings, a) == _rates(findings, b) for a, b in pairs)
        row["because_of_pruning"] = "yes" if same and alike else "not shown"
        if same and not alike:
            row["because_of_pruning"] += ": rates differ"
    return row


def row_of(
    claim: str, measure: str, cards: str, found: Estimate | None, verdict: str, paper: str
) -> dict[str, Any]:
    """A row of the table of claims; its difference in points."""
    return {
        "claim": claim,
        "measure": MEASURES[measure],
        "cards": cards,
        "n": found.n if found else 0,
        "difference": found and found.mean,
        "low": found and found.low,
        "high": found and found.high,
        "smallest": found and found.smallest,
        "largest": found and found.largest,
        "verdict": verdict,
        "paper": paper,
        "because_of_pruning": "",
    }


def _rates(findings: Findings, group: Group) -> set[tuple[float, float]]:
    """Learning rates and weight decays of a group's cards."""
    cards = findings.group(*group)
    return {(card.result["learning_rate"], card.result["weight_decay"]) for card in cards}


def constant(findings: Findings, group: Group) -> bool:
    """Whether at least half of a group's cards lost a layer."""
    cards = findings.group(*group)
    return bool(cards) and 2 * sum(bool(card.emptied) for card in cards) >= len(cards)


def _collapsed(findings: Findings, rule: Rule) -> list[str]:
    lines = [collapsed(_named(g), findings.group(*g)) for g in (rule.card, rule.than)]
    return [line for line in lines if line]


def _named(group: Group) -> str:
    return f"{group[0]} {100 * group[1]:.4g}%" if group[1] else group[0]


def markdown(rows: Sequence[dict[str, Any]], findings: Findings) -> str:
    """The answers as a table, with the rule above it."""
    points = lambda x: "" if x is None else f"{x:+.2f}"
    span = lambda low, high: "" if low is None else f"[{points(low)}, {points(high)}]"
    head = ["claim", "measure", "cards", "n", "points", "95%", "min", "max", "verdict"]
    head += ["paper", "equal budget", "because of pruning"]
    body = []
    for row in rows:
        control = row.get("control", "")
        if row.get("control_difference") is not None:
            control += f": {points(row['control_difference'])} "
            control += span(row["control_low"], row["control_high"])
        body.append(
            [row["claim"], row["measure"], row["cards"], str(row["n"]), points(row["difference"])]
            + [span(row["low"], row["high"]), points(row["smallest"]), points(row["largest"])]
            + [row["verdict"], row.get("paper", ""), control, row["because_of_pruning"]]
        )
    words = [True, True, True, False, False, False, False, False, True, True, True, True]
    rule = " ".join(__doc__.split("\n\n")[1].split())
    name = findings.source.name if findings.source else findings.title
    note = f"Scale {findings.scale.name}; {name}. Differences in percentage points. {rule}"
    if findings.scale.data == "digits":
        note += " Digits are a smoke test of the code, never evidence."
    lost = dict.fromkeys(x for row in rows for x in row.get("collapsed", "").splitlines())
    about = "".join(f"\n{line}" for line in lost)
    return f"{note}\n\n{tabular.aligned(head, body, words)}{about}"
