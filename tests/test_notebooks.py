"""The notebooks: each is its paired .py file, whose cells run as a plain program; the first leaves JAX alone."""

import importlib.metadata
import runpy
import subprocess
from pathlib import Path

import jupytext
import matplotlib
import pytest

FOLDER = Path(__file__).parents[1] / "experiments" / "notebooks"
NAMES = ("tour", "ablations")


@pytest.fixture
def smoke(tmp_path, monkeypatch):
    """An empty folder, and settings that take seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CARDS_JAX_SCALE", "smoke")
    matplotlib.use("Agg")
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def test_every_notebook_is_listed():
    assert {path.name for path in FOLDER.iterdir()} == {
        f"{n}.{e}" for n in NAMES for e in ("py", "ipynb")
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_its_paired_file(name):
    """If they differ: jupytext --sync experiments/notebooks/NAME.py, after the edit."""
    cells = lambda notebook: [(cell.cell_type, cell.source) for cell in notebook.cells]
    wanted, found = (jupytext.read(FOLDER / f"{name}.{end}") for end in ("py", "ipynb"))
    assert cells(found) == cells(wanted)
    assert found.metadata["kernelspec"] == wanted.metadata["kernelspec"]
    for cell in found.cells:
        assert not cell.get("outputs") and not cell.get("execution_count"), "outputs are stripped"


@pytest.mark.parametrize("name", ["tour", pytest.param("ablations", marks=pytest.mark.slow)])
def test_the_cells_run_as_a_program(name, smoke, capsys):
    """Whatever a cell shows is there at the end: tables with rows, pictures with content."""
    found = runpy.run_path(str(FOLDER / f"{name}.py"))
    assert found["table"].rows and found["table"].pictures["main"].startswith(b"\x89PNG")
    if name == "tour":
        assert len(found["run"].cards) == 2 and found["heat"].rows
        assert Path("tour.deck").is_file() and found["ours"].images == 10
        assert "goes to the cards trained with" in capsys.readouterr().out
    else:
        assert set(found["summaries"]) == {"biprop", "random"}


def first_cell(name: str) -> str:
    notebook = jupytext.read(FOLDER / f"{name}.ipynb")
    return next(cell.source for cell in notebook.cells if cell.cell_type == "code")


def test_the_first_cells_are_one():
    assert len({first_cell(name) for name in NAMES}) == 1


def test_the_first_cell_installs_nothing_where_the_package_is(smoke, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("nothing is to install"))
    exec(first_cell("tour"), {})
    assert not list(Path().iterdir())


def test_the_first_cell_pins_the_jax_that_is_there(smoke, monkeypatch):
    """The command is not run here; pip keeps to constraints, or fails."""
    ran = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: ran.append(command))
    with pytest.raises(SystemExit, match="PACKAGE='cards_jax': no such folder or archive; upload"):
        exec(first_cell("tour"), {})
    Path("cards_jax").mkdir()
    Path("constraints.txt").write_text("mine")
    exec(first_cell("tour"), {})
    (command,) = ran
    constraints = Path(command[command.index("--constraint") + 1])
    assert Path("constraints.txt").read_text() == "mine" and constraints.is_absolute()
    pins = constraints.read_text().splitlines()
    for name in ("jax", "jaxlib", "numpy"):
        assert f"{name}=={importlib.metadata.version(name)}" in pins
    assert command[1:4] == ["-m", "pip", "install"]
    assert command[-1] == str(Path("cards_jax").absolute())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_runs_in_a_kernel(name, smoke, tmp_path):
    nbclient = pytest.importorskip("nbclient", reason='needs pip install ".[notebooks]"')
    pytest.importorskip("ipykernel", reason='needs pip install ".[notebooks]"')
    notebook = jupytext.read(FOLDER / f"{name}.ipynb")
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    kinds = {
        kind
        for cell in notebook.cells
        for out in cell.get("outputs", [])
        for kind in out.get("data", {})
    }
    assert {"image/png", "text/markdown"} <= kinds
