"""Several runs in one table: realizations of one config are pooled, those of another never are."""

import csv
import json
import sys

import pytest

from cards_jax import compare


def run(folder, name, accuracies, config=None, data="images", **fields):
    """A run's folder with one realization for each accuracy, seeds from `first` on."""
    first = fields.pop("first", 0)
    point = {"method": "ft", "scope": "global", "model": "conv2", "data": "digits"}
    point |= {"sparsity": 0.8, "learning_rate": 0.1, "weight_decay": 0.0, **fields}
    results = [
        {"id": f"{name}{config}{first + i}", "seed": first + i, **point}
        | {"test_accuracy": accuracy, "realised_sparsity": point["sparsity"]}
        for i, accuracy in enumerate(accuracies)
    ]
    folder.mkdir()
    payload = {"name": name, "config": config or {}, "results": results}
    (folder / "results.json").write_text(json.dumps(payload))
    (folder / "state.json").write_text(json.dumps({"data": data}))
    return folder


@pytest.fixture
def compared(tmp_path, monkeypatch, capsys):
    """Runs the command: (exit code, stdout, stderr)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["compare", *map(str, arguments)])
        code = compare.main()
        return code, *capsys.readouterr()

    return call


def cells(table: str) -> list[dict[str, str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(split[0], row, strict=True)) for row in split[2:]]


def test_runs_that_a_table_could_not_tell_apart_are_named_and_never_averaged(tmp_path, compared):
    short = run(tmp_path / "a", "ft", [0.5, 0.6], {"finetune.epochs": 10})
    long = run(tmp_path / "b", "ft_long", [0.7, 0.8], {"finetune.epochs": 90})
    other = run(tmp_path / "c", "gmp", [0.9], {"method": "gmp"}, method="gmp")
    code, out, _ = compared(short, long, other)
    rows = {row["run"]: row for row in cells(out)}
    brief, extended = "finetune.epochs=10", "finetune.epochs=90"
    assert code == 0 and set(rows) == {brief, extended, ""}
    assert (rows[brief]["accuracy (%)"], rows[brief]["n"]) == ("55.00", "2")
    assert (rows[extended]["accuracy (%)"], rows[extended]["n"]) == ("75.00", "2")


def test_runs_of_one_name_are_told_apart_by_the_fields_in_which_they_differ(tmp_path, compared):
    a = run(tmp_path / "ft-1", "ft", [0.5], {"epochs": 1, "batch_size": 8})
    b = run(tmp_path / "ft-2", "ft", [0.7], {"batch_size": 8})
    names = [row["run"] for row in cells(compared(a, b)[1])]
    assert names == ["epochs default", "epochs=1"]


def test_levels_and_exact_targets_share_no_row(tmp_path, compared):
    """79.03 and 79.00 are both asked for as 0.79."""
    level = run(tmp_path / "a", "levels", [0.5], {"pruning.rate": 0.2}, sparsity=0.79)
    exact = run(tmp_path / "b", "exact", [0.7], {"pruning.targets": "exact"}, sparsity=0.79)
    assert len(cells(compared(level, exact)[1])) == 2


def test_seeds_of_one_config_are_pooled_once(tmp_path, compared):
    first = run(tmp_path / "a", "ft", [0.5, 0.6])
    more = run(tmp_path / "b", "ft", [0.6, 0.7], first=1)
    (row,) = cells(compared(first, more, first)[1])
    assert row["n"] == "3" and row["accuracy (%)"] == "60.00" and "run" not in row


def test_methods_stand_beside_their_baseline(tmp_path, compared):
    dense = run(tmp_path / "d", "dense", [0.9], method="dense", sparsity=0.0)
    a = run(tmp_path / "a", "ft", [0.5])
    code, out, _ = compared(a, f"--baseline={dense}", f"--save={tmp_path / 'out'}")
    dense_row, row = cells(out)
    assert code == 0 and "run" not in row and row["to dense"] == "-40.00"
    with open(tmp_path / "out.csv") as file:
        assert [r["test_accuracy"] for r in csv.DictReader(file)] == ["0.9", "0.5"]
    assert (tmp_path / "out.md").read_text() == out and (tmp_path / "out.svg").exists()


def test_what_cannot_be_compared(tmp_path, compared):
    a = run(tmp_path / "a", "ft", [0.5])
    b = run(tmp_path / "b", "ft", [0.5], data="others")
    (tmp_path / "c").mkdir()
    for folders, reason in (
        ([a, b], "trained on other images (fingerprint others)"),
        ([a, tmp_path / "c"], "no readable state.json there"),
        ([a, tmp_path / "none"], "no readable state.json there"),
    ):
        code, out, err = compared(*folders)
        assert (code, out, err.count("\n")) == (2, "", 1) and reason in err
    (a / "results.json").write_text("<html>")
    code, out, err = compared(a)
    assert code == 2 and "no readable results.json there" in err and err.count("\n") == 1
