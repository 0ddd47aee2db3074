"""The command line of every experiment.

    python experiments/NAME.py [list|estimate|run|collect|draw|all] --scale=smoke|narrow|small|paper [--workdir=FOLDER]

`all`, the default, trains what is not finished, measures, collects and draws; the same command goes on where it was
stopped. `list` shows the runs and how far they are, with --commands as commands of cards_jax.main; `estimate` what they
will take. `run` trains and measures without drawing: as one machine of n with --index=i --of=n. `collect` writes the
tidy table and answers the paper's claims, `draw` the figures and report.html; both take what is
finished.

CIFAR comes from --data.dir, or from the folders that CARDS_JAX_CIFAR10 and CARDS_JAX_CIFAR100 name; any other images
from --data.name=folder --data.dir=PATH --data.title="...". --config.FIELD=VALUE overrides a field of every run, one
in which the runs do not differ; of seeds, those of all cards but not of tuning.
"""

import argparse
import dataclasses
import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from cards_jax import commands, files, signals, tabular
from cards_jax.config import ConfigError
from lab import collect, estimate, measure, plan, process, report, summary, sweep, tuning, verdict
from lab.measure import Wanted
from lab.plan import TUNE, Experiment, Place, Run
from lab.scales import SCALES, Scale

ACTIONS = ("all", "list", "estimate", "run", "collect", "draw")
FOLDERS = {"cifar10": "CARDS_JAX_CIFAR10", "cifar100": "CARDS_JAX_CIFAR100"}
DATA = {"name": str, "dir": str, "title": str, "cache_dir": str}


