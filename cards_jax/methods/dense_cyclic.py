"""dense_cyclic: the learning-rate cycles of LRR without any pruning, its control for the length of training."""

from ml_collections import ConfigDict

from cards_jax import levels
from cards_jax.methods import dense
from cards_jax.phase import Phase, Rules, Uniform
from cards_jax.schedules import learning_rate_table

PRUNES = False
AFFINE = True
check = dense.check


def phases(c: ConfigDict, steps_per_epoch: int) -> list[Phase]:
    """`pruning.cycles` phases after the first, as many as LRR has levels."""
    rate = learning_rate_table(c, steps_per_epoch)
    back = levels.rewind_step(c, len(rate), 0)
    last = c.pruning.cycles
    return [
        Phase(
            name=f"cycle {i}",
            rules=Rules(dense.view, dense.finish),
            rate=rate,
            keep=Uniform(),
            first=back if i else 0,
            number=i,
            delivers=None if i == last else (),
        )
        for i in range(last + 1)
    ]
