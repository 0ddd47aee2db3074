"""python -m cards_jax.page PATH ... [--save=FILE]"""

import sys
from collections.abc import Sequence
from pathlib import Path

from cards_jax import page
from cards_jax.commands import Form, ended


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    form = Form("python -m cards_jax.page", description=page.__doc__.split("\n")[0])
    add = form.add_argument
    add("paths", nargs="+", type=Path, metavar="PATH", help="runs, a folder of runs, or one deck")
    add("--save", type=Path, metavar="FILE", help="in place of report.html there, or DECK.html")
    add("--evaluation", type=Path, metavar="STEM", help="that `deck evaluate --save=STEM` wrote")
    add("--title", help="heading of a page of several runs")
    args = form.parse_args(arguments)
    action = lambda: print(page.make(args.paths, args.save, args.evaluation, args.title))
    return ended(form.prog, action)


if __name__ == "__main__":
    sys.exit(main())
