"""A tree as named arrays, and Orbax, kept silent, that writes and reads them."""

import contextlib
import gc
import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

Tree = Any

# Orbax's own mark on the name of a folder that it is still writing.
UNFINISHED = ".orbax-checkpoint-tmp"


def named(tree: Tree) -> dict[str, Any]:
    """The leaves by path, such as `card/params/conv1/kernel`, in the tree's own order.

    So what lies on the disk has our names, whatever classes the tree is made of; None is no leaf.
    Raises ValueError for leaves that have no sharding, or no distinct name, and for no leaves.
    """
    leaves = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "leaf"
        if getattr(leaf, "sharding", None) is None:
            kind = type(leaf).__name__
            raise ValueError(f"{name} must be a jax.Array or have a sharding, got a {kind}")
        if name in leaves:
            raise ValueError(f"two leaves of the state have the name {name}")
        leaves[name] = leaf
    if not any(leaf.size for leaf in leaves.values()):
        raise ValueError("the state holds no numbers to store")
    return leaves


def described(leaves: dict[str, Any]) -> dict[str, str]:
    """Dtype and shape of each leaf in words, such as `float32[3, 3]`."""
    return {name: f"{x.dtype}{list(x.shape)}" for name, x in leaves.items()}


def rows(stored: dict[str, str]) -> int:
    """The length of the leading axis that all described leaves have."""
    (count,) = {int(text.partition("[")[2].rstrip("]").split(",")[0]) for text in stored.values()}
    return count


def mismatch(stored: dict[str, str], wanted: dict[str, str]) -> str:
    """How described leaves differ from the wanted ones, in one line; empty where they do not."""
    lacking = [name for name in wanted if name not in stored]
    foreign = [name for name in stored if name not in wanted]
    other = [name for name in wanted if stored.get(name, wanted[name]) != wanted[name]]
    parts = []
    if lacking:
        parts.append(f"it lacks {_listed(lacking)}")
    if foreign:
        parts.append(f"it also holds {_listed(foreign)}")
    if other:
        parts.append(_listed([f"{name} is {stored[name]}, not {wanted[name]}" for name in other]))
    return "; ".join(parts)


def _listed(words: list[str]) -> str:
    more = f" and {len(words) - 3} more" if len(words) > 3 else ""
    return ", ".join(words[:3]) + more


def same_bits(left: dict[str, jax.Array], right: dict[str, jax.Array]) -> bool:
    """Whether this process's parts of equally sharded arrays agree, NaN being equal to NaN."""
    pairs = [
        (a.data, b.data)
        for name in left
        for a, b in zip(left[name].addressable_shards, right[name].addressable_shards, strict=True)
    ]
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def write(folder: Path, step: int, leaves: dict[str, jax.Array]) -> None:
    """Write arrays to `<folder>/<step>/state`, which must be new, from all processes together.

    Returns when they are written. Raises OSError, with a short reason, where they cannot be.
    """
    filled = {name: x for name, x in leaves.items() if x.size}  # orbax refuses empty arrays
    args = ocp.args.Composite(state=ocp.args.StandardSave(filled))
    # Without force, orbax skips a step that is older than another, with no error.
    _by_orbax(folder, lambda orbax: orbax.save(step, args=args, force=True))


def read(folder: Path, step: int, wanted: dict[str, Any]) -> dict[str, jax.Array]:
    """The arrays in `<folder>/<step>/state`, each with its namesake's shape, dtype and sharding.

    Raises OSError, with a short reason, where they cannot be read.
    """
    filled = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
        for name, x in wanted.items()
        if x.size
    }
    args = ocp.args.Composite(state=ocp.args.StandardRestore(filled))
    stored = _by_orbax(folder, lambda orbax: orbax.restore(step, args=args))["state"]
    return {name: stored[name] if x.size else _empty(x) for name, x in wanted.items()}


def _empty(x: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
    whole = np.empty(x.shape, x.dtype)
    return jax.make_array_from_callback(x.shape, x.sharding, lambda index: whole[index])


def _by_orbax(folder: Path, work: Callable[[ocp.CheckpointManager], Any]) -> Any:
    """Let orbax do one thing, with OSError and nothing on the console where it fails.

    With a manager of its own, because one whose save failed silently skips all later saves.
    """
    options = ocp.CheckpointManagerOptions(
        enable_async_checkpointing=False, save_root_metadata=False, create=False
    )
    with _quiet() as threads:
        try:
            with ocp.CheckpointManager(folder, options=options) as manager:
                return work(manager)
        except (ValueError, OSError) as error:  # orbax reports a full disk as a ValueError
            reason = _reason(error)
        _outwait(threads)
    raise OSError(reason)  # unchained: the cause would keep, and later report, orbax's other tasks


def _reason(error: ValueError | OSError) -> str:
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code:
        return os.strerror(int(code[1]))
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:300]


@contextlib.contextmanager
def _quiet() -> Iterator[set[threading.Thread]]:
    """Keep orbax's account of its work, tens of lines, from the console; gives today's threads."""
    loggers = [logging.getLogger("absl"), logging.getLogger("asyncio")]
    levels, hook = [logger.level for logger in loggers], sys.unraisablehook
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            # A save that fails early leaves tasks that orbax made and never began.
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            yield set(threading.enumerate())
    finally:
        sys.unraisablehook = hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _outwait(threads: set[threading.Thread]) -> None:
    """Let writes that had begun when another failed come to their end, and complain, now."""
    time.sleep(0.3)
    for thread in set(threading.enumerate()) - threads:
        thread.join(0.5)
    gc.collect()
