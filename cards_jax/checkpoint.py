"""Checkpoints that are whole and unharmed, or do not exist."""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from cards_jax import arrays, files
from cards_jax.arrays import Tree

WAIT_SECONDS = 1.0  # between two looks at a folder that another process holds


class RunLocked(OSError):
    """Another process works in this folder."""


class Checkpoints:
    """The last good states of a training, each in a folder named by its step.

    Orbax writes the arrays, from all processes together; a manifest with the size and SHA-256 of
    every file makes the step exist. All processes call the methods, and see one folder.
    `notice` receives each line that a user should read; by default it goes to stderr.
    """

    def __init__(
        self, folder: str | Path, keep: int = 2, notice: Callable[[str], None] | None = None
    ):
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.folder = Path(folder).absolute()
        self.keep = keep
        self._notice = notice or (lambda line: print(line, file=sys.stderr))
        self._verified: set[int] = set()
        # Steps of which a file could not be read when it was looked at last.
        self._unread: set[int] = set()

    def steps(self) -> list[int]:
        """Steps whose manifest is whole and whose files have the right sizes, ascending."""
        return [step for step in self._on_disk() if self._fault(step, hashes=False) is None]

    def save(self, step: int, state: Tree, meta: dict) -> None:
        """Store a tree of jax.Arrays and a JSON-able dict, and only then delete older steps.

        A step that is already stored with the same state takes the new meta and is not written
        again. Raises OSError, in one line, where it cannot be stored: the steps before it stay;
        ValueError where this step is stored with another state, or a later one is stored.
        """
        if step < 0:
            raise ValueError(f"step must be 0 or more, got {step}")
        leaves = arrays.named(state)
        note = {"step": int(step), "meta": meta, "leaves": arrays.described(leaves)}
        note = json.loads(json.dumps(note))  # a meta that is no JSON ends here, before any writing
        with _one_line(f"cannot save checkpoint {step} in {self.folder}"):
            if _on_first_host(lambda: self._is_stored(step)):
                self._confirm(step, leaves, note)
            else:
                _on_first_host(lambda: self._make_room(sum(x.nbytes for x in leaves.values())))
                self._write(step, leaves)
                _on_first_host(lambda: self._finish(step, note))

    def restore(self, target: Tree | Callable[[dict, dict], Tree]) -> tuple[int, Tree, dict] | None:
        """The newest good step, its state and its meta, or None where no good one is stored.

        `target` is the wanted tree of jax.ShapeDtypeStruct with shardings, which may be of other
        devices than those that saved, or a function that gives it for a step's meta and described
        leaves. Newer steps that are damaged are passed over with a notice.
        Raises ValueError where the stored state has other leaves, shapes or dtypes, and OSError
        where the files may not be read.
        """
        with _one_line(f"cannot read the checkpoints in {self.folder}"):
            step = _on_first_host(self._newest_good)
            if step < 0:
                return None
            note = files.inspect(self._at(step), hashes=False)
            target = target(note["meta"], note["leaves"]) if callable(target) else target
            wanted = arrays.named(target)
            mismatch = arrays.mismatch(note["leaves"], arrays.described(wanted))
            if mismatch:
                raise ValueError(f"checkpoint {step} in {self.folder} does not fit: {mismatch}")
            leaves = arrays.read(self.folder, step, wanted)
        return step, jax.tree.unflatten(jax.tree.structure(target), leaves.values()), note["meta"]

    def _at(self, step: int) -> Path:
        return self.folder / str(step)

    def _on_disk(self) -> list[int]:
        """Steps that have a folder, in whatever condition, ascending."""
        paths = self.folder.glob("[0-9]*") if self.folder.is_dir() else []
        names = {path.name for path in paths if path.is_dir() and path.name.isdecimal()}
        return sorted(int(name) for name in names if str(int(name)) == name)

    def _fault(self, step: int, hashes: bool = True) -> str | None:
        """What is wrong with a step, or None."""
        try:
            stored = files.inspect(self._at(step), hashes)["step"]
        except files.Damaged as error:
            if isinstance(error, files.Unreadable):
                self._unread.add(step)
            return str(error)
        self._unread.discard(step)
        return None if stored == step else f"{files.MANIFEST} belongs to step {stored}"

    def _newest_good(self) -> int:
        """The newest unharmed step, or -1; says which newer ones are damaged.

        Raises OSError where a newer one could not be read: a disk that fails for a moment is no reason to begin anew,
        nor to go on from an older step, which the newer one would then forbid to save.
        """
        faults, found = {}, -1
        for step in reversed(self._on_disk()):
            fault = self._fault(step)
            if fault is None:
                found = step
                self._verified = {step}
                break
            faults[step] = fault
        if unread := self._unread & set(faults):
            step = max(unread)
            raise OSError(
                f"checkpoint {step}: {faults[step]}; nothing was changed, try again, or delete {self._at(step)} to go "
                "on without it"
            )
        then = "training starts over from the beginning"
        if found >= 0:
            then = f"checkpoint {found} is used instead"
        for step, fault in faults.items():
            self._notice(f"checkpoint {step} in {self.folder} is damaged: {fault}; {then}")
        return found

    def _is_stored(self, step: int) -> bool:
        """Whether this very step is stored and good; clears the way for it where it is not."""
        stored = [other for other in self.steps() if other >= step and self._fault(other) is None]
        if stored and stored[-1] > step:
            raise ValueError(
                f"cannot save checkpoint {step} in {self.folder}: step {stored[-1]} is stored there"
            )
        if not stored:
            self._delete(step)
        return bool(stored)

    def _confirm(self, step: int, leaves: dict[str, jax.Array], note: dict) -> None:
        """Give an already stored step the new note, provided that it holds the same arrays."""
        stored = files.inspect(self._at(step), hashes=False)
        same = stored["leaves"] == note["leaves"]
        same = same and arrays.same_bits(arrays.read(self.folder, step, leaves), leaves)
        if not _on_every_host(same):
            raise ValueError(
                f"checkpoint {step} in {self.folder} is already stored, with another state"
            )
        amend = lambda: (
            None if stored["meta"] == note["meta"] else files.amend(self._at(step), note)
        )
        _on_first_host(amend)  # which alone knows how long its files are

    def _make_room(self, nbytes: int) -> None:
        """Delete what an interrupted save left, and refuse to start where the disk is too full."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK):
            raise OSError("the folder is not writable")
        self._sweep()
        free = shutil.disk_usage(self.folder).free
        if free < nbytes:
            raise OSError(f"it takes {nbytes / 1e6:.2f} MB where {free / 1e6:.2f} MB are free")

    def _write(self, step: int, leaves: dict[str, jax.Array]) -> None:
        try:
            arrays.write(self.folder, step, leaves)
            if jax.process_count() > 1:
                multihost_utils.sync_global_devices(f"checkpoint {step}")
        except Exception:
            if jax.process_index() == 0:
                self._sweep()
            raise

    def _finish(self, step: int, note: dict) -> None:
        """Seal a written step, read it back from the disk, and delete what is now superfluous."""
        try:
            files.seal(self._at(step), note)
            fault = self._fault(step)
            if fault:
                raise OSError(f"{fault}, right after it was written")
        except OSError:
            self._delete(step)
            raise
        self._verified.add(step)
        kept = [other for other in self.steps() if self._is_good(other)][-self.keep :]
        for other in set(self._on_disk()) - set(kept):
            self._delete(other)

    def _is_good(self, step: int) -> bool:
        """Whether a step is unharmed; each is hashed once in the life of this object."""
        if step not in self._verified and self._fault(step) is None:
            self._verified.add(step)
        return step in self._verified

    def _delete(self, step: int) -> None:
        """Delete a step, manifest first: killed halfway, no part of it passes for the whole."""
        self._verified.discard(step)
        (self._at(step) / files.MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(self._at(step), ignore_errors=True)

    def _sweep(self) -> None:
        """Delete what interrupted saves left: unfinished steps, and finished ones never sealed."""
        for path in self.folder.glob(f"*{arrays.UNFINISHED}*"):
            shutil.rmtree(path, ignore_errors=True)
        for step in self._on_disk():
            if not (self._at(step) / files.MANIFEST).exists():
                self._delete(step)


@contextlib.contextmanager
def lock(folder: str | Path, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a folder for this process; the system releases it even when the process is killed.

    Where another process holds it, `wait` is told so once, until it is free. Without `wait` raises
    RunLocked, naming the folder and that process; OSError where the folder is missing or cannot be written.
    """
    with _one_line(f"cannot lock {folder}"):
        handle = os.open(Path(folder) / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with _one_line(f"cannot lock {folder}"):
            _claim(handle, folder, wait)
        yield
    finally:
        os.close(handle)


def _claim(handle: int, folder: str | Path, wait: Callable[[str], None] | None) -> None:
    """Lock an open file and write into it who did, for those who come later."""
    said = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
            text = f"{folder} is in use by {holder}"
            if wait is None:
                raise RunLocked(f"{text}; wait for it, end it, or choose another folder") from None
            if not said:
                wait(f"{text}; waiting until that is done")
            said = True
            time.sleep(WAIT_SECONDS)
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


@contextlib.contextmanager
def _one_line(action: str) -> Iterator[None]:
    """Say in one line what failed and why."""
    try:
        yield
    except RunLocked:
        raise
    except OSError as error:
        raise OSError(f"{action}: {error.strerror or error}") from error


def _on_first_host(work: Callable[[], int | None]) -> int:
    """Do the work on process 0 alone; its answer, or its failure, is that of every process."""
    answer, failure = 0, None
    if jax.process_index() == 0:
        try:
            answer = work() or 0
        except (OSError, ValueError) as error:
            failure = error
    if jax.process_count() > 1:
        outcome = np.array([failure is not None, answer], np.int32)
        failed, answer = map(int, multihost_utils.broadcast_one_to_all(outcome))
        if failed and failure is None:
            failure = OSError("process 0 could not do it, and says why")
    if failure is not None:
        raise failure
    return answer


def _on_every_host(flag: bool) -> bool:
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.int32(flag)).all())
