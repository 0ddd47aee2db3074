"""A run's folder: its name, what it says of itself, which groups it began, and the cards that are finished."""

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from cards_jax import config, files, pack
from cards_jax.config import ConfigError, Point

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "ml-collections")


def path_of(c: ConfigDict) -> Path:
    """Where a config's run lives: `<workdir>/<name>-<hash of what its realizations share>`."""
    return Path(c.workdir).absolute() / f"{c.name}-{config.shared_identity(c)}"


def read_config(folder: str | Path) -> ConfigDict:
    """The snapshot of a run, for `--resume`; ConfigError where there is none or it is damaged.

    The folder may have been moved: its present place decides.
    """
    folder = Path(folder).absolute()
    try:
        c = config.from_json((folder / "config.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(f"resume={folder}: no readable config.json there ({error})") from None
    with c.unlocked():
        c.workdir = str(folder.parent)
    if path_of(c) != folder:
        raise ConfigError(f"resume={folder}: its config.json belongs to {path_of(c).name}")
    return c


def nearest(c: ConfigDict) -> str | None:
    """One line about the run of the same name that differs in the fewest shared fields, if there is one."""
    mine, found = config.shared_changes(c), []
    for path in path_of(c).parent.glob(f"{c.name}-*/config.json"):
        try:
            theirs = config.shared_changes(config.from_json(path.read_text()))
        except (ValueError, OSError):
            continue
        standard = config.flat(config.defaults())
        fields = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
        value = lambda d, k: d.get(k, standard[k])  # noqa: E731, B023
        text = ", ".join(f"{k} {value(theirs, k)!r} -> {value(mine, k)!r}" for k in fields)
        found.append((len(fields), path.parent, text))
    if not found:
        return None
    _, path, text = min(found)
    return f"a new run; the nearest existing one is {path} ({text})"


def versions() -> dict[str, Any]:
    """Everything that the last digits of a run depend on, beside its config."""
    device = jax.devices()[0]
    return {
        "cards_jax": metadata.version("cards_jax"),
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": f"{jax.device_count()} x {device.platform} {device.device_kind}",
        "processes": jax.process_count(),
    }


def _commit() -> str | None:
    """Commit of the checkout that this package is run from, None outside of one."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None


def file_name(c: ConfigDict, point: Point) -> str:
    """Readable, and unique by the realization's identity."""
    return (
        f"seed{point.seed}_sparsity{point.sparsity:g}_lr{point.learning_rate:g}"
        f"_wd{point.weight_decay:g}_{config.identity(c, point)}"
    )


def card_path(c: ConfigDict, point: Point) -> Path:
    """The file of a realization's finished card."""
    return path_of(c) / "cards" / f"{file_name(c, point)}.npz"


def result_of(c: ConfigDict, point: Point) -> dict[str, Any] | None:
    """What a finished realization measured; None where it has no card file.

    Raises ValueError where its card file is damaged.
    """
    path = card_path(c, point)
    return pack.load(path).meta["result"] if path.exists() else None


def read_state(folder: Path) -> dict[str, Any]:
    """state.json: the data's fingerprint, and the groups that were begun."""
    path = folder / "state.json"
    return json.loads(path.read_text()) if path.exists() else {"groups": []}


def write_json(path: Path, value: Any) -> None:
    """Strict JSON, whole or not at all."""
    files.write_atomically(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