def form(experiment: Experiment) -> argparse.ArgumentParser:
    """The options."""
    f = commands.Form(
        f"experiments/{experiment.name}.py",
        description=experiment.question,
        epilog=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = f.add_argument
    add("action", nargs="?", default="all", choices=ACTIONS, help="what to do; all by default")
    add("--scale", default="smoke", choices=SCALES, help="how large")
    add("--workdir", help="folder of the runs; runs/experiments-SCALE by default")
    add("--index", type=int, help="which part, from 0 (SLURM_ARRAY_TASK_ID), of --of parts")
    add("--of", type=int, help="machines that share the runs")
    add(
        "--gflops",
        type=float,
        help="10^9 operations a second, to estimate; by default what finished runs took, before them that of two cores",
    )
    add(
        "--images",
        type=int,
        help="test images that are corrupted, 0 is all; the scale's by default",
    )
    add(
        "--heat_images",
        type=int,
        help="test images of heatmaps; the scale's by default",
    )
    add(
        "--tuned",
        help="a cards.csv of the same scale and data: its rates, kept in the workdir in place of tuning",
    )
    add(
        "--jobs",
        type=int,
        default=1,
        help="runs trained side by side, for a GPU that one of them does not fill; 1 by default",
    )
    add("--commands", action="store_true", help="list the commands of the runs")
    add("--corruptions_dir", help="CIFAR-10-C as a folder; else corruptions are made")
    for field, kind in DATA.items():
        add(f"--data.{field}", dest=f"data_{field}", type=kind, help=f"config.data.{field}")
    return f


def parse(experiment: Experiment, argv: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """The options, and the fields that --config.FIELD=VALUE overrides."""
    parser, fields = form(experiment), {}
    args, rest = parser.parse_known_args(list(argv))
    for argument in rest:
        name, equals, value = argument.partition("=")
        if not name.startswith("--config.") or not equals:
            parser.error(
                f"argument {argument!r}: allowed are those of --help, --config.FIELD=VALUE"
            )
        fields[name.removeprefix("--config.")] = value
    if (args.index is None) != (args.of is None):
        parser.error("--index, --of: allowed are both or none")
    if args.of is not None and not 0 <= args.index < args.of:
        parser.error(f"--index={args.index}: allowed is 0 to {args.of - 1} with --of={args.of}")
    if args.jobs < 1:
        parser.error(f"--jobs={args.jobs}: allowed is 1 or more")
    if args.gflops is not None and not args.gflops > 0:
        parser.error(f"--gflops={args.gflops}: allowed is a number above 0")
    if args.images is not None and args.images < 0:
        parser.error(f"--images={args.images}: allowed is 0 (all) or more")
    if args.heat_images is not None and args.heat_images < 1:
        parser.error(f"--heat_images={args.heat_images}: allowed is 1 or more")
    return args, fields


def place_of(experiment: Experiment, scale: Scale, args, fields: dict[str, str]) -> Place:
    """Workdir and data."""
    name = args.data_name or (experiment.data if scale.data is None else scale.data)
    data: dict[str, Any] = {"data.name": name}
    for field in ("dir", "title", "cache_dir"):
        value = getattr(args, f"data_{field}")
        if field == "dir" and value is None and not args.data_name:
            value = os.environ.get(FOLDERS.get(name, ""))
        if value is not None:
            data[f"data.{field}"] = (
                str(Path(value).expanduser().absolute()) if field == "dir" else value
            )
    workdir = args.workdir
    if workdir is not None and workdir[:1] in ("", "-"):
        raise ConfigError(f"workdir={workdir!r}: must name a folder")
    workdir = Path(workdir or Path("runs") / f"experiments-{scale.name}")
    return Place(workdir.expanduser().absolute(), {**data, **fields})


def main(experiment: Experiment, argv: Sequence[str] | None = None) -> int:
    """What an experiment's file does; the exit code: 1 where a run failed, 2 for a mistake, 75 after a signal."""
    arguments = sys.argv[1:] if argv is None else argv
    args, fields = parse(experiment, arguments)
    code = 0

    def action() -> None:
        nonlocal code
        code = Command(experiment, args, fields, arguments).run()

    try:
        with signals.interrupting():
            return commands.ended(form(experiment).prog, action) or code
    except process.Interrupted:
        print("stopped; what is trained is saved, the same command continues", file=sys.stderr)
        return process.REQUEUE


class Command:
    """One call of an experiment's command."""

    def __init__(
        self, experiment: Experiment, args, fields: dict[str, str], argv: Sequence[str] = ()
    ):
        self.experiment, self.args, self.argv = experiment, args, list(argv)
        self.place = place_of(experiment, SCALES[args.scale], args, fields)
        self.scale = dataclasses.replace(SCALES[args.scale], given=self.place.fields)
        self.runs = plan.ordered(experiment.runs(self.scale))
        self.named = {run.name: run for run in self.runs}
        plan.overridable(experiment, self.runs, fields)
        s = self.scale
        self.wanted = Wanted(
            experiment.robust,
            experiment.heat,
            s.images if args.images is None else args.images,
            s.heat_images if args.heat_images is None else args.heat_images,
            s.eps if experiment.norms else (max(s.eps),),
            args.corruptions_dir,
            experiment.decks,
        )
        self.out = self.place.workdir / "figures" / experiment.name
        if args.tuned is not None:
            path = Path(args.tuned)
            rows = tuning.published(path)
            chosen = tuning.adopted(self.runs, self.scale.name, self.place, rows, path)
            self.place = dataclasses.replace(self.place, chosen=chosen)
            self.say(f"chosen as in {path.name}: {', '.join(chosen) or 'nothing new'}")

    def run(self) -> int:
        """Do it."""
        action = self.args.action
        if action in ("list", "estimate"):
            {"list": self.show, "estimate": self.estimate}[action]()
            return 0
        failed = []
        if action in ("run", "all"):
            self.check()
            tuning.keep(self.runs, self.place, self.place.chosen)
            failed = self.sweep()
        else:
            commands.use_all_cores()  # what was not measured yet is measured in this process
        try:
            if action in ("collect", "all"):
                self.collect()
            if action in ("draw", "all"):
                self.draw()
        except ConfigError as error:
            if not failed:
                raise
            self.say(str(error))  # what failed comes first, and decides the exit code
        return self.report(failed)

    def say(self, text: str) -> None:
        """A line of progress."""
        print(text, file=sys.stderr, flush=True)

    def mine(self) -> list[Run]:
        """The runs of this machine."""
        if self.args.of is None:
            return self.runs
        return sweep.part(self.runs, self.args.index, self.args.of)

    # --- before

    def show(self) -> None:
        """Every run, its state and its cards."""
        numbers = {r.name: i for i, chain in enumerate(plan.chains(self.runs)) for r in chain}
        body = []
        for run in self.mine():
            step = sweep.look(run, self.named, self.place)
            c = step.config or plan.resolved(_alone(run), self.place)
            if self.args.commands:
                more = plan.arguments(run, self.place, step.given)
                after = f"  # after {' and '.join(run.needs)}" * (step.state == sweep.WAITING)
                print(f"python -m cards_jax.main {_quoted(more)}{after}")
                continue
            axes = (
                f"{len(c.seeds)} x {len(c.sparsity)} x {len(c.learning_rate) * len(c.weight_decay)}"
            )
            body.append([str(numbers[run.name]), run.name, run.role, axes, step.state, run.label])
        if not self.args.commands:
            head = ["chain", "run", "role", "seeds x sparsities x grid", "state", "what"]
            print(self.experiment.question)
            print(tabular.aligned(head, body, [False, True, True, False, True, True]))

    def estimate(self) -> None:
        """What every run takes, and all together."""
        found = []
        for run in self.mine():
            step = sweep.look(run, self.named, self.place)
            c = step.config or plan.resolved(_alone(run), self.place)
            found.append((step, c, estimate.need(c)))
        gflops, why = self._speed(found)
        body = []
        cards, flops, seconds, disk, answers = 0, 0.0, 0.0, 0, 0.0
        for step, c, n in found:
            if step.run.role != TUNE:
                answers += n.cards * n.answer * estimate.images_measured(c, self.wanted)
            state = "finished"
            if step.state != sweep.DONE:
                state = estimate.words(n.seconds(gflops))
                cards, flops = cards + n.cards, flops + n.flops
                seconds, disk = seconds + n.seconds(gflops), disk + n.disk
            body.append([step.run.name, str(n.cards), f"{n.flops:.2g}", state])
            body[-1] += [f"{n.memory / 1e6:,.0f}", f"{n.disk / 1e6:,.0f}"]
        if answers:
            took = answers / (1e9 * gflops)
            flops, seconds = flops + answers, seconds + took
            body.append(["measuring", "", f"{answers:.2g}", estimate.words(took), "", ""])
        last = ["to do", str(cards), f"{flops:.2g}", estimate.words(seconds), ""]
        body.append([*last, f"{disk / 1e6:,.0f}"])
        head = ["run", "cards", "operations", "time", "MB for each in training", "MB on disk"]
        print(tabular.aligned(head, body, [True, *[False] * 5]))
        print(f"Time at {gflops:.3g} x 10^9 operations a second, {why}.", end="")
        print(" Measuring: of all cards, as if none was measured before." if answers else "")

    def _speed(self, found: Sequence[tuple]) -> tuple[float, str]:
        """10^9 operations a second to estimate with, and where that comes from."""
        if self.args.gflops is not None:
            return self.args.gflops, "as --gflops says"
        done = [
            (n.flops, took)
            for step, c, n in found
            if step.state == sweep.DONE and (took := sweep.took(c)) is not None
        ]
        here = estimate.speed(done)
        if here is None:
            return estimate.GFLOPS, "what two cores reach with Conv4; --gflops says another"
        return here, "what finished runs took here; --gflops says another"

    def check(self) -> None:
        """Raise ConfigError, before anything is trained, for what cannot be."""
        free = [_alone(run) for run in self.mine()]
        configs = [plan.resolved(run, self.place) for run in free]
        steps = [sweep.known(run, self.named, self.place) for run in self.mine()]
        there = [
            path for step in steps if step and step.config for path in plan.cards_of(step.config)
        ]
        if configs:
            measure.check(configs[0], self.wanted, there)

    # --- training and measuring

    def sweep(self) -> list[str]:
        """Train and measure; a line for each failure."""
        runs = self.mine()
        failed = sweep.sweep(runs, self.named, self.place, self.say, jobs=self.args.jobs)
        cards, c = [], None
        for run in runs:
            step = sweep.known(run, self.named, self.place)
            if step and step.state == sweep.DONE and run.role != TUNE:
                c, cards = step.config, cards + plan.cards_of(step.config)
        if cards and (self.wanted.robust or self.wanted.heat):
            failed += self._measured(c, list(dict.fromkeys(cards)))
        return failed

    def _measured(self, c: ConfigDict, cards: list[Path]) -> list[str]:
        part = "" if self.args.of is None else f"-{self.args.index}-of-{self.args.of}"
        name = f"measure-{self.experiment.name}{part}"
        where, log = (self.place.workdir / "logs" / f"{name}.{kind}" for kind in ("json", "txt"))
        measure.order(where, c, cards, self.wanted)
        self.say(f"measuring {len(cards)} cards")
        code, seconds = process.call([str(where)], log, measure.main)
        if code == process.REQUEUE:
            raise process.Interrupted
        self.say(f"measured in {seconds:.0f} s" if not code else f"measuring FAILED; see {log}")
        return [f"measuring: {process.why(code, log)}"] if code else []

    # --- after

    def findings(self) -> collect.Findings:
        """What is there."""
        if not hasattr(self, "_findings"):
            self._findings = collect.gather(
                self.experiment.name, self.runs, self.scale, self.place, self.wanted, self.say
            )
            if not self._findings.cards:
                raise ConfigError(f"workdir={self.place.workdir}: no run is finished there yet")
        return self._findings

    @functools.cached_property
    def tables(self) -> tuple[str, ...]:
        """The means and the verdicts, written beside the tidy table; raises ConfigError without cards."""
        found = self.findings()
        self.out.mkdir(parents=True, exist_ok=True)
        rows = collect.table(found)
        files.write_atomically(self.out / "cards.csv", tabular.csv_table(rows))
        texts = [summary.markdown(found)]
        files.write_atomically(self.out / "summary.md", texts[0])
        rules = self.experiment.rules(self.scale)
        answers = verdict.judge(found, rules)
        if answers:
            files.write_atomically(self.out / "verdicts.csv", tabular.csv_table(answers))
            texts.append(verdict.markdown(answers, found))
            files.write_atomically(self.out / "verdicts.md", texts[1])
        self.say(f"{len(rows)} cards in {self.out / 'cards.csv'}")
        return tuple(texts)

    def collect(self) -> None:
        """The tidy table, its means, and the verdicts."""
        for text in self.tables:
            print(text)

    def draw(self) -> None:
        """The figures, and one page with everything."""
        paths = self.experiment.draw(self.findings(), self.out)
        if not paths:
            left = ", ".join(self.findings().missing) or "none"
            raise ConfigError(
                f"{self.experiment.name}: nothing can be drawn of what is there; runs that are not finished: {left}"
            )
        for path in paths:
            self.say(str(path))
        _ = self.tables  # what the page shows is of the same cards
        typed = ["python", f"experiments/{self.experiment.name}.py", *self.argv]
        question = self.experiment.question
        about = question, self.out, self.named, self.place, typed
        self.say(str(report.write(self.findings(), *about)))

    def report(self, failed: list[str]) -> int:
        """Every failure once more, at the end; the exit code."""
        for line in failed:
            self.say(f"failed: {line}")
        return 1 if failed else 0


def _alone(run: Run) -> Run:
    """A run as far as it is known before those that it needs: at its config's rates, a ticket as random masks."""
    fields = dict(run.fields)
    if run.source:
        fields = {k: v for k, v in fields.items() if not k.startswith("ticket.")}
        fields["method"] = "random"
    return dataclasses.replace(run, fields=fields, tuned_by=None, source=None)


def _quoted(arguments: Sequence[str]) -> str:
    import shlex

    return shlex.join(arguments)
