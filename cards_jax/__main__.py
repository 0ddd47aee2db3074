"""What there is to run: every command with what it does, and `--version`."""

import ast
import importlib.util
import sys

import cards_jax

COMMANDS = (
    *("main", "robustness", "heatmap", "deck", "predict", "show", "size", "compare", "page"),
    *("quantize", "export"),
)


def purpose(name: str) -> str:
    """The first line of a module's docstring, without importing it."""
    found = importlib.util.find_spec(f"cards_jax.{name}")
    with open(found.origin, encoding="utf-8") as source:
        text = ast.get_docstring(ast.parse(source.read())) or ""
    return text.splitlines()[0] if text else ""


def main() -> int:
    """Print the commands; returns the exit code."""
    if "--version" in sys.argv[1:]:
        print(cards_jax.__version__)
        return 0
    print("python -m cards_jax.COMMAND --help, where COMMAND is one of\n")
    for name in COMMANDS:
        print(f"  {name:<11} {purpose(name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
