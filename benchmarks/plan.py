"""The paper's whole grid on paper: networks, steps, hours, memory and disk, from the configs and measured rates.

    python -m benchmarks.plan --save=docs/plan.md

Counts come from the shipped configs, through the functions that a run uses. Two kinds of measured rates turn arithmetic
into hours: those of two cores (results/train_*_cpu.csv, --measured), and those of an accelerator, the training table of
benchmarks.accelerator (--accelerator), in place of which --tflops assumes one.
"""

import argparse
import csv
import dataclasses
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.machine import describe

ROOT = Path(__file__).parents[1]
H100 = ROOT / "results/accelerator_h100_training.csv"
TRAIN, TEST, SIDE = 50_000, 10_000, 32  # CIFAR-10 and CIFAR-100
SPARSITY = (0.5, 0.6, 0.8, 0.9, 0.95)
LEVELS = (0.488, 0.59, 0.79, 0.893, 0.945)  # of 20% each, nearest to these
CORRUPTED = 15 * 5  # test sets: corruptions and severities
WAVES = 514 * 1_000 / TEST  # of one Fourier heatmap on 1,000 images, in test sets


@dataclasses.dataclass(frozen=True)
class Panel:
    """One command of the grid: a config and what it overrides."""

    part: str
    network: str
    method: str
    scope: str
    augment: str = "standard"
    data: str = "cifar10"
    seeds: int = 5
    sparsity: tuple[float, ...] = SPARSITY

    def config(self):
        """The shipped config of the method for this kind of network, with this panel's fields."""
        from cards_jax import main, validation

        conv = self.network.startswith("conv")
        name = f"{self.method}_conv.py:{self.network}" if conv else f"{self.method}_resnet18.py"
        c = main.load_config(f"configs/{name}")
        c.model.name, c.scope, c.augment = self.network, self.scope, self.augment
        c.data.name, c.seeds = self.data, tuple(range(self.seeds))
        levels = self.method in ("lth", "lrr")
        c.sparsity = tuple(dict(zip(SPARSITY, LEVELS, strict=True))[s] for s in self.sparsity)
        c.sparsity = c.sparsity if levels else self.sparsity
        c.sparsity = (0.0,) if self.method == "dense" else c.sparsity
        return validation.validate(c)


METHODS = [  # and scopes: global for all, layerwise for those that pop up as well
    *(("dense", "layerwise"), ("ft", "global"), ("gmp", "global")),
    *(("lth", "global"), ("lrr", "global")),
    *((m, s) for m in ("ep", "bp") for s in ("layerwise", "global")),
]


def grid(networks: list[str]) -> Iterator[Panel]:
    """Section 2.2: every method on every network. Section 3.3: cards for decks on two data sets."""
    for network in networks:
        for method, scope in METHODS:
            yield Panel("2.2", network, method, scope)
    for data in ("cifar10", "cifar100"):
        for augment in ("standard", "augmix", "gaussian"):
            for method, scope in (("dense", "layerwise"), ("lrr", "global"), ("ep", "global")):
                more = dict(augment=augment, data=data, seeds=3, sparsity=(0.9, 0.95))
                yield Panel("3.3", "wrn18_2", method, scope, **more)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a panel takes: networks trained side by side, steps and images, arithmetic, memory, bytes on disk."""

    panel: Panel
    cards: int
    realizations: int
    steps: int
    images: float
    train_flop: float
    test_flop: float
    memory: int
    checkpoints: int
    card_bytes: int


def stand_in(classes: int):
    """Data of CIFAR's shapes; no pixel of it exists."""
    from cards_jax.data import Data

    images = lambda n: np.broadcast_to(np.uint8(0), (n, SIDE, SIDE, 3))
    labels = lambda n: np.broadcast_to(np.int32(0), (n,))
    names = tuple(map(str, range(classes)))
    sets = (images(TRAIN), labels(TRAIN), images(TEST), labels(TEST), images(0), labels(0))
    return Data(*sets, None, names, (0.5,) * 3, (0.25,) * 3, "none")


def cost(panel: Panel) -> Cost:
    """Through the functions that a run and --dry_run use."""
    from cards_jax import config, estimate, models, realizations, run, tree
    from cards_jax.trainer import distinct, phases_of, recipe_of, spec_of

    c = panel.config()
    d = stand_in(100 if panel.data == "cifar100" else 10)
    spec, points = spec_of(c, d), config.points(c)
    recipe = recipe_of(c, spec, realizations.layout(1, 1, c.batch_size, 1))
    phases = phases_of(c, points, run.steps_per_epoch(c, d))
    trained = [len(distinct(points, phase)) for phase in phases]
    steps = sum(p.steps * n for p, n in zip(phases, trained, strict=True))
    adds = estimate.multiply_adds(recipe)
    params, _ = models.shapes(spec)
    rest = tree.size(params) - tree.size(tree.only_prunable(params))
    return Cost(
        panel=panel,
        cards=len(points),
        realizations=max(trained),
        steps=steps,
        images=steps * c.batch_size,
        train_flop=steps * estimate.step_flops(recipe),
        test_flop=2.0 * adds * TEST * len(points) * (1 + CORRUPTED + 3 * WAVES),
        memory=estimate.realization_bytes(c, recipe, phases[0]),
        checkpoints=max(trained)
        * c.checkpoint.keep
        * tree.nbytes(estimate.state_shapes(c, recipe)),
        card_bytes=sum(_card(tree.size(tree.only_prunable(params)), rest, p, c) for p in points),
    )


