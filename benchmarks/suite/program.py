"""A command that measures parts one after another, prints them and saves each as it ends."""

import argparse
import dataclasses
import importlib.util
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.suite import Options, Table

Parts = dict[str, Callable[[Options], list[Table]]]


@dataclasses.dataclass(frozen=True)
class Program:
    """`python -m MODULE`, its parts by name, and whether they cannot do without PyTorch."""

    module: str
    about: str
    parts: Parts
    needs_torch: bool = True
    networks: tuple[str, ...] = ()  # that can be chosen
    together: bool = False  # contestants may get ready side by side

    def parse(self, arguments: list[str] | None = None) -> argparse.Namespace:
        """The options."""
        about = self.about.split("\n")[0]
        form = argparse.ArgumentParser(f"python -m {self.module}", description=about)
        form.add_argument("--quick", action="store_true", help="a rough look, within 3 minutes")
        names = ",".join(self.parts)
        form.add_argument("--only", type=self._names, default=tuple(self.parts), help=names)
        if self.networks:
            known = ",".join(self.networks)
            form.add_argument("--networks", type=self._networks, help=f"{known}; all by default")
        if self.together:
            text = "contestants get ready side by side: quicker, needs many cores"
            form.add_argument("--together", action="store_true", help=text)
        form.add_argument("--save", type=Path, help="folder for the tables, made if need be")
        return form.parse_args(arguments)

    def main(self, arguments: list[str] | None = None) -> int:
        """Measure, print and save part after part; 1 if one failed."""
        args = self.parse(arguments)
        if self.needs_torch and not has_torch():
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
            return self._measure(args)

    def _names(self, text: str) -> tuple[str, ...]:
        return _some(text, "part", self.parts)

    def _networks(self, text: str) -> tuple[str, ...]:
        return _some(text, "network", self.networks)

    def _measure(self, args: argparse.Namespace) -> int:
        more = {k: getattr(args, k) for k in ("networks", "together") if hasattr(args, k)}
        options, bad = Options(args.quick, args.save, **more), []
        for part in args.only:
            began = time.monotonic()
            notes = [f"- {note}" for note in describe(self.module)]
            try:
                tables = self.parts[part](options)
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
                self._save(args.save, part, text, tables)
            if any("failed: " in note for table in tables for note in table.notes):
                bad.append(part)
        if bad:
            print(f"not everything could be measured: {', '.join(bad)}", file=sys.stderr)
        return 1 if bad else 0

    def _save(self, folder: Path, part: str, text: str, tables: list[Table]) -> None:
        """The part's files, and the page of all parts."""
        (folder / f"{part}.md").write_text(text)
        (folder / f"{part}.csv").write_text("\n".join(table.csv() for table in tables))
        pages = [folder / f"{name}.md" for name in self.parts]
        found = [page.read_text() for page in pages if page.exists()]
        (folder / "README.md").write_text("\n".join(found))


def _some(text: str, what: str, known: Iterable[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in known:
            allowed = ", ".join(known)
            raise argparse.ArgumentTypeError(f"{name!r} is no {what}; allowed are {allowed}")
    return names


def has_torch() -> bool:
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None
