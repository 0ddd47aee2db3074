"""The leading axis: a mesh of devices, padding to it, and the map from one realization to many.

This is the only owner of the axis R: every other function is written for one realization.
"""

import contextlib
import dataclasses
import hashlib
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from cards_jax.tree import Tree

REALIZATION, BATCH = "realization", "batch"
MAPPINGS = ("loop", "vmap")
SHARING = 0.15  # of a step: lost for each CPU device that shares a batch with another; Conv4, by measurement
LEAST_ROWS = 16  # images of a batch that a CPU device gets for its share


def use_cores(devices: int = 0, processes: int = 1) -> None:
    """One host device per core, or so many, shared by the processes; before the first computation.

    A narrow convolution uses one thread, so cores are filled by realizations. Where a batch system has bound this
    process to some of the cores, these are its share already.
    """
    cores = every = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # a container or a batch system may leave us fewer
        cores = len(os.sched_getaffinity(0))
    if cores < every and not devices:
        processes = 1
    with contextlib.suppress(RuntimeError):  # devices are there already: they are used as they are
        jax.config.update("jax_num_cpu_devices", max(1, (devices or cores) // processes))


@dataclasses.dataclass(frozen=True)
class Layout:
    """Devices as a (realization, batch) mesh, and how many realizations a group holds after padding.

    loop: whether a device computes its realizations one after another, by a loop inside the program, or side by side
    under vmap. A CPU has nothing to gain from a wider array: activations of one realization stay in its cache.
    """

    mesh: Mesh
    group: int
    loop: bool

    @property
    def rows(self) -> int:
        """Devices along the realization axis."""
        return self.mesh.shape[REALIZATION]

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

    def pad(self, items: Sequence, whole: bool = True) -> list:
        """The items, the last one repeated up to the group's size, or only to fill the mesh's rows if not `whole`."""
        size = self.group if whole else -(-len(items) // self.rows) * self.rows
        return [*items, *[items[-1]] * (size - len(items))]

    def put(self, tree: Tree) -> Tree:
        """Host arrays with a leading axis R, spread over the mesh."""
        return jax.tree.map(lambda x: _place(np.asarray(x), self.sharded), tree)

    def part(self, tree: Tree) -> Tree:
        """Host arrays, their leading axis spread over the devices that share a batch."""
        over = NamedSharding(self.mesh, P(BATCH))
        return jax.tree.map(lambda x: _place(np.asarray(x), over), tree)

    def replicate(self, tree: Tree) -> Tree:
        """Host arrays, whole on every device."""
        return jax.tree.map(lambda x: _place(np.asarray(x), self.everywhere), tree)

    def map(
        self,
        f: Callable,
        mapped: tuple[bool, ...],
        donate: tuple[int, ...] = (),
        parted: bool = False,
    ) -> Callable:
        """jit(shard_map(vmap(f))): f sees one realization; arguments that are not `mapped` are shared by all.

        parted: devices that share a batch get each its part of the leading axis of the shared arguments, and the
        outputs, whose second axis that is, are put together. Otherwise all get the whole.

        With `loop` it is lax.map in the place of vmap, and f is compiled for one realization whatever their number.

        No collective joins realizations: a plain jit of vmap with a sharded axis makes XLA gather grouped convolutions
        and FFTs. Every output has the leading axis R.
        """
        shared, out = (P(BATCH), P(REALIZATION, BATCH)) if parted else (P(), P(REALIZATION))
        specs = tuple(P(REALIZATION) if m else shared for m in mapped)
        many = jax.vmap(f, in_axes=tuple(0 if m else None for m in mapped))
        if self.loop:
            many = partial(_one_after_another, f, mapped)
        # Replication over the batch axis is ours to see to (means over it), hence no check.
        local = jax.shard_map(many, mesh=self.mesh, in_specs=specs, out_specs=out, check_vma=False)
        # Said, because XLA names the sharding of its outputs anew where an axis has one device: a state that comes from
        # a checkpoint would be compiled for a second time.
        return jax.jit(local, donate_argnums=donate, out_shardings=NamedSharding(self.mesh, out))


def _one_after_another(f: Callable, mapped: tuple[bool, ...], *args: Tree) -> Tree:
    """f over the leading axis of the mapped arguments, in a loop."""
    over = tuple(x for x, m in zip(args, mapped, strict=True) if m)

    def one(mine: tuple) -> Tree:
        rest = iter(mine)
        return f(*(next(rest) if m else x for x, m in zip(args, mapped, strict=True)))

    return lax.map(one, over)


def _place(x: np.ndarray, sharding: NamedSharding) -> jax.Array:
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def layout(
    count: int,
    split: int = 0,
    batch_size: int = 0,
    devices: int = 0,
    exact: bool = False,
    mapping: str | None = None,
) -> Layout:
    """The mesh for a group of `count` realizations.

    Args:
      split: devices that share one batch; 0 chooses as many as are left over, where there are fewer realizations than
        devices. On a CPU more of them share a batch where that is faster than padding: 3 realizations on 2 devices.
      batch_size: images per batch, which `split` has to divide.
      devices: how many to use; 0 is all.
      exact: the group keeps its size (it was begun elsewhere): the rows of the mesh divide it. Otherwise it is padded
        to a multiple of the rows.
      mapping: "loop" or "vmap" over the realizations of a device; None is a loop on a CPU and vmap elsewhere.

    Raises ValueError if `split` does not divide devices and batch, or if a process would have no device in the mesh.
    """
    found = jax.devices()[: devices or None]
    if len(found) < devices:
        raise ValueError(f"compute.devices={devices}: allowed is up to {len(found)}")
    if not _has_all_processes(found):
        raise ValueError(
            f"compute.devices={devices}: allowed is 0 (all), or enough for every process to have some of them"
        )
    if split and (len(found) % split or batch_size % split):
        raise ValueError(
            f"compute.batch_split={split}: must divide {len(found)} devices and batch_size={batch_size}"
        )
    if exact:
        rows, split = _dividing(count, batch_size, found, split)
    else:
        splits = [split] if split else _splits(count, batch_size, found)
        rows, split = min(((len(found) // n, n) for n in splits), key=partial(_seconds, count))
    grid = np.array(found[: rows * split]).reshape(rows, split)
    mesh = Mesh(grid, (REALIZATION, BATCH), axis_types=(AxisType.Auto,) * 2)
    loop = mapping == "loop" if mapping else found[0].platform == "cpu"
    return Layout(mesh, -(-count // rows) * rows, loop)


def _splits(count: int, batch_size: int, found: Sequence[jax.Device]) -> list[int]:
    """How many devices may share a batch, from the smallest; between processes only where devices are left over."""
    here = len(found) // jax.process_count()
    cpu = found[0].platform == "cpu"
    return [
        n
        for n in range(1, len(found) + 1)
        if len(found) % n == 0 and batch_size % n == 0
        if n <= max(1, len(found) // count)
        or (cpu and here % n == 0 and batch_size >= LEAST_ROWS * n)
    ]


def _seconds(count: int, mesh: tuple[int, int]) -> float:
    """What a step takes on a mesh (rows, split), as a multiple of what one realization takes one device."""
    rows, split = mesh
    return -(-count // rows) / split * (1 + SHARING * (split - 1))


def _has_all_processes(found: Sequence[jax.Device]) -> bool:
    return len({device.process_index for device in found}) == jax.process_count()


def _dividing(
    count: int, batch_size: int, found: Sequence[jax.Device], split: int
) -> tuple[int, int]:
    """(rows, split) of the fastest mesh whose rows divide a group of `count`, with a part for every process."""
    meshes = [
        (rows, n)
        for rows in range(1, min(count, len(found)) + 1)
        for n in ([split] if split else range(1, len(found) // rows + 1))
        if count % rows == 0 and batch_size % n == 0 and rows * n <= len(found)
    ]
    meshes = [mesh for mesh in meshes if _has_all_processes(found[: mesh[0] * mesh[1]])]
    if not meshes:
        raise ValueError(
            f"a group of {count} realizations, in batches of {batch_size}, was begun with other processes: "
            f"it does not divide among {len(found)} devices of {jax.process_count()} processes; "
            "go on with as many as before, or with one"
        )
    return min(reversed(meshes), key=partial(_seconds, count))  # of equals that with most rows


def fetch(tree: Tree) -> Tree:
    """Arrays as numpy on every process, whichever devices hold them."""
    if all(x.is_fully_addressable for x in jax.tree.leaves(tree)):
        return jax.tree.map(np.asarray, jax.device_get(tree))
    return multihost_utils.process_allgather(tree, tiled=True)


def agree(value: Any) -> np.ndarray:
    """Process 0's value on every process."""
    value = np.asarray(value)
    return value if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(value)


def least(value: int) -> int:
    """The smallest value of all processes, on every process."""
    if jax.process_count() == 1:
        return value
    return int(np.min(multihost_utils.process_allgather(np.asarray(value))))


def processes_here() -> int:
    """How many processes of this run share this machine."""
    if jax.process_count() == 1:
        return 1
    mine = np.frombuffer(hashlib.sha256(socket.gethostname().encode()).digest()[:4], np.uint32)
    return int(np.sum(multihost_utils.process_allgather(mine) == mine))


def any_process(flag: bool) -> bool:
    """Whether the flag is set on any process."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))
