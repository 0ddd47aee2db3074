"""The leading axis: a mesh of devices, padding to it, and the map from one realization to many.

This is the only owner of the axis R: every other function is written for one realization.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from cards_jax.tree import Tree

REALIZATION, BATCH = "realization", "batch"


@dataclasses.dataclass(frozen=True)
class Layout:
    """Devices as a (realization, batch) mesh, and how many realizations a group holds after padding."""

    mesh: Mesh
    group: int

    @property
    def split(self) -> int:
        """Devices that share one batch."""
        return self.mesh.shape[BATCH]

    @property
    def batch_axis(self) -> str | None:
        """Name of the axis that splits batches, None where batches are whole."""
        return BATCH if self.split > 1 else None

    @property
    def sharded(self) -> NamedSharding:
        return NamedSharding(self.mesh, P(REALIZATION))

    @property
    def everywhere(self) -> NamedSharding:
        return NamedSharding(self.mesh, P())

    def pad(self, items: Sequence) -> list:
        """The items, the last one repeated up to the group's size."""
        return [*items, *[items[-1]] * (self.group - len(items))]

    def put(self, tree: Tree) -> Tree:
        """Host arrays with a leading axis R, spread over the mesh."""
        return jax.tree.map(lambda x: _place(np.asarray(x), self.sharded), tree)

    def replicate(self, tree: Tree) -> Tree:
        """Host arrays, whole on every device."""
        return jax.tree.map(lambda x: _place(np.asarray(x), self.everywhere), tree)

    def map(self, f: Callable, mapped: tuple[bool, ...], donate: tuple[int, ...] = ()) -> Callable:
        """jit(shard_map(vmap(f))): f sees one realization; arguments that are not `mapped` are shared by all.

        No collective joins realizations: a plain jit of vmap with a sharded axis makes XLA gather grouped convolutions
        and FFTs. Every output has the leading axis R.
        """
        specs = tuple(P(REALIZATION) if m else P() for m in mapped)
        many = jax.vmap(f, in_axes=tuple(0 if m else None for m in mapped))
        # Replication over the batch axis is ours to see to (means over it), hence no check.
        local = jax.shard_map(
            many, mesh=self.mesh, in_specs=specs, out_specs=P(REALIZATION), check_vma=False
        )
        return jax.jit(local, donate_argnums=donate)


def _place(x: np.ndarray, sharding: NamedSharding) -> jax.Array:
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def layout(count: int, group: int = 0, split: int = 0, batch_size: int = 0, devices: int = 0) -> Layout:
    """The mesh for `count` realizations, `group` at a time (0: all at once).

    split devices share a batch; 0 chooses: one while there are at least as many realizations as devices, else as many
    as divide the batch. Raises ValueError if `split` divides neither devices nor batch.
    """
    found = jax.devices()[: devices or None]
    size = min(count, group or count)
    if split and (len(found) % split or batch_size % split):
        raise ValueError(
            f"compute.batch_split={split}: must divide {len(found)} devices and batch_size={batch_size}"
        )
    splits = [split] if split else [n for n in range(1, len(found) + 1) if _fits(n, found, batch_size)]
    rows = max(len(found) // n for n in splits)
    wanted = [n for n in splits if len(found) // n <= max(size, 1)]
    columns = min(wanted) if wanted else max(splits)
    rows = len(found) // columns
    mesh = jax.sharding.Mesh(
        np.array(found).reshape(rows, columns), (REALIZATION, BATCH), axis_types=(AxisType.Auto,) * 2
    )
    return Layout(mesh, -(-size // rows) * rows)


def _fits(n: int, devices: list, batch_size: int) -> bool:
    return len(devices) % n == 0 and batch_size % n == 0


def fetch(tree: Tree) -> Tree:
    """Arrays as numpy on every process, whichever devices hold them."""
    if all(x.is_fully_addressable for x in jax.tree.leaves(tree)):
        return jax.tree.map(np.asarray, jax.device_get(tree))
    return multihost_utils.process_allgather(tree, tiled=True)


def agree(value: Any) -> np.ndarray:
    """Process 0's value on every process."""
    value = np.asarray(value)
    return value if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(value)
