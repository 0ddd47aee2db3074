"""Prune potential: the largest sparsity that costs no more than a margin of error (Liebenwein et al. 2021, def. 1)."""

from collections.abc import Mapping

MARGIN = 0.005  # of error, as in the paper


def potential(errors: Mapping[float, float], dense: float, margin: float = MARGIN) -> float:
    """The largest sparsity whose error is at most `dense` + margin; 0 where there is none.

    errors: {sparsity: error}, all as fractions.
    """
    within = [sparsity for sparsity, error in errors.items() if error <= dense + margin + 1e-12]
    return max(within, default=0.0)
