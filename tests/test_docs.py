"""What README and docs say is so: commands parse, links lead somewhere, names exist, tables name every part."""

import argparse
import ast
import configparser
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import cards_jax
from cards_jax import augment, config, corruptions, data, folder, main, methods, models, validation
from cards_jax.config import ConfigError

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXTRAS = configparser.ConfigParser()
EXTRAS.read(ROOT / "setup.cfg")
PACKAGES = (augment, corruptions, data, methods, models)
VALUES = {"BYTES": "1000", "N": "100"}  # what a placeholder stands for, where a number is needed
COMMAND = re.compile(r"(?:python -m|python experiments/|jupytext|jupyter execute)\s?\S.*")


def code(text: str) -> list[str]:
    """Lines of code blocks and code within lines, where a command may stand; continued lines are joined."""
    text = text.replace("\\\n", " ")
    lines = re.findall(r"^(?: {4,}|\$ )(.*)$", text, re.MULTILINE)
    for block in re.findall(r"^```(?:sh|bash|text)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines += block.splitlines()
    return lines + re.findall(r"`([^`\n]+)`", text)


def commands(path: Path) -> list[str]:
    """Every command of a page, one by one."""
    parts = [part.strip() for line in code(path.read_text()) for part in line.split("&&")]
    # A command within the quotes of another, as of ssh, ends with its quote.
    parts = [part[:-1] if part.endswith('"') and part.count('"') % 2 else part for part in parts]
    return [part for part in parts if COMMAND.fullmatch(part) and "..." != part[-3:]]


COMMANDS = list(dict.fromkeys(c for path in PAGES for c in commands(path)))


class Parsed(Exception):
    """The arguments are fine; nothing is run."""


@pytest.fixture
def only_parse(monkeypatch):
    """argparse ends the program once it has accepted the arguments."""
    real = argparse.ArgumentParser.parse_args

    def parse_args(self, args=None, namespace=None):
        real(self, args, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A checkout's configs, and a run folder that RUN stands for."""
    monkeypatch.chdir(ROOT)
    before = [(package, list(package.__path__)) for package in PACKAGES]
    c = config.defaults()
    c.workdir = str(tmp_path)
    run = folder.path_of(validation.validate(c))
    run.mkdir()
    (run / "config.json").write_text(config.to_json(c))
    yield run
    for package, path in before:  # a config of the examples adds to them
        package.__path__[:] = path


def filled(argument: str) -> str:
    name, equals, value = argument.rpartition("=")
    return f"{name}{equals}{VALUES.get(value, value)}"


def check_main(arguments: list[str], run: Path) -> None:
    given = [a.replace("--resume=RUN", f"--resume={run}") for a in arguments]
    try:
        main.parse(["cards_jax", *given])
    except ConfigError as error:  # fine where it is the placeholder that is wrong
        assert re.search(r"='?[A-Z_]{3,}'?:", str(error)), error


def check_pip(arguments: list[str]) -> None:
    assert arguments[0] == "install"
    for extra in re.findall(r"\.\[(\w+)\]", " ".join(arguments)):
        assert extra in EXTRAS["options.extras_require"]


def check_experiment(path: Path, arguments: list[str], monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(path.parent))
    from lab import command

    command.parse(importlib.import_module(path.stem).EXPERIMENT, arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one_that_its_program_takes(command, only_parse, place, monkeypatch):
    words = shlex.split(command)
    if words[0] in ("jupytext", "jupyter"):
        assert (ROOT / words[-1]).is_file()
        return
    if words[1].startswith("experiments/"):
        check_experiment(ROOT / words[1], words[2:], monkeypatch)
        return
    module, arguments = words[2], [filled(word) for word in words[3:]]
    if module == "pip":
        check_pip(arguments)
    elif module in ("pytest", "sphinx"):
        assert all(Path(word).exists() for word in arguments if word.startswith(("tests", "docs")))
    elif module == "cards_jax.main":
        check_main(arguments, place)
    else:
        name = "cards_jax.deck_commands" if module == "cards_jax.deck" else module
        if hasattr(importlib.import_module(name), "__path__"):
            name = f"{name}.__main__"
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(Parsed):
            importlib.import_module(name).main()


def test_there_are_commands_of_every_program():
    programs = {shlex.split(command)[2] for command in COMMANDS if command.startswith("python -m")}
    runnable = {
        f"cards_jax.{p.stem}"
        for p in (ROOT / "cards_jax").glob("*.py")
        if "__main__" in p.read_text() and p.stem != "__main__"
    }
    assert len(COMMANDS) > 40 and runnable <= programs


def test_a_wrong_command_is_noticed(only_parse, place, monkeypatch):
    check = test_a_command_is_one_that_its_program_takes
    for command in (
        "python -m cards_jax.main --config=configs/quickstart.py --config.epoch=3",
        "python -m cards_jax.main --config=configs/quick.py",
        "python -m cards_jax.heatmap RUN --norm=3",
        "python -m cards_jax.deck deel RUN",
        'python -m pip install ".[nothing]"',
        "python -m cards_jax.nothing RUN",
        "python experiments/figure1.py draws",
        "python experiments/figure5.py",
    ):
        with pytest.raises((AssertionError, ConfigError, SystemExit, ImportError)):
            check(command, None, place, monkeypatch)


@pytest.mark.parametrize(
    "path", [*PAGES, *sorted((ROOT / "results").glob("*.md"))], ids=lambda p: p.name
)
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    relative = [t.partition("#")[0] for t in targets if "://" not in t and not t.startswith("#")]
    assert not [t for t in relative if not (path.parent / t).exists()]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason='needs pip install ".[docs]"')
    line = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", str(tmp_path)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "experiments.html").is_file()


def test_every_experiment_has_its_command():
    there = {f"python experiments/{p.name}" for p in (ROOT / "experiments").glob("*.py")}
    assert there <= set(commands(ROOT / "docs" / "experiments.md"))


def test_one_version_everywhere():
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited[1] == EXTRAS["metadata"]["version"] == cards_jax.__version__


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_names_of_the_package_exist(path):
    for dotted in re.findall(r"\bcards_jax((?:\.[A-Za-z_]\w*)+)", path.read_text()):
        if dotted.endswith((".py", ".egg")):
            continue
        found, words = cards_jax, dotted[1:].split(".")
        for i, word in enumerate(words):
            name = ".".join(["cards_jax", *words[: i + 1]])
            if not hasattr(found, word):
                assert importlib.util.find_spec(name), f"{path.name}: {name}"
                importlib.import_module(name)
            found = getattr(found, word)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_python_blocks_are_python(path):
    for block in re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
        ast.parse(block)


def test_pages_name_every_part():
    page = lambda name: (ROOT / "docs" / f"{name}.md").read_text()
    parts = [("methods", methods), ("methods", augment), ("data", data)]
    wanted = [(p, name) for p, package in parts for name in package.names()]
    wanted += [("models", name) for name in models.families()]
    assert not [(p, name) for p, name in wanted if f"`{name}`" not in page(p)]
    for name in cards_jax.__all__:
        assert re.search(rf"\b{name}\b", page("python")), name


def test_widths_in_the_table_of_networks_are_the_defaults():
    rows = re.findall(
        r"^\| (`.*?) \|.*\| ([\d, ]+) \|$", (ROOT / "docs/models.md").read_text(), re.MULTILINE
    )
    for names, widths in rows:
        names, widths = re.findall(r"`(\w+)`", names), [int(w) for w in widths.split(",")]
        widths = widths * len(names) if len(widths) == 1 else widths
        assert [models.width(name) for name in names] == widths


def test_numbers_of_the_front_page_stand_in_the_results():
    """Accuracies and speeds that pages give are those of the files that they link to."""
    kept = "".join(p.read_text() for p in (ROOT / "results").glob("*.md"))
    for name in ("index", "quickstart"):
        text = (ROOT / "docs" / f"{name}.md").read_text()
        told = re.sub(r"^ {4}.*$|`[^`\n]*`", "", text, flags=re.MULTILINE)  # without commands
        shown = re.findall(r"(?<![\d.])\d+\.\d\d(?![\d.])", told)
        assert shown and not [x for x in shown if x not in kept]
    speeds = re.findall(
        r"^\| (?:Conv4|ResNet-\d+), batch.*$",
        (ROOT / "docs/performance.md").read_text(),
        re.MULTILINE,
    )
    assert len(speeds) >= 2
    assert all(x in kept for row in speeds for x in re.findall(r"\d+\.\d+", row))


# --- the pages of modules


@pytest.fixture
def docstrings(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    yield importlib.import_module("docstrings")
    sys.modules.pop("docstrings")


def test_every_module_says_what_it_is():
    files = [p for p in (ROOT / "cards_jax").rglob("*.py") if ast.parse(p.read_text()).body]
    assert not [p.name for p in files if not ast.get_docstring(ast.parse(p.read_text()))]


CASES = {
    "sentence": ("Takes `x`, and *all* of a_b|c.", ["Takes ``x``, and *all* of a\\_b\\|c."]),
    "entries": (
        "images: a head.\n\nimages: of N,\n  more.\nlabels, names: ints.\nf(x) -> a map.",
        [
            *("images: a head.", "", "- ``images``: of N,", "  more."),
            *("- ``labels, names``: ints.", "- ``f(x)``: a map."),
        ],
    ),
    "arguments": (
        "Args:\n  key: a key.\n  f(x) -> y: a map.",
        [".. rubric:: Arguments", "", "- ``key``: a key.", "- ``f(x) -> y``: a map."],
    ),
    "table": (
        "Three streams:\n\nquotients   for every gap\nheads       the bits",
        ["Three streams:", "", "- ``quotients``: for every gap", "- ``heads``: the bits"],
    ),
    "list": (
        "Methods.\n\nA method is a file with\n  a(b) -> c, and\n  d, which.",
        ["Methods.", "", "A method is a file with", "", "- a(b) -> c, and", "- d, which."],
    ),
    "code": (
        "A.\n\n    python -m x *y*",
        ["A.", "", ".. code-block:: text", "", "    python -m x *y*"],
    ),
    "prose with a colon": ("It is so: here\nand there.", ["It is so: here", "and there."]),
}


@pytest.mark.parametrize("case", CASES)
def test_docstrings_become_restructured_text(docstrings, case):
    text, wanted = CASES[case]
    assert docstrings.rst(text.splitlines()) == [*wanted, ""]
