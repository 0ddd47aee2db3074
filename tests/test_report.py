"""Tables and pictures say what the realizations did, with the same bytes every time."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cards_jax import learning_curves
from cards_jax.figures import apart
from cards_jax.report import plot_curves, plot_sparsity, write_results, write_tables
from cards_jax.summary import POINT, SUMMARY, summarise
from cards_jax.tabular import caption, markdown_table, table_columns


def _result(seed: int, accuracy: float, **fields) -> dict:
    return {
        "id": f"{fields.get('method', 'bp')}-{seed}",
        "seed": seed,
        "method": "bp",
        "scope": "layerwise",
        "model": "conv4",
        "data": "digits",
        "sparsity": 0.8,
        "realised_sparsity": 0.8001,
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
        "test_accuracy": accuracy,
        "test_loss": 0.1,
        "train_accuracy": 0.99,
        "train_loss": 0.05,
        "parameters": 1000,
        "diverged_at": None,
    } | fields


def _dense(*accuracies: float, **fields) -> list[dict]:
    fields = {"method": "dense", "scope": None, "sparsity": 0.0} | fields
    return [_result(seed, accuracy, **fields) for seed, accuracy in enumerate(accuracies)]


def _read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# --- summaries


def test_spread_against_numbers_by_hand():
    (row,) = summarise([_result(i, a) for i, a in enumerate((0.98, 0.96, 0.97))])
    assert tuple(row) == SUMMARY
    assert (row["n"], row["n_diverged"]) == (3, 0)
    assert row["accuracy_mean"] == pytest.approx(0.97)
    assert (row["accuracy_min"], row["accuracy_max"]) == (0.96, 0.98)
    assert row["accuracy_std"] == pytest.approx(0.01)
    half = 4.302653 * 0.01 / math.sqrt(3)  # Student t, 2 degrees of freedom, from a printed table
    assert row["accuracy_low"] == pytest.approx(0.97 - half)
    assert row["accuracy_high"] == pytest.approx(0.97 + half)
    assert row["realised_sparsity"] == 0.8001
    assert row["difference_mean"] is None


def test_one_seed_has_no_interval():
    (row,) = summarise([_result(0, 0.9)])
    assert row["accuracy_mean"] == row["accuracy_min"] == row["accuracy_max"] == 0.9
    assert row["accuracy_std"] is row["accuracy_low"] is row["accuracy_high"] is None


def test_two_seeds_have_a_deviation_and_no_interval():
    (row,) = summarise([_result(0, 0.9), _result(1, 0.8)])
    assert row["accuracy_std"] == pytest.approx(0.0707107)
    assert row["accuracy_low"] is row["accuracy_high"] is None


def test_axes_hide_the_first_climb_and_nothing_else():
    climb = [10, 40, 60, 70, *range(80, 91)]
    assert learning_curves.lowest([climb]) >= 40
    assert learning_curves.lowest([climb, [10] * 15]) == 10
    dips = [50, 80, 82, 84, 20, 83, 85, 86]
    assert learning_curves.lowest([dips] * 9) == 20


@pytest.mark.parametrize("key", POINT)
def test_everything_but_the_seed_splits_groups(key):
    other = {"sparsity": 0.5, "learning_rate": 0.2, "weight_decay": 0.0}.get(key, "another")
    rows = summarise([_result(0, 0.9), _result(1, 0.8), _result(0, 0.7, **{key: other})])
    assert sorted(row["n"] for row in rows) == [1, 2]
    means = {row[key]: row["accuracy_mean"] for row in rows}
    assert means[other] == 0.7 and means[_result(0, 0).get(key)] == pytest.approx(0.85)


def test_rows_are_sorted_whatever_the_order():
    results = [
        _result(s, 0.9, sparsity=p, scope=c) for s in (1, 0) for p in (0.9, 0.5) for c in "ba"
    ]
    rows = summarise(results + _dense(0.9))
    assert [(row["scope"], row["sparsity"]) for row in rows] == [
        ("a", 0.5),
        ("a", 0.9),
        ("b", 0.5),
        ("b", 0.9),
        (None, 0.0),
    ]
    assert rows == summarise((results + _dense(0.9))[::-1])


def test_diverged_realizations_count_but_do_not_weigh():
    results = [_result(0, 0.9), _result(1, 0.1, diverged_at=40), _result(2, math.nan)]
    (row,) = summarise(results)
    assert (row["n"], row["n_diverged"], row["accuracy_mean"]) == (1, 2, 0.9)
    (row,) = summarise(results[1:], _dense(0.9))
    assert (row["n"], row["n_diverged"], row["accuracy_mean"]) == (0, 2, None)
    assert row["difference_mean"] is None


def test_differences_are_points_to_the_constant_dense_mean():
    results = [_result(i, a) for i, a in enumerate((0.97, 0.98, 0.99))]
    (row,) = summarise(results, [*_dense(0.95, 0.97), *_dense(0.1, diverged_at=3)])
    assert row["dense_accuracy"] == pytest.approx(0.96)
    differences = [row[f"difference_{name}"] for name in ("mean", "min", "max")]
    assert differences == pytest.approx([2.0, 1.0, 3.0])


def test_which_dense_point_is_compared():
    results = [_result(0, 0.9)]
    two = _dense(0.8) + _dense(0.7, learning_rate=0.01)
    assert summarise(results, two)[0]["dense_accuracy"] == 0.8  # the same learning rate
    other = [_result(0, 0.9, learning_rate=0.5)]
    assert summarise(other, two)[0]["dense_accuracy"] is None  # either could be meant
    assert summarise(other, _dense(0.8))[0]["dense_accuracy"] == 0.8  # there is but one
    # Two runs of the same rates, one of which trained longer.
    runs = [{**row, "run": run} for run in ("short", "long") for row in _dense(0.8)]
    assert summarise(results, runs)[0]["dense_accuracy"] is None
    assert summarise(results, _dense(0.8, model="conv2"))[0]["dense_accuracy"] is None


# --- tables


def _rows() -> tuple[list[dict], list[dict]]:
    dense = _dense(0.98, 0.97)
    results = [
        _result(seed, 0.9722 - 0.01 * seed - 0.1 * (sparsity - 0.5), sparsity=sparsity)
        for sparsity in (0.5, 0.8)
        for seed in (0, 1)
    ]
    return summarise(dense) + summarise(results, dense), dense + results


def test_markdown_table_in_full():
    rows, _ = _rows()
    assert markdown_table(
        rows, ["method", "sparsity", "accuracy_mean", "n", "difference_mean"]
    ) == (
        "| method | sparsity (%) | accuracy (%) |   n | to dense |\n"
        "| :----- | -----------: | -----------: | --: | -------: |\n"
        "| dense  |            0 |        97.50 |   2 |          |\n"
        "| bp     |           50 |        96.72 |   2 |    -0.78 |\n"
        "| bp     |           80 |        93.72 |   2 |    -3.78 |\n"
    )
    assert markdown_table([{"method": "a|b"}], ["method"]).splitlines()[-1] == "| a\\|b   |"


def test_what_all_rows_share_moves_to_the_caption():
    rows, _ = _rows()
    assert "learning_rate" not in table_columns(rows) and "n_diverged" not in table_columns(rows)
    assert "learning rate 0.1, weight decay 0.0005" in caption(rows)
    assert "mean dense accuracy (97.50)" in caption(rows)
    rows = summarise([_result(0, 0.9), _result(0, math.nan, learning_rate=0.2)])
    assert {"learning_rate", "n_diverged"} < set(table_columns(rows))
    assert "learning rate" not in caption(rows) and "diverged ones left out" in caption(rows)


def test_files_hold_the_numbers(tmp_path):
    rows, results = _rows()
    paths = write_tables(tmp_path, rows, results)
    names = ["results.csv", "results.md", "results.tex", "realizations.csv"]
    assert paths == [tmp_path / "tables" / name for name in names]
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == sorted(names)

    in_csv = _read_csv(paths[0])
    assert [float(line["accuracy_mean"]) for line in in_csv] == [r["accuracy_mean"] for r in rows]
    assert [line["difference_min"] for line in in_csv][0] == ""
    assert (
        "| bp     | layerwise |           80 |                 80.01 |        93.72 |"
        in paths[1].read_text()
    )
    assert r"    bp & layerwise & 80 & 80.01 & 93.72 & 93.22 & 94.22 &" in paths[2].read_text()
    realizations = _read_csv(paths[3])
    assert [line["id"] for line in realizations] == [result["id"] for result in results]
    assert [float(line["test_accuracy"]) for line in realizations] == [
        result["test_accuracy"] for result in results
    ]


def test_latex_is_escaped_and_balanced(tmp_path):
    nasty = r"a_b & 50% $x$ #1 {y} \z ~ ^ < > |"
    rows = summarise([_result(0, 0.9, method=nasty, model=nasty)])
    text = write_tables(tmp_path, rows, [])[2].read_text()
    escaped = (
        r"a\_b \& 50\% \$x\$ \#1 \{y\} \textbackslash{}z \textasciitilde{} "
        r"\textasciicircum{} \textless{} \textgreater{} \textbar{}"
    )
    assert text.count(escaped) == 2  # in the caption and in a cell
    assert r"\toprule" in text and r"\midrule" in text and r"\bottomrule" in text
    line = next(line for line in text.splitlines() if line.endswith(r"\\") and "90.00" in line)
    columns = text.split(r"\begin{tabular}{")[1].split("}")[0]
    assert line.replace(r"\&", "").count("&") == len(columns) - 1


def test_no_rows_is_an_empty_table(tmp_path):
    paths = write_tables(tmp_path, [], [])
    assert _read_csv(paths[0]) == []
    assert plot_curves(tmp_path, []) == [] and plot_sparsity(tmp_path, []) == []


# --- results.json


def test_results_are_strict_json(tmp_path):
    payload = {
        "accuracy": np.float32(0.1),
        "nan": math.nan,
        "array": np.array([[1.0, np.inf], [0.25, 2.0]], np.float32),
        "list": (1, None, True, {"deep": np.int64(3)}),
    }
    path = write_results(tmp_path / "run", payload)

    def refuse(constant: str):
        raise AssertionError(f"{constant} is not strict JSON")

    assert json.loads(path.read_text(), parse_constant=refuse) == {
        "accuracy": 0.1,
        "nan": None,
        "array": [[1.0, None], [0.25, 2.0]],
        "list": [1, None, True, {"deep": 3}],
    }
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    code = (
        "import resource, signal, sys; from cards_jax.report import write_results\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "write_results(sys.argv[1], {'old': 1})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "try: write_results(sys.argv[1], {'new': list(range(1000))})\n"
        "except OSError as error: print(error.filename)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == str(tmp_path / "results.json"), done.stderr
    assert json.loads((tmp_path / "results.json").read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["results.json"]


# --- pictures


def _metrics(sparsities=(0.5, 0.8), rates=(0.1,), seeds=2, epochs=5) -> list[dict]:
    generator = np.random.default_rng(0)
    rows = []
    for epoch in range(1, epochs + 1):
        for split in ("train", "test"):
            for sparsity in sparsities:
                for rate in rates:
                    for seed in range(seeds):
                        accuracy = 1 - 0.9 * math.exp(-epoch * rate * 10) * sparsity
                        accuracy -= 0.01 * generator.random()
                        rows.append(
                            {
                                "realization": f"{seed}-{sparsity}-{rate}",
                                "seed": seed,
                                "sparsity": sparsity,
                                "learning_rate": rate,
                                "weight_decay": 5e-4,
                                "epoch": float(epoch),
                                "split": split,
                                "accuracy": accuracy,
                                "loss": 2 * (1 - accuracy),
                                "alive": True,
                            }
                        )
    return rows


def _bytes(paths: list[Path]) -> list[bytes]:
    return [path.read_bytes() for path in paths]


def _check_pictures(paths: list[Path]) -> None:
    png, svg = paths
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and png.stat().st_size > 5000
    assert svg.read_text().rstrip().endswith("</svg>") and svg.stat().st_size > 5000


@pytest.mark.parametrize("rates", [(0.1,), (0.01, 0.1, 0.2)], ids=["labels", "legend"])
def test_curves_are_drawn_the_same_twice(tmp_path, rates):
    rows = _metrics(rates=rates)
    settings = dict(matplotlib.rcParams)
    first = plot_curves(tmp_path / "a", rows)
    assert first == [tmp_path / "a" / "plots" / f"curves.{s}" for s in ("png", "svg")]
    _check_pictures(first)
    assert _bytes(first) == _bytes(plot_curves(tmp_path / "b", rows))
    assert dict(matplotlib.rcParams) == settings


def test_curves_leave_diverged_realizations_out(tmp_path):
    rows = _metrics(seeds=2)
    late = {**_metrics(seeds=3)[-1], "realization": "dead", "epoch": 9.0, "accuracy": 0.1}
    dead = [late, {**late, "epoch": 10.0, "accuracy": None, "alive": False}]
    alone = _bytes(plot_curves(tmp_path / "a", rows))
    assert _bytes(plot_curves(tmp_path / "b", rows + dead)) == alone
    assert _bytes(plot_curves(tmp_path / "c", [*rows, late])) != alone
    assert plot_curves(tmp_path / "d", dead) == []


def test_curves_of_little_data(tmp_path):
    one = [row for row in _metrics((0.5,), seeds=1, epochs=1) if row["split"] == "test"]
    _check_pictures(plot_curves(tmp_path / "a", one))
    some = [{**row, "loss": 0.0} for row in _metrics(epochs=2) if row["split"] == "train"]
    lone = [row for row in _metrics((0.5,)) if row["split"] == "test"]
    _check_pictures(plot_curves(tmp_path / "b", some + lone))


def test_sparsity_is_drawn_the_same_twice(tmp_path):
    rows, _ = _rows()
    first = plot_sparsity(tmp_path / "a", rows[1:], rows[:1])
    assert first == [tmp_path / f"a.{s}" for s in ("png", "svg")]
    _check_pictures(first)
    assert _bytes(first) == _bytes(plot_sparsity(tmp_path / "b", rows[1:], rows[:1]))
    assert _bytes(first) != _bytes(plot_sparsity(tmp_path / "c", rows[1:]))


def test_sparsity_needs_something_to_compare(tmp_path):
    rows, _ = _rows()
    assert plot_sparsity(tmp_path, rows[1:2]) == []
    assert plot_sparsity(tmp_path, summarise([_result(0, math.nan)]), rows[:1]) == []
    _check_pictures(plot_sparsity(tmp_path / "plots" / "sparsity", rows[1:2], rows[:1]))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_labels_keep_apart_and_in_order(places):
    moved = apart(places, 0.09)
    order = np.argsort(places, kind="stable")
    assert (np.diff(np.asarray(moved)[order]) > 0.08).all()
    assert np.mean(moved) == pytest.approx(np.mean(places))
    if len(places) == 1 or np.diff(np.sort(places)).min() >= 0.09:
        assert moved == places
