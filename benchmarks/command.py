"""How every benchmark runs: hold the contest, print the tables, save them where asked."""

import argparse
import importlib.util
import sys
from collections.abc import Callable

from benchmarks.contest import Contestant, hold
from benchmarks.machine import describe


def conduct(
    module: str,
    args: argparse.Namespace,
    contestants: Callable[[argparse.Namespace], list[Contestant]],
    report: Callable,
    save: Callable,
    torch: bool = False,
) -> int:
    """The exit code of a benchmark.

    args: with `rounds`, `seconds` and `save`. report(rates, failures, args, notes) -> markdown;
    save(path, text, rates). torch: whether PyTorch takes part, and has to be there.
    """
    if torch and importlib.util.find_spec("torch") is None:
        print('PyTorch is not installed: pip install "cards_jax[bench]"', file=sys.stderr)
        return 2
    if args.save and not args.save.parent.is_dir():
        print(f"--save={args.save}: there is no folder {args.save.parent}", file=sys.stderr)
        return 2
    notes = describe(module)
    say = lambda text: print(text, file=sys.stderr, flush=True)
    try:
        rates, failures = hold(contestants(args), args.rounds, args.seconds, say)
    except KeyboardInterrupt:
        say("interrupted: nothing was saved")
        return 130
    text = report(rates, failures, args, notes)
    print(text)
    if args.save:
        save(args.save, text, rates)
    return 1 if failures else 0
