"""Imports run one way, and only models/ knows Flax."""

import ast
from pathlib import Path

import cards_jax

ROOT = Path(cards_jax.__file__).parent
RANKS = [
    {
        "__init__",
        "tree",
        "schedules",
        "plain",
        "progress",
        "files",
        "arrays",
        "unroll",
        "signals",
        "programs",
        "peers",
        "memory",
        "draws",
    },
    {"metrics", "log", "tensorboard"},
    {"figures", "summary"},
    {"tabular"},
    {"learning_curves"},
    {"container", "codec", "torch_files", "spectrum", "fourier"},
    {"select"},
    {"card", "masks", "binarize", "losses", "config", "augment", "evaluate", "origin"},
    {"corruptions"},
    {"phase", "popup", "models", "data", "forms", "layout"},
    {"torch_keys", "encoding", "npz", "pruning"},
    {"pack", "size", "levels", "exchange", "gate"},
    {"equal_bytes"},
    {"methods", "realizations", "checkpoint", "interop"},
    {"pretrained"},
    {"validation"},
    {"train", "report", "hand", "commands", "deck_program"},
    {"deck"},
    {"deck_file", "export"},
    {"trials", "predict", "show", "quantize", "ledger"},
    {"trainer", "estimate", "folder", "compare", "marks", "scores", "published", "heat_file"},
    {"heat"},
    {"heat_report"},
    {"run", "group", "robust_summary", "robust_tables", "robust_plot", "leaderboard"},
    {"deck_table"},
    {"page"},
    {"robustness", "heatmap"},
    {"tune", "deal", "theory", "deck_plot"},
    {"deck_inputs"},
    {"deck_commands"},
    {"experiment"},
    {"main"},
    {"api", "__main__"},
]
RANK = {name: i for i, names in enumerate(RANKS) for name in names}
FILES = sorted(p for p in ROOT.rglob("*.py") if "configs" not in p.parts)


def part(path: Path) -> str:
    """Top-level file or folder that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Absolute names imported at the top of a module; later imports are lazy on purpose."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_file_has_a_rank():
    assert {part(p) for p in FILES} == set(RANK)


def test_imports_go_down():
    wrong = []
    for path in FILES:
        for name in imported(path):
            if name.startswith("cards_jax."):
                other = name.split(".")[1]
                allowed = other == part(path) or RANK.get(other, 0) <= RANK[part(path)]
                wrong += [] if allowed else [f"{path.name} imports {name}"]
    assert not wrong


def test_no_cycles_within_a_rank():
    edges = {}
    for path in FILES:
        for name in imported(path):
            if name.startswith("cards_jax.") and name.split(".")[1] in RANK:
                edges.setdefault(part(path), set()).add(name.split(".")[1])

    def reaches(start, goal, seen):
        following = edges.get(start, set()) - {start} - seen
        return goal in following or any(reaches(n, goal, seen | following) for n in following)

    assert not [name for name in edges if reaches(name, name, set())]


def test_only_models_knows_flax():
    users = {part(p) for p in FILES if any(n.startswith("flax") for n in imported(p))}
    assert users == {"models"}
