"""Scores summed up: means by hand, pairs by seed, what stands beside the benchmark, what people read."""

import dataclasses
from pathlib import Path

import corrupted_files as fake
import numpy as np
import pytest

from cards_jax import corruptions, robust_plot, robust_summary, robust_tables
from cards_jax.corruptions import BENCHMARK, EXTRA
from cards_jax.data.corrupted import Source
from cards_jax.marks import CLEAN, Marks
from cards_jax.page import matrix
from cards_jax.scores import Score

COUNT = 40
LABELS = fake.labels(COUNT)


def source(names=BENCHMARK + EXTRA, benchmark=None):
    return Source(
        "Squares, corrupted", "files", "x", tuple(names), LABELS, (8, 8, 3), None, {}, benchmark
    )


def marks(right: np.ndarray) -> Marks:
    """From whether a card is right, bool (S, N); it is wrong by one class, and always 90% sure."""
    predicted = np.where(right, LABELS, (LABELS + 1) % fake.CLASSES)
    sure = np.full(right.shape, 0.9)
    return Marks.of(predicted, sure, np.where(right, 0.1, 2.0), LABELS)


def score(seed, method="bp", sparsity=0.5, names=BENCHMARK + EXTRA, level=0.7, **fields):
    """A card that is right about a share of the images; less so of the extras."""
    rng = np.random.default_rng([seed, int(100 * sparsity), len(method)])
    found = {CLEAN: marks(rng.random((1, COUNT)) < level + 0.2)}
    for name in names:
        found[name] = marks(rng.random((5, COUNT)) < (level if name in BENCHMARK else 0.1))
    result = {"seed": seed, "method": method, "sparsity": sparsity, "model": "conv2"}
    result |= {"data": "folder", "scope": None, "learning_rate": 0.1, "weight_decay": 0.0}
    result |= {"diverged_at": None, **fields}
    return Score(Path(f"{method}_{sparsity}_{seed}.card"), result, found)


def mean(scores, names):
    return np.mean([s.marks[n].correct.mean() for s in scores for n in names])


CARDS = [score(seed, sparsity=s) for s in (0.5, 0.8) for seed in (0, 1)]
DENSE = [score(seed, "dense", 0.0, level=0.72) for seed in (0, 1, 2)]
WHOLE = robust_summary.summarise(source(), "Squares", CARDS, DENSE)


def test_means_by_hand():
    dense, half, most = WHOLE.rows
    assert [row["method"] for row in WHOLE.rows] == ["dense", "bp", "bp"]
    assert (dense["n"], half["n"], half["sparsity"], most["sparsity"]) == (3, 2, 0.5, 0.8)
    mine = CARDS[:2]
    assert half["benchmark_accuracy_mean"] == pytest.approx(mean(mine, BENCHMARK))
    assert half["extra_accuracy_mean"] == pytest.approx(mean(mine, EXTRA))
    assert abs(half["benchmark_accuracy_mean"] - mean(mine, BENCHMARK + EXTRA)) > 0.1
    assert half["clean_accuracy_mean"] == pytest.approx(mean(mine, (CLEAN,)))
    blur = [n for n in BENCHMARK if corruptions.find(n).family == "blur"]
    assert len(blur) == 4 and half["blur_accuracy_mean"] == pytest.approx(mean(mine, blur))
    rest = [n for n in BENCHMARK if n != "jpeg_compression"]
    assert half["without_jpeg_accuracy_mean"] == pytest.approx(mean(mine, rest))
    seeds = [mean([s], BENCHMARK) for s in mine]
    assert half["benchmark_accuracy_min"] == pytest.approx(min(seeds))
    assert half["benchmark_accuracy_max"] == pytest.approx(max(seeds))
    cells = [abs(a - 0.9) for s in mine for n in BENCHMARK for a in s.marks[n].accuracy]
    assert half["benchmark_ece"] == pytest.approx(np.mean(cells))