def _card(prunable: int, rest: int, point, c) -> int:
    """About what a packed card takes: the entropy of its mask, its kept values, everything else."""
    keep = 1 - point.sparsity
    mask = -sum(q * np.log2(q) for q in (keep, 1 - keep) if q > 0)
    bits = 1 if c.method == "bp" or (c.method == "ep" and not c.popup.get("full", False)) else 32
    return int(prunable * (mask + keep * bits) / 8 + 4 * rest)


# --- rates


@dataclasses.dataclass(frozen=True)
class Rate:
    """Floating-point operations per second of one device in training, and where that number comes from."""

    flops: float
    source: str


def measured(path: Path) -> Rate:
    """From a result of benchmarks.train: the median of its first contestant of ours, as arithmetic."""
    network = next(word for word in path.stem.split("_") if word != "train")
    with path.open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["contestant"].startswith("cards_jax")]
    name = rows[-1]["contestant"]
    rates = [float(r["work_per_second"]) for r in rows if r["contestant"] == name]
    flops = _arithmetic(network) * statistics.median(rates)
    lines = path.with_suffix(".md").read_text().splitlines()
    machine = next((x.split(": ", 1)[1] for x in lines if x.startswith("- machine: ")), "unknown")
    text = f"{network}: {statistics.median(rates):.1f} images/s, {flops / 1e9:.0f} GFLOP/s"
    return Rate(flops, f"{text} ({name}; {machine.partition(';')[0]}; {path.name})")


