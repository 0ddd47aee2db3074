"""set: sparse from the start; small weights make room for others by chance (Mocanu et al. 2018).

On the schedule of `rigl`, of which it is the control: theirs exchanges the same share after every epoch.
"""

from ml_collections import ConfigDict

from cards_jax import exchange, pruning
from cards_jax.phase import Phase

AFFINE = True
init, check = pruning.init, pruning.check_sparse_start


def phases(c: ConfigDict, steps_per_epoch: int) -> list[Phase]:
    """One phase, which begins with a random mask."""
    return exchange.phases(c, steps_per_epoch, pruning.chance)