def test_differences_are_paired_where_seeds_match():
    half = WHOLE.rows[1]
    paired = mean(CARDS[:2], BENCHMARK) - mean(DENSE[:2], BENCHMARK)  # not with the third seed
    assert half["paired"] and half["benchmark_difference_mean"] == pytest.approx(paired)
    apart = robust_summary.summarise(source(), "Squares", CARDS, [DENSE[0], DENSE[2]]).rows[1]
    expected = mean(CARDS[:2], BENCHMARK) - mean([DENSE[0], DENSE[2]], BENCHMARK)
    assert not apart["paired"]
    assert apart["benchmark_difference_mean"] == pytest.approx(expected)
    assert apart["benchmark_difference_low"] < expected < apart["benchmark_difference_high"]
    assert "benchmark_difference_mean" not in WHOLE.rows[0]


def test_a_diverged_card_is_counted_and_left_out():
    dead = score(2, diverged_at=10, level=0.0)
    row = robust_summary.summarise(source(), "Squares", [*CARDS[:2], dead]).rows[0]
    assert (row["n"], row["n_diverged"]) == (2, 1)
    assert row["benchmark_accuracy_mean"] == WHOLE.rows[1]["benchmark_accuracy_mean"]
    alone = robust_summary.summarise(source(), "Squares", [dead])
    assert alone.rows[0]["n"] == 0 and "corruptions.md" in robust_tables.texts(alone)


def test_a_part_of_the_benchmark_has_no_mean():
    names = ("fog", "contrast")
    part = robust_summary.summarise(source(names), "Squares", CARDS)
    assert not any(k.startswith(("benchmark", "weather")) for row in part.rows for k in row)
    text = robust_tables.texts(part)["corruptions.md"]
    assert "corrupted" not in text.splitlines()[2] and "mean of the fifteen" not in text


def test_prune_potential_by_corruption():
    rows = {row["corruption"]: row for row in WHOLE.corruptions}
    for name in ("fog", "pixelate"):
        errors = {0.5: 1 - mean(CARDS[:2], [name]), 0.8: 1 - mean(CARDS[2:], [name])}
        within = [s for s, e in errors.items() if e <= 1 - mean(DENSE, [name]) + 0.005]
        assert rows[name]["prune potential bp"] == max(within, default=0)


def test_exemplars_are_counted_by_corruption():
    found = WHOLE.exemplars["bp 50%"]
    vote = lambda scores, i: np.stack([s.marks[CLEAN].predicted[0, i] for s in scores])
    modal = lambda x: np.bincount(x).argmax()
    differ = [i for i in range(COUNT) if modal(vote(CARDS[:2], i)) != modal(vote(DENSE, i))]
    assert found["clean_images"] == differ
    assert found["fraction"][CLEAN] == [pytest.approx(len(differ) / COUNT)]
    assert len(found["fraction"]["fog"]) == 5


def test_effective_robustness_needs_a_population():
    assert "effective_robustness" not in WHOLE.rows[1]
    dense = [score(i, "dense", 0.0, level=0.5 + 0.05 * i) for i in range(6)]
    s = robust_summary.summarise(source(), "Squares", CARDS, DENSE, dense)
    assert s.population["n"] == 6
    assert s.rows[1]["effective_min"] <= s.rows[1]["effective_robustness"]
    none = robust_summary.summarise(source(), "Squares", CARDS, DENSE, dense[:2])
    assert none.population is None


def test_published_columns_stand_beside_real_cifar_only():
    assert not any(k.startswith("RobustBench") for row in WHOLE.corruptions for k in row)
    real = robust_summary.summarise(source(benchmark="cifar10"), "CIFAR-10", CARDS)
    text = robust_tables.texts(real)["corruptions.md"]
    assert "RobustBench LRR deck" in text and "published numbers of other networks" in text
    (mean_row,) = [line for line in text.splitlines() if "mean of the fifteen" in line]
    assert "92.79" in mean_row and "73.46" in mean_row


def test_cards_of_another_config_are_no_seeds_of_one_another():
    wide = [dataclasses.replace(s, config={"model.width": 64}) for s in DENSE]
    s = robust_summary.summarise(source(), "Squares", CARDS, [*DENSE, *wide])
    assert s.labels[:2] == ["dense model.width default", "dense model.width=64"]
    assert [row["n"] for row in s.rows[:2]] == [3, 3]
    assert "benchmark_difference_mean" not in s.rows[2]  # whose baseline would it be?
    assert "without a difference: bp 50%, bp 80%, as" in robust_tables.caption(s)
    assert "without a difference" not in robust_tables.caption(WHOLE)


