"""Where runs are disturbed: their configs, the undisturbed ones beside them, and how both are compared."""

import csv
import functools
from pathlib import Path

import runs
from runs import Runner

from cards_jax import experiment, folder
from cards_jax.checkpoint import Checkpoints

METHODS = {
    "biprop": {},
    "biprop, groups of one": {"compute__group_size": 1},
    "biprop beside its dense baseline": {"baseline": "auto"},
    "biprop with a heatmap": {"evaluate__heatmap": (4.0,), "epochs": 1},
    "gradual pruning": {"method": "gmp", "scope": "global", "sparsity": (0.5, 0.8)},
    "fine-tuning": {"method": "ft", "scope": "global", "sparsity": (0.5, 0.8), "epochs": 2},
    "weight rewinding, 2 levels": {
        "method": "lth",
        "scope": "global",
        "sparsity": (0.2, 0.36),
        "epochs": 1,
        "pruning__rewind_steps": 3,
    },
    "learning-rate rewinding, 2 levels": {
        "method": "lrr",
        "scope": "global",
        "sparsity": (0.2, 0.36),
        "epochs": 1,
    },
}


class Stage:
    """Runners in new workdirs of one place, that share their compiled programs."""

    def __init__(self, place: Path):
        self.place, self.cache = place, place.parent / "programs"
        self.cache.mkdir(exist_ok=True)
        self._made = 0

    def runner(self, **changes) -> Runner:
        self._made += 1
        return Runner(self.place / f"run_{self._made}", self.cache, **changes)

    @functools.cached_property
    def references(self) -> dict[str, Runner]:
        return {}

    def reference(self, method: str = "biprop") -> Runner:
        """A run that nothing disturbed."""
        if method not in self.references:
            runner = self.runner(**METHODS[method])
            runner.finish()
            self.references[method] = runner
        return self.references[method]

    def difference(self, runner: Runner, method: str = "biprop") -> str:
        """What of a finished run is not as in the undisturbed one; empty where all is."""
        pairs = [(runner.path, self.reference(method).path)]
        if METHODS[method].get("baseline") == "auto":
            name = folder.path_of(experiment.baseline_config(runner.c)).name
            pairs += [tuple(path.with_name(name) for path in pairs[0])]
        return ", ".join(filter(None, (difference(*pair) for pair in pairs)))


def difference(path: Path, reference: Path) -> str:
    """Names of metrics, cards, results and tables that are missing, or not the same bit for bit."""
    try:
        mine, wanted = (runs.outcome(p) | _tables(p) for p in (path, reference))
    except (OSError, ValueError) as error:
        return f"unreadable: {error}"
    return ", ".join(n for n in mine.keys() | wanted.keys() if mine.get(n) != wanted.get(n))


def _tables(path: Path) -> dict[str, list[dict[str, str]]]:
    """Without the bytes of card files, which hold the commit that wrote them."""
    found = {}
    for file in (path / "tables").glob("*.csv"):
        with file.open(newline="", encoding="utf-8") as text:
            rows = list(csv.DictReader(text))
        found[file.name] = [{k: v for k, v in r.items() if "bytes" not in k} for r in rows]
    return found


def saved_steps(runner: Runner) -> dict[str, list[int]]:
    """Steps of the good checkpoints of each group."""
    groups = sorted(runner.path.glob("checkpoints/group_*"))
    return {p.name: Checkpoints(p, notice=lambda _: None).steps() for p in groups}


def kept(before: dict[str, list[int]], after: dict[str, list[int]]) -> bool:
    """Whether every group still has its newest good checkpoint, or a newer one."""
    return all(max(after.get(name, [-1])) >= steps[-1] for name, steps in before.items() if steps)


def telling(text: str) -> str:
    """The line of a run's output that tells of a fault."""
    lines = [line for line in text.splitlines() if line.strip()]
    words = ("cards_jax: ", "goes on at", "is damaged", "made again", "trained again", "stopped")
    told = [line for line in lines if any(word in line for word in words)]
    return (told or lines or [""])[-1]
