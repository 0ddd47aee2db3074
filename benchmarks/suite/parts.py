"""Where the time of a step goes, from a profile of the compiled program."""

import re
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.steps import Case, steps, trainer_of, use_devices
from benchmarks.suite import Options, Table, measured
from benchmarks.train import BATCH_SIZE

KINDS = {  # the first whose pattern is found in an operation's name; scopes come from train.py
    "selection": r"selection",
    "augmentation": r"augmentation",
    "data": r"data|_shuffle|gather",
    "optimizer": r"optimizer",
    "BatchNorm": r"bn\d?/|shortcut_bn|norm",
    "convolutions": r"conv\d*/|shortcut_conv|linear\d*/|fc/",
    "activations, pooling, sums": r"ConvNet|ResNet|relu|max|select_n",
}
REST = "other"


def kind_of(operation: str) -> str:
    """Which part of a step an operation belongs to, by the name that the compiler kept of its source."""
    return next((kind for kind, sought in KINDS.items() if re.search(sought, operation)), REST)


def operations(program: str) -> dict[str, str]:
    """{instruction: name in the source} of a compiled program's text."""
    found = re.findall(r'^\s*(?:ROOT )?%?([\w.-]+) = .*?op_name="([^"]*)"', program, re.MULTILINE)
    return dict(found)


def self_times(lines: list[list[tuple[int, int, str]]]) -> Counter:
    """Nanoseconds of each name without what is nested in it; a line holds (start, duration, name)."""
    total: Counter = Counter()
    for line in lines:
        open_: list[tuple[int, str]] = []
        for start, duration, name in sorted(line, key=lambda e: (e[0], -e[1])):
            while open_ and open_[-1][0] <= start:
                open_.pop()
            if open_:
                total[open_[-1][1]] -= duration
            total[name] += duration
            open_.append((start + duration, name))
    return total


def profile(case: Case, count: int) -> dict[str, float]:
    """Core-milliseconds of each part of a step and realization, over all devices."""
    use_devices()
    import jax

    trainer, points = trainer_of(case)
    run = steps(trainer, points)
    run(1)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run(count)
        (file,) = Path(folder).rglob("*.xplane.pb")
        planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    lines = [
        [(e.start_ns, e.duration_ns, e.name) for e in line.events]
        for plane in planes
        for line in plane.lines
    ]
    names = operations("".join(p.as_text() for p in trainer._programs.values()))
    total: Counter = Counter()
    for name, spent in self_times(lines).items():
        if name in names:
            total[kind_of(names[name])] += spent
        elif re.fullmatch(r"[a-z_]+(-[a-z_]+)*(\.\d+)?", name) and "fusion" in name:
            total[REST] += spent
    return {kind: ns / 1e6 / count / case.realizations for kind, ns in total.items()}


def run(options: Options) -> list[Table]:
    """A row for each network and method."""
    networks = ("conv4",) if options.quick else ("conv4", "resnet20", "resnet18", "wrn18_2")
    rows, notes = [], []
    for network in networks:
        for method, augment in (
            ("dense", "standard"),
            ("ep", "standard"),
            ("bp", "standard"),
            ("ep", "augmix"),
        ):
            if options.quick and (method, augment) != ("ep", "standard"):
                continue
            count = 2 if network == "wrn18_2" else 4
            case = Case(network, method, BATCH_SIZE[network], count, augment=augment)
            what = f"parts of {network}, {case.name}"
            arguments = {"case": case, "count": 2}
            spent, reason = measured(options, what, profile, **arguments)
            notes += [reason] * bool(reason)
            if spent:
                whole = sum(spent.values())
                shares = {k: f"{spent.get(k, 0) / whole:.1%}" for k in [*KINDS, REST]}
                rows.append({"step": f"{network}, {case.name}", "core-ms": whole, **shares})
    notes.insert(
        0,
        "From a profiler trace: core-milliseconds of one realization's step, by the name that the compiler keeps of "
        "the source; what it fuses counts as its last operation. Work inside library threads counts as its caller's.",
    )
    return [Table("Parts of a step", rows, notes)]
