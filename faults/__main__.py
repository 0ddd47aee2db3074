"""python -m faults --save=results/faults [--only=kills,flips] [--quick] [--anew]

Every kind's rows are saved when it ends; a campaign that is begun again with the same --save goes on with the kinds
that are missing. Exit code 1 where anything was lost, silently wrong, a traceback or a hang.
"""

import argparse
import importlib
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from benchmarks.machine import commit, describe
from cards_jax import files
from cards_jax.plain import csv_text
from faults import trial

KINDS = (
    *("kills", "peers", "flips", "disks", "places", "crowds", "clocks"),
    *("nans", "inputs", "archives"),
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    form = argparse.ArgumentParser("python -m faults", description="A campaign of faults.")
    form.add_argument("--only", default=",".join(KINDS), help="kinds, with commas between")
    form.add_argument("--quick", action="store_true", help="a few of each, to see that it works")
    form.add_argument("--anew", action="store_true", help="forget the kinds that are done")
    form.add_argument("--save", type=Path, help="writes SAVE.md and SAVE.csv")
    form.add_argument("--work", type=Path, help="folder for the runs; a temporary one otherwise")
    args = form.parse_args(arguments)
    args.only = args.only.split(",")
    unknown = set(args.only) - set(KINDS)
    if unknown:
        form.error(f"--only={','.join(unknown)}: allowed are {', '.join(KINDS)}")
    if args.save:
        args.save = args.save.with_suffix("")
    return args


def tried(kind: str, work: Path, quick: bool) -> list[trial.Trial]:
    """All trials of a kind, with a progress line."""
    module = importlib.import_module(f"faults.{kind}")
    place = work / kind
    place.mkdir(parents=True, exist_ok=True)
    every = 0.1 if sys.stderr.isatty() else 20
    found = []
    with tqdm(total=module.total(quick), desc=kind, mininterval=every, maxinterval=every) as bar:
        for one in module.trials(place, quick):
            found.append(one)
            if one.outcome in trial.BAD:
                bar.write(f"{kind}: {one.fault}: {one.outcome}: {one.said}", file=sys.stderr)
            bar.update()
    return found


def save(path: Path, rows: list[dict], notes: list[str]) -> None:
    """Both files, each whole."""
    table = [trial.COLUMNS, *([row[c] for c in trial.COLUMNS] for row in rows)]
    files.write_atomically(path.with_suffix(".csv"), csv_text(table))
    files.write_atomically(path.with_suffix(".md"), trial.markdown(rows, notes))


def main() -> int:
    """Try every kind that is not done, save after each."""
    args = parse()
    notes = describe("faults")
    done = trial.read(args.save.with_suffix(".csv")) if args.save and not args.anew else []
    if args.save and args.anew:  # of the kinds that are asked for
        done = [r for r in trial.read(args.save.with_suffix(".csv")) if r["kind"] not in args.only]
    failed = []
    with tempfile.TemporaryDirectory(prefix="faults_") as temporary:
        work = args.work or Path(temporary)
        for kind in args.only:
            if any(row["kind"] == kind for row in done):
                print(f"{kind}: done already", file=sys.stderr)
                continue
            about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": commit()}
            try:
                found = tried(kind, work, args.quick)
            except Exception:  # the others are tried all the same
                traceback.print_exc()
                failed.append(kind)
                continue
            done += trial.rows(kind, found, about)
            done.sort(key=lambda row: KINDS.index(row["kind"]))
            if args.save:
                save(args.save, done, notes)
    print(trial.markdown(done, notes))
    return int(bool(failed) or any(row["outcome"] in trial.BAD for row in done))


if __name__ == "__main__":
    sys.exit(main())
