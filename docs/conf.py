"""Configuration of the documentation: python -m sphinx -W --keep-going docs build/docs"""

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT)]

import cards_jax  # noqa: E402

project = "cards_jax"
author = "the authors of cards_jax"
version = release = cards_jax.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.apidoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "docstrings",  # of this folder
]
html_theme = "furo"
html_title = "cards_jax"
html_show_copyright = False
exclude_patterns = ["examples", "README.md"]
default_role = "code"

myst_enable_extensions = ["deflist", "linkify"]
myst_linkify_fuzzy_links = False
myst_heading_anchors = 3

# A page for every module, from its docstrings.
apidoc_modules = [
    {
        "path": str(ROOT / "cards_jax"),
        "destination": "api",
        "separate_modules": True,
        "module_first": True,
        "automodule_options": {"members", "undoc-members"},
        "exclude_patterns": [str(ROOT / "cards_jax" / "configs")],
    }
]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
# Annotations such as `bytes` are also names of fields here.
suppress_warnings = ["ref.python"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def place_results(app) -> None:
    """Pages from the measured tables of results/, with the figures and files that they link to."""
    folder = HERE / "results"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "results", folder)


def link_results(app, name: str, source: list[str]) -> None:
    """Links that hold in a checkout (../results/, and from there ../docs/) lead to the pages made of them."""
    source[0] = re.sub(r"\]\(\.\./results/([\w.-]+\.md)\)", r"](results/\1)", source[0])
    source[0] = re.sub(r"\]\(\.\./docs/([\w.-]+\.md)\)", r"](../\1)", source[0])


def setup(app) -> None:
    app.connect("builder-inited", place_results)
    app.connect("source-read", link_results)