def test_cells_are_those_of_the_groups_that_are_shown():
    """Of diverged cards there are none, and what is averaged apart is told apart."""
    wide = [dataclasses.replace(s, config={"model.width": 64}) for s in DENSE]
    dead = score(2, diverged_at=7)
    s = robust_summary.summarise(source(), "Squares", [*CARDS, dead], [*DENSE, *wide])
    assert {c["label"] for c in s.cells} == set(s.labels)
    assert {c["seed"] for c in s.cells if c["label"] == "bp 50%"} == {0, 1}
    cells = [{k: str(v) for k, v in c.items()} for c in s.cells]
    made = matrix.by_severity(s.rows, cells, s.labels)
    assert list(made) == s.labels
    for label, group in zip(s.labels[:2], (DENSE, wide), strict=True):
        row = next(r for r in made[label].body if r[0] == "fog")
        wanted = [
            f"{100 * np.mean([g.marks['fog'].accuracy[i] for g in group]):.2f}" for i in range(5)
        ]
        assert list(row[1:]) == wanted


def test_no_difference_is_larger_than_everything():
    one = lambda s: dataclasses.replace(
        s,
        marks={
            k: dataclasses.replace(m, predicted=m.predicted[:, :1], correct=m.correct[:, :1])
            for k, m in s.marks.items()
        },
    )
    s = robust_summary.summarise(
        source(), "Squares", [one(x) for x in CARDS], [one(x) for x in DENSE[:2]]
    )
    for row in s.rows[1:]:
        assert -1 <= row["clean_difference_low"] <= row["clean_difference_high"] <= 1


def test_there_may_be_fewer_clean_images_than_corrupted_ones():
    few = [dataclasses.replace(s, marks={**s.marks, CLEAN: fewer(s.marks[CLEAN])}) for s in CARDS]
    row = robust_summary.summarise(source(), "Squares", few).rows[0]
    assert row["clean_accuracy_low"] <= row["clean_accuracy_mean"] <= row["clean_accuracy_high"]


def fewer(m: Marks) -> Marks:
    return dataclasses.replace(m, predicted=m.predicted[:, :20], correct=m.correct[:, :20])


def test_where_all_cards_diverged_nothing_is_drawn(tmp_path):
    dead = [score(seed, diverged_at=7) for seed in (0, 1)]
    s = robust_summary.summarise(source(), "Squares", dead)
    assert robust_plot.draw(tmp_path / "a", s) == [] and s.rows[0]["n_diverged"] == 2


def test_cards_without_a_run_stand_by_their_file_names():
    alone = [Score(s.path, {}, s.marks) for s in CARDS[:2]]
    s = robust_summary.summarise(source(), "Squares", alone)
    assert s.labels == ["bp_0.5_0", "bp_0.5_1"]
    assert "| bp_0.5_0 " in robust_tables.texts(s)["corruptions.md"]


def test_tables_say_source_interval_and_pairs():
    texts = robust_tables.texts(WHOLE)
    caption = texts["corruptions.md"].splitlines()[0]
    for part in ("Squares, corrupted; 40 images", "15 corruptions x 5", "95%", "by seed"):
        assert part in caption
    assert texts["corruptions.csv"].count("\n") == 4
    assert texts["corruptions_cells.csv"].count("\n") == 1 + 7 * (1 + 19 * 5)
    assert r"\toprule" in texts["corruptions.tex"] and r"95\%" in texts["corruptions.tex"]
    assert robust_tables.payload(WHOLE)["rows"] is WHOLE.rows


@pytest.mark.slow
def test_picture_has_a_panel_for_each_corruption(tmp_path):
    paths = robust_plot.draw(tmp_path / "a", WHOLE)
    text = paths[1].read_text()
    assert paths[0].stat().st_size > 10_000
    assert [p.suffix for p in paths] == [".png", ".svg"] and "<svg" in text
    again = robust_plot.draw(tmp_path / "b", WHOLE)
    assert again[0].read_bytes() == paths[0].read_bytes()
    assert WHOLE.curves["fog"]["bp 80%"].shape == (2, 6)