def accelerated(path: Path) -> list[Rate]:
    """From the training table of benchmarks.accelerator: the fastest way of each network, as arithmetic."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["images/s x R"]]
    rate_of = lambda row: float(row["images/s x R"])
    found = []
    for network in dict.fromkeys(row["network"] for row in rows):
        row = max((r for r in rows if r["network"] == network), key=rate_of)
        rate = rate_of(row)
        flops = _arithmetic(network) * rate
        text = f"{network}: {rate:,.0f} images/s, {flops / 1e12:.0f} TFLOP/s"
        found.append(Rate(flops, f"{text} ({row['training']}; {path.name})"))
    return found


def _arithmetic(network: str) -> float:
    """Operations of training on one image."""
    from cards_jax import estimate, realizations, run
    from cards_jax.trainer import recipe_of, spec_of

    c, d = Panel("", network, "ep", "layerwise").config(), stand_in(10)
    run.check(c, d)
    recipe = recipe_of(c, spec_of(c, d), realizations.layout(1, 1, c.batch_size, 1))
    return 6.0 * estimate.multiply_adds(recipe)


# --- the page


def page(
    costs: list[Cost],
    rates: list[Rate],
    quick: list[Rate],
    args: argparse.Namespace,
    notes: list[str],
) -> str:
    """The plan as markdown."""
    slow = statistics.geometric_mean(r.flops for r in rates)
    fast = statistics.geometric_mean(r.flops for r in quick)
    lines = [
        "# A plan for the paper's grid",
        "",
        *(f"- {note}" for note in notes),
        "",
        TEXT.strip(),
        "",
    ]
    lines += [
        "## Rates",
        "",
        "Measured (one result each; the plan uses their geometric mean for all networks):",
        "",
        *(f"- {r.source}" for r in rates),
        "",
        "Of one accelerator (likewise, for training and evaluation):",
        "",
        *(f"- {r.source}" for r in quick),
        "",
        f"Assumed, not measured: {args.gigabytes:g} GB of its memory.",
        "",
        "## Sums",
        "",
    ]
    head = ["part", "commands", "cards", "trainings", "steps", "PFLOP training", "PFLOP evaluation"]
    head += [
        "hours on the measured machine",
        f"hours on {args.devices} accelerators",
        "GB",
    ]
    lines += [_line(head), "|---" * len(head) + "|"]
    for part in ("2.2", "3.3", "all"):
        group = [c for c in costs if part in (c.panel.part, "all")]
        lines.append(
            _line([f"Section {part}" if part != "all" else "all", *_sums(group, slow, fast, args)])
        )
    lines += ["", "## Every command", ""]
    head = [
        "part",
        "network",
        "data",
        "augmentation",
        "method",
        "scope",
        "cards",
        "trainings",
        "steps",
    ]
    head += [
        "PFLOP",
        f"hours on {args.devices}",
        "MB a realization",
        "at a time on a device",
        "GB",
    ]
    lines += [_line(head), "|---" * len(head) + "|"]
    lines += [_line(_row(c, fast, args)) for c in costs]
    return "\n".join(lines) + "\n"


TEXT = f"""
Section 2.2: every method at five sparsities and five seeds. Section 3.3: cards for decks, three seeds at 90% and 95%,
clean, AugMix and Gaussian augmentation, on CIFAR-10 and CIFAR-100. Which five networks the paper's Figure 1 shows is
not public: the list is an assumption. Epochs, batches and level counts are those of the shipped configs. One
training is one network trained once through all its phases: a trajectory of levels serves all its sparsities.
Arithmetic is six times the multiply-adds of an image's forward pass in training (AugMix: three images of one), twice
in evaluation: clean, {CORRUPTED} corrupted test sets, and three Fourier heatmaps of 514 waves on 1,000 images for every
card. Trainings are spread over devices without a collective, so hours are divided by their number. Disk: the
checkpoints that a run keeps, and packed cards (entropy of the mask, kept values).
Not in it: compilation, input and output, failures, repeated runs, tuning.
"""


def _sums(group: list[Cost], slow: float, fast: float, args) -> list[str]:
    train, test = (sum(getattr(c, k) for c in group) for k in ("train_flop", "test_flop"))
    disk = sum(c.checkpoints + c.card_bytes for c in group)
    return [
        len(group),
        f"{sum(c.cards for c in group):,}",
        f"{sum(c.realizations for c in group):,}",
        f"{sum(c.steps for c in group):,}",
        f"{train / 1e15:,.0f}",
        f"{test / 1e15:,.0f}",
        f"{(train + test) / slow / 3600:,.0f}",
        f"{(train + test) / fast / 3600 / args.devices:,.1f}",
        f"{disk / 1e9:,.0f}",
    ]


def _row(c: Cost, fast: float, args) -> list[str]:
    from cards_jax import estimate

    p, flop = c.panel, c.train_flop + c.test_flop
    fit = int(estimate.HEADROOM * args.gigabytes * 1e9 / c.memory)
    return [
        *(p.part, p.network, p.data, p.augment, p.method, p.scope, c.cards, c.realizations),
        f"{c.steps:,}",
        f"{flop / 1e15:,.0f}",
        f"{flop / fast / 3600 / min(args.devices, c.realizations):,.2f}",
        f"{c.memory / 1e6:,.0f}",
        f"{fit:,}",
        f"{(c.checkpoints + c.card_bytes) / 1e9:.1f}",
    ]


def _line(cells: list) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    form = argparse.ArgumentParser("python -m benchmarks.plan", description=__doc__.split("\n")[0])
    form.add_argument("--networks", default="conv4,conv8,vgg19,resnet18,wrn18_2")
    form.add_argument(
        "--measured", help="results of benchmarks.train; results/train_*_cpu.csv otherwise"
    )
    form.add_argument(
        "--accelerator", type=Path, default=H100, help="training table of benchmarks.accelerator"
    )
    form.add_argument("--tflops", type=float, help="of one accelerator, assumed in its place")
    form.add_argument("--gigabytes", type=float, default=80.0, help="of an accelerator's memory")
    form.add_argument("--devices", type=int, default=8)
    form.add_argument("--save", type=Path, help="writes this markdown file")
    args = form.parse_args(arguments)
    given = [x for x in (args.tflops, args.gigabytes, args.devices) if x is not None]
    if min(given) <= 0:
        form.error("--tflops, --gigabytes and --devices must be above 0")
    found = (
        args.measured.split(",") if args.measured else sorted(ROOT.glob("results/train_*_cpu.csv"))
    )
    args.measured = [Path(p) for p in found]
    missing = [str(p) for p in args.measured if not p.is_file()]
    if args.tflops is None and not args.accelerator.is_file():
        form.error(f"--accelerator={args.accelerator}: no such file")
    if missing or not args.measured:
        form.error(f"--measured={','.join(missing)}: no such file")
    return args


def _assumed(tflops: float) -> Rate:
    return Rate(tflops * 1e12, f"{tflops:g} TFLOP/s, assumed, not measured")


def main() -> int:
    """Add up the grid, print it, save it where asked."""
    args = parse()
    notes = describe("benchmarks.plan")
    costs = [cost(panel) for panel in grid(args.networks.split(","))]
    quick = accelerated(args.accelerator) if args.tflops is None else [_assumed(args.tflops)]
    text = page(costs, [measured(p) for p in args.measured], quick, args, notes)
    print(text)
    if args.save:
        args.save.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
