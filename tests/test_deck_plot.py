"""Bubbles of saved evaluations."""

import json

import pytest

from cards_jax import deck_commands, deck_plot, deck_table
from cards_jax.config import ConfigError

SIZES = {"d": 300_000, "small": 20_000}


def rows(deck="d", predictors=("card 0 (x)", "card 1 (y)", "agnostic", "adaptive, ours")):
    """Accuracies that rise with the predictor's place."""
    found = []
    for i, predictor in enumerate(predictors):
        gated = predictor.startswith("adaptive")
        for corruption, severity, below in (("clean", 0, 0), ("fog", 1, 0.1), ("fog", 2, 0.2)):
            for batch in (1, 100) if gated else (None,):
                row = {"deck": deck, "corruption": corruption, "severity": severity}
                row |= {"predictor": predictor, "batch": batch, "accuracy": 0.5 + 0.1 * i - below}
                row |= {"order": "as they come" if gated else None, "asked": 1.0}
                row |= {"cards": 1 if predictor.startswith("card") else 2}
                found.append(row | {"paper_bytes": SIZES[deck] / 10, "true_bytes": SIZES[deck]})
    return found


def test_points_are_means_of_what_is_used():
    given = rows() + rows("small", ("card 0 (x)",))
    given += [{**r, "predictor": "adaptive, ours, soft"} for r in given if "ours" in r["predictor"]]
    given += [{**r, "predictor": f"{r['predictor']}, transductive"} for r in rows()]
    found = deck_plot.points(given)
    names = ["card 0 (x)", "card 1 (y)", "agnostic", "adaptive, ours", "card 0 (x)"]
    assert [p["predictor"] for p in found] == names
    assert [p["label"] for p in found][2:] == ["d: agnostic", "d: ours", "small"]
    assert found[3]["accuracy"] == pytest.approx(0.8)
    assert found[3]["robustness"] == pytest.approx(0.65)
    assert [p["alone"] for p in found] == [False] * 4 + [True]


def test_the_front_holds_what_nothing_beats():
    points = [
        {"a": a, "r": r, "bytes": b} for a, r, b in ((1, 2, 9), (2, 1, 9), (1, 1, 3), (1, 1, 9))
    ]
    assert deck_plot.front(points, ("a", "r")) == points[:2]
    assert deck_plot.front(points, ("a", "r"), ("bytes",)) == points[:3]
    assert deck_plot.front([], ("a",)) == []


def test_pictures_of_a_saved_evaluation(tmp_path):
    path = tmp_path / "saved.csv"
    path.write_text(deck_table.csv(rows() + rows("small", ("card 0 (x)",))))
    found = deck_plot.read(path)
    assert deck_table.summary(found) == deck_table.summary(rows() + rows("small", ("card 0 (x)",)))
    drawn = deck_plot.draw(tmp_path / "a.b_true", found, "true", "20 images.")
    assert [p.name for p in drawn] == ["a.b_true.png", "a.b_true.svg"]
    text = drawn[1].read_text()
    assert "d: agnostic" in text and "100 kB" in text and "true bytes: the whole file" in text
    clean = [r for r in found if r["corruption"] == "clean"]
    assert deck_plot.draw(tmp_path / "none", clean) == []


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    for text in ("a,b\n1,2\n", "", ",".join(deck_table.COLUMNS)):
        path.write_text(text)
        with pytest.raises(ConfigError, match="a.csv"):
            deck_plot.read(path)


def test_a_control_of_two_evaluations_is_drawn_once(tmp_path, capsys):
    control, other = rows("small", ("card 0 (x)",)), rows("small", ("agnostic",))
    for name, given in (("a", rows() + control), ("b", control), ("c", other)):
        (tmp_path / f"{name}.csv").write_text(deck_table.csv(given))
    command = lambda *names: deck_commands.main(
        ["plot", *(str(tmp_path / f"{n}.csv") for n in names), f"--save={tmp_path / 'both'}"]
    )
    assert command("a", "b") == 0
    assert capsys.readouterr().out.count("| small") == 1
    assert command("a", "c") == 2
    assert "both have a deck small, measured differently" in capsys.readouterr().err


def plotted(tmp_path, *names) -> int:
    saved = [str(tmp_path / f"{name}.csv") for name in names]
    return deck_commands.main(["plot", *saved, f"--save={tmp_path / 'both'}"])


@pytest.mark.parametrize("change", [{"corruption": "snow"}, {"severity": 3}])
def test_evaluations_on_other_corruptions_are_not_drawn_together(tmp_path, capsys, change):
    other = rows("small", ("card 0 (x)",))
    other[-1] |= change
    for name, given in (("a", rows()), ("b", other)):
        (tmp_path / f"{name}.csv").write_text(deck_table.csv(given))
    assert plotted(tmp_path, "a", "b") == 2
    err = capsys.readouterr().err
    assert "b.csv are on other corruptions, severities or numbers of images" in err
    assert not list(tmp_path.glob("both*"))


def test_evaluations_on_other_numbers_of_images_are_not_drawn_together(tmp_path, capsys):
    for name, images, given in (
        ("a", 20, rows()),
        ("b", 40, rows("small", ("card 0 (x)",))),
        ("c", 20, rows("small", ("card 0 (x)",))),
    ):
        (tmp_path / f"{name}.csv").write_text(deck_table.csv(given))
        (tmp_path / f"{name}.json").write_text(json.dumps({"images": images}))
    assert plotted(tmp_path, "a", "b") == 2
    assert "numbers of images; allowed are evaluations on the same" in capsys.readouterr().err
    assert plotted(tmp_path, "a", "c") == 0
    # What is not known is not held against an evaluation.
    (tmp_path / "b.json").unlink()
    assert plotted(tmp_path, "a", "b") == 0
