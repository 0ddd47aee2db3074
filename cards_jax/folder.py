"""A run's folder: its name, what it says of itself, which groups it began, and the cards that are finished."""

import contextlib
import dataclasses
import functools
import json
import platform
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import jax
from ml_collections import ConfigDict

from cards_jax import config, files, pack, size
from cards_jax.config import ConfigError, Point

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "ml-collections")
UNSEEN = ("commit", "platform")  # differences that a resume does not mention


class Damaged(OSError):
    """A run's folder is not as it was written; the message names the file."""


@dataclasses.dataclass(eq=False)
class Record:
    """A group that was begun: what a resume needs to go on exactly.

    name: of its folder in checkpoints/. points: what it trains; group: their number after padding; mesh: devices as
    (rows, split).
    metrics: bytes of the metric files before its first row. versions: the stack it was begun with.
    done: its cards are on the disk.
    """

    name: str
    points: list[Point]
    group: int
    mesh: list[int]
    metrics: dict[str, int]
    versions: dict[str, Any]
    done: bool = False

    @classmethod
    def read(cls, fields: dict[str, Any]) -> Self:
        return cls(**{**fields, "points": [Point(**p) for p in fields["points"]]})


@dataclasses.dataclass
class State:
    """state.json: fingerprint of the data, and every group that was begun. Only the last can be undone."""

    data: str
    groups: list[Record] = dataclasses.field(default_factory=list)


def read_state(folder: Path) -> State | None:
    """The state of a run, None before its first group. Raises Damaged where the file cannot be used."""
    path = folder / "state.json"
    if not path.exists():
        return None
    try:
        fields = files.checked(json.loads(path.read_bytes()))
        return State(**{**fields, "groups": [Record.read(r) for r in fields["groups"]]})
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged(
            f"{path} is damaged ({_short(error)}): put it back from a copy, or begin anew in another workdir"
        ) from None


def write_state(folder: Path, state: State) -> None:
    """state.json, with a hash: a bit of it may decide what is trained."""
    write_json(folder / "state.json", files.vouched(dataclasses.asdict(state)))


def path_of(c: ConfigDict) -> Path:
    """Where a config's run lives: `<workdir>/<name>-<hash of what its realizations share>`."""
    return Path(c.workdir).absolute() / f"{c.name}-{config.shared_identity(c)}"


def read_config(folder: str | Path) -> ConfigDict:
    """The snapshot of a run, for `--resume`; ConfigError where there is none or it is damaged.

    The folder may have been moved: its present place decides.
    """
    folder = Path(folder).resolve()
    try:
        c = _snapshot(folder)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"resume={folder}: no readable config.json there ({_short(error)})"
        ) from None
    with c.unlocked():
        c.workdir = str(folder.parent)
    if path_of(c) != folder:
        raise ConfigError(f"resume={folder}: its config.json belongs to {path_of(c).name}")
    return c


def write_config(folder: Path, c: ConfigDict) -> None:
    """The snapshot of a run, with a hash. Without it, people may change the file; the folder's name tells what fits."""
    write_json(folder / "config.json", files.vouched(c.to_dict()))


def _snapshot(folder: Path) -> ConfigDict:
    """config.json as a config; OSError or ValueError where it is missing or no such thing."""
    try:
        return config.from_json((folder / "config.json").read_text())
    except (TypeError, AttributeError, KeyError) as error:  # JSON, but not of a config
        raise ValueError(f"not a config: {_short(error)}") from None


def nearest(c: ConfigDict) -> str | None:
    """One line about the run of the same name that differs in the fewest shared fields, if there is one."""
    mine, found = config.shared_changes(c), []
    standard = config.flat(config.defaults())
    for path in path_of(c).parent.glob(f"{c.name}-*/config.json"):
        try:
            other = _snapshot(path.parent)
        except (OSError, ValueError):
            continue
        theirs = config.shared_changes(other)
        changed = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
        if other.name == c.name and changed:
            each = [(k, theirs.get(k, standard[k]), mine.get(k, standard[k])) for k in changed]
            text = ", ".join(f"{k} {old!r} -> {new!r}" for k, old, new in each)
            found.append((len(changed), path.parent, text))
    if not found:
        return None
    _, path, text = min(found)
    return f"a new run; the nearest existing one is {path} ({text})"


def versions() -> dict[str, Any]:
    """Everything that the last digits of a run depend on, beside its config."""
    device = jax.devices()[0]
    return {
        "cards_jax": metadata.version("cards_jax"),
        "commit": commit(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": f"{jax.device_count()} x {device.platform} {device.device_kind}",
        "processes": jax.process_count(),
    }


@functools.cache
def commit() -> str | None:
    """Commit of the checkout that this package was run from when it was first asked, None outside of one."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None


def changed_stack(record: Record, mesh: list[int], now: dict[str, Any]) -> str | None:
    """One line on what a group was begun with and goes on without; None where bits stay the same."""
    was, now = {**record.versions, "mesh": record.mesh}, {**now, "mesh": mesh}
    changed = [k for k in now if k not in UNSEEN and was.get(k) != now[k]]
    if not changed:
        return None
    text = ", ".join(f"{k} {was.get(k)} -> {now[k]}" for k in changed)
    return f"goes on with another {text}: equal up to rounding, not bit for bit"


def file_name(c: ConfigDict, point: Point) -> str:
    """Readable, and unique by the realization's identity."""
    return (
        f"seed{point.seed}_sparsity{point.sparsity:g}_lr{point.learning_rate:g}"
        f"_wd{point.weight_decay:g}_{config.identity(c, point)}"
    )


def card_path(c: ConfigDict, point: Point) -> Path:
    """The file of a realization's finished card."""
    return path_of(c) / "cards" / f"{file_name(c, point)}.card"


def result_of(c: ConfigDict, point: Point) -> dict[str, Any] | None:
    """What a finished realization measured; None where it has no card file.

    Raises ValueError where its card file is damaged, or holds another card.
    """
    path = card_path(c, point)
    if not path.exists():
        return None
    result = pack.meta(path).get("result", {})
    if result.get("id") != config.identity(c, point):
        raise ValueError(f"{path}: holds another card")
    return {**result, **sizes(path)}


def sizes(path: Path) -> dict[str, float]:
    """What a card takes: the paper's formula for its kept weights, and the bytes of its file."""
    total = size.table(path).total
    return {"paper_bytes": total.paper, "true_bytes": total.true}


def sweep(folder: Path) -> None:
    """Delete the drafts that killed processes left; only for who holds the folder's lock."""
    for path in folder.rglob("*.tmp"):
        path.unlink(missing_ok=True)


def remember(folder: Path, command: str) -> None:
    """Add a command to those that a run was started with, in commands.txt, unless it is there."""
    path = folder / "commands.txt"
    known = path.read_text().splitlines() if path.exists() else []
    if command not in known:
        files.write_atomically(path, "\n".join([*known, command]) + "\n")


def write_json(path: Path, value: Any) -> None:
    """Strict JSON, whole or not at all."""
    files.write_atomically(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """Where a file of the run does not fit the rest, that is Damaged, and said in one line."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        raise Damaged(
            f"{_short(error)}; put it back from a copy, or begin anew in another workdir"
        ) from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
