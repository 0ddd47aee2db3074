"""All benchmarks of this machine, side by side in one run: tables of speed, memory and compilation.

    python -m benchmarks --save=results/benchmarks_cpu

Measures the parts named by --only, or all, one after another, and saves each as it ends: FOLDER/PART.md and PART.csv,
and FOLDER/README.md, all tables that lie in the folder with when each was measured. A part that is measured again
replaces its tables. Needs PyTorch; the corruptions' peers need OpenCV and scikit-image.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.suite import (
    Options,
    Table,
    compile,
    growth,
    layers,
    memory,
    pairs,
    parts,
    robust,
    selection,
    train,
)

PARTS: dict[str, Callable[[Options], list[Table]]] = {
    "pairs": pairs.run,
    "train": train.run,
    "parts": parts.run,
    "layers": layers.run,
    "selection": selection.run,
    "memory": memory.run,
    "compile": compile.run,
    "growth": growth.run,
    "heatmap": robust.heatmap,
    "corruptions": robust.corruptions,
    "deck": robust.deck,
}


Parts = dict[str, Callable[[Options], list[Table]]]


def parse(
    arguments: list[str] | None = None,
    parts: Parts = PARTS,
    module: str = "benchmarks",
    about: str = __doc__,
) -> argparse.Namespace:
    """The options."""
    names = partial(_names, parts=parts)
    form = argparse.ArgumentParser(f"python -m {module}", description=about.split("\n")[0])
    form.add_argument("--quick", action="store_true", help="a rough look, within 3 minutes")
    form.add_argument("--only", type=names, default=tuple(parts), help=",".join(parts))
    form.add_argument("--save", type=Path, help="folder for the tables, made if need be")
    return form.parse_args(arguments)


def _names(text: str, parts: Parts) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in parts:
            raise argparse.ArgumentTypeError(f"{name!r} is no part; allowed are {', '.join(parts)}")
    return names


def save(folder: Path, part: str, text: str, tables: list[Table], parts: Parts = PARTS) -> None:
    """The part's files, and the page of all parts."""
    (folder / f"{part}.md").write_text(text)
    (folder / f"{part}.csv").write_text("\n".join(table.csv() for table in tables))
    found = [
        (folder / f"{name}.md").read_text() for name in parts if (folder / f"{name}.md").exists()
    ]
    (folder / "README.md").write_text("\n".join(found))


def has_torch() -> bool:
    """Whether the peers can run."""
    return importlib.util.find_spec("torch") is not None


def main(
    arguments: list[str] | None = None,
    parts: Parts = PARTS,
    module: str = "benchmarks",
    about: str = __doc__,
    needs_torch: bool = True,
) -> int:
    """Measure, print and save part after part; 1 if one failed."""
    args = parse(arguments, parts, module, about)
    if needs_torch and not has_torch():
        print('PyTorch is not installed: pip install "cards_jax[bench]"', file=sys.stderr)
        return 2
    if args.save:
        try:
            args.save.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            print(f"--save={args.save}: must be a folder ({error.strerror})", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory() as cache:
        # The parts share their programs; what compiling takes is measured without this.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
        return _measure(args, parts, module)


def _measure(args: argparse.Namespace, parts: Parts, module: str) -> int:
    options, bad = Options(args.quick, args.save), []
    for part in args.only:
        began = time.monotonic()
        notes = [f"- {note}" for note in describe(module)]
        try:
            tables = parts[part](options)
        except KeyboardInterrupt:
            print(f"interrupted: {part} was not saved", file=sys.stderr)
            return 130
        except Exception:  # the other parts still have their turn
            traceback.print_exc()
            bad.append(part)
            continue
        notes.append(f"- measured in {time.monotonic() - began:.0f} s")
        text = "\n".join([f"# {part}", "", *notes, "", *(t.markdown() for t in tables)])
        print(text, flush=True)
        if args.save:
            save(args.save, part, text, tables, parts)
        if any("failed: " in note for table in tables for note in table.notes):
            bad.append(part)
    if bad:
        print(f"not everything could be measured: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
