"""Heatmaps of finished cards: the command, what it writes, and as part of a run."""

import csv
import dataclasses
import json
from pathlib import Path

import cards
import jax
import numpy as np
import pages
import pytest
import runs

from cards_jax import (
    config,
    data,
    experiment,
    files,
    folder,
    fourier,
    hand,
    heat,
    heat_report,
    heatmap,
    models,
    pack,
)
from cards_jax.config import ConfigError
from cards_jax.evaluate import fourier as evaluate
from cards_jax.heat import Heat
from cards_jax.heat_file import Place
from cards_jax.page import outcome

CHANGES = dict(epochs=1, seeds=(0, 1), evaluate__heatmap=(2.0,), evaluate__heatmap_images=20)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    c = runs.tiny(tmp_path_factory.mktemp("runs"), **CHANGES)
    experiment.complete(c)
    return c, folder.path_of(c)


def test_a_run_leaves_its_heatmaps_behind_and_measures_them_once(finished, monkeypatch):
    c, path = finished
    with np.load(path / "tables" / "heatmap.npz") as held:
        errors, about = held["errors"], json.loads(str(held["settings"]))
    assert errors.shape == (2, 1, 8, 8) and about["eps"] == [2.0] and about["images"] == 20
    d = data.prepare(c)
    one = hand.load([path])[0]
    s = evaluate.Settings((2.0,), 20)
    found = evaluate.sweep(one, d.test_images, d.test_labels, s)
    found = evaluate.errors(found, 8, 8)
    np.testing.assert_allclose(errors, found, atol=0.051)  # one image may be at a boundary
    assert (path / "plots" / "heatmap.png").stat().st_size > 1000
    assert 'id="h0-data"' in (path / "report.html").read_text()
    monkeypatch.setattr(evaluate, "sweep", None)
    experiment.complete(c)


def test_the_command(finished, tmp_path, capsys):
    c, path = finished
    save = tmp_path / "new" / "h"
    arguments = [str(path), "--eps=2", "--images=20", f"--save={save}"]
    assert heatmap.main(arguments) == 0
    out, _ = capsys.readouterr()
    rows = list(csv.DictReader(save.with_name("h.csv").read_text().splitlines()))
    assert out.strip() == save.with_name("h.md").read_text().strip()
    assert [row["ring"] for row in rows] == list(heat_report.RINGS)
    with np.load(save.with_name("h.npz")) as held:
        assert float(rows[0]["error_mean"]) == pytest.approx(held["errors"].mean())


def _places(path, d, s):
    cards = sorted((path / "cards").glob("*.card"))
    return [Place.of(card, files.sha256(card), d, s, s.eps[0]) for card in cards]


def test_damaged_ones_are_nothing(finished):
    c, path = finished
    d, s = data.prepare(c), evaluate.Settings((2.0,), 20)
    place, other = _places(path, d, s)
    whole, content = place.read(), place.path.read_bytes()
    assert whole.shape == (34, 20)
    assert dataclasses.replace(place, path=other.path).read().shape == (34, 0)  # another card's
    for damaged in (content[: len(content) // 2], b"", content[:-200] + bytes(200)):
        place.path.write_bytes(damaged)
        assert place.read().shape == (34, 0)
    place.path.write_bytes(content)
    np.testing.assert_array_equal(place.read(), whole)


def test_only_what_is_missing_is_measured(finished, monkeypatch, capsys):
    """More images, more norms, one card without anything: the same as from nothing, but for what was there."""
    c, path = finished
    d, cards = data.prepare(c), hand.find([path])
    few, many = evaluate.Settings((2.0,), 8), evaluate.Settings((1.0, 2.0), 24)
    places = [*_places(path, d, few), *_places(path, d, evaluate.Settings((1.0,)))]
    kept = {p.path: p.path.read_bytes() for p in places if p.path.is_file()}
    for place in places:
        place.path.unlink(missing_ok=True)
    whole = heat.evaluate(cards, d, many, print)
    for place in places:
        place.path.unlink()
    asked = []
    sweep = evaluate.image_by_image

    def noted(one, images, labels, s, first=0, rows=0, label=""):
        asked.append((len(one), s.eps, first))
        return sweep(one, images, labels, s, first, rows, label)

    monkeypatch.setattr(evaluate, "image_by_image", noted)
    (first,) = heat.evaluate(cards[:1], d, few, print)
    found = heat.evaluate(cards, d, many, print)
    assert asked == [(1, (2.0,), 0), (1, (1.0,), 0), (1, (2.0,), 8), (1, (1.0, 2.0), 0)]
    for one, other in zip(found, whole, strict=True):
        assert one.wrong.shape == (2, 34, 24) and np.mean(one.wrong != other.wrong) < 0.01
    np.testing.assert_array_equal(found[0].wrong[1:, :, :8], first.wrong)
    np.testing.assert_array_equal(heat.evaluate(cards[:1], d, few, print)[0].wrong, first.wrong)
    assert len(asked) == 4  # a part of what is there is there
    for file, content in kept.items():
        file.write_bytes(content)


def test_an_interrupted_measurement_goes_on(finished, monkeypatch):
    c, path = finished
    d, s = data.prepare(c), evaluate.Settings((3.0,), 12)
    cards, sweep = hand.find([path]), evaluate.image_by_image
    monkeypatch.setattr(evaluate, "PIECE_SECONDS", 1e-9)
    monkeypatch.setattr(evaluate, "FIRST", 34)  # an image at a time
    monkeypatch.setattr(heat, "KEEP_SECONDS", 0)

    def interrupted(*args, **kwargs):
        for _, part in zip(range(5), sweep(*args, **kwargs), strict=False):
            yield part
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "image_by_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        heat.evaluate(cards, d, s, print)
    monkeypatch.undo()
    assert all(place.read().shape == (34, 5) for place in _places(path, d, s))
    found = [h.wrong for h in heat.evaluate(cards, d, s, print)]
    (one,) = hand.load(cards)
    fresh = evaluate.sweep(one, d.test_images, d.test_labels, s)
    assert np.mean(np.stack(found) != fresh) < 0.01


@pytest.mark.parametrize(
    "more, said",
    [
        (["--eps=0"], "eps=0.0"),
        (["--eps=3,3"], "each once"),
        (["--images=0"], "images=0"),
        (["--data.dir=/nowhere", "--baseline=/nowhere"], "/nowhere"),
    ],
)
def test_bad_input_is_one_line(finished, capsys, more, said):
    assert heatmap.main([str(finished[1]), *more]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and said in err


def test_a_baseline_of_two_kinds_is_refused_before_anything_is_measured(
    finished, tmp_path, monkeypatch, capsys
):
    c, path = finished
    first, second = (pack.load(p) for p in sorted((path / "cards").glob("*.card")))
    for i, (card, rate) in enumerate(((first, 0.1), (second, 7.0))):
        result = {**card.meta["result"], "method": "dense", "learning_rate": rate}
        dataclasses.replace(card, meta={**card.meta, "result": result}).save(tmp_path / f"{i}.card")
    monkeypatch.setattr(heat, "evaluate", None)
    more = f"--baseline={tmp_path}", f"--data.dir={c.data.dir}" if c.data.dir else "--images=20"
    assert heatmap.main([str(path), *more]) == 2
    assert "baseline: holds more than one kind of card" in capsys.readouterr().err


def test_fields_are_checked_and_do_not_rename_a_run(tmp_path):
    plain, more = runs.tiny(tmp_path), runs.tiny(tmp_path, **CHANGES, data__title="scans")
    more.epochs = plain.epochs
    assert config.shared_identity(plain) == config.shared_identity(more)
    for changes in ({"evaluate__heatmap": (-1.0,)}, {"evaluate__heatmap_images": 0}):
        with pytest.raises(ConfigError, match="evaluate.heatmap"):
            runs.tiny(tmp_path, **changes)


def test_rows_average_seeds_and_differences_are_in_points(tmp_path):
    def of(method, sparsity, value):
        meta = {"result": {"method": method, "sparsity": sparsity}}
        return Heat(tmp_path / "x.card", meta, np.full((1, 8, 8), value))

    found = heat_report.rows([of("bp", 0.8, 0.1), of("ep", 0.5, 0.4), of("bp", 0.8, 0.3)])
    assert [(r.label, len(r.errors)) for r in found] == [("bp 80%", 2), ("ep 50%", 1)]
    (dense,) = heat_report.rows([of("dense", 0, 0.5)], dense=True)
    s = evaluate.Settings((3.0,), 10)
    first = next(r for r in heat_report.table(found, dense, s) if r["card"] == "bp 80%")
    assert first["ring"] == "all" and first["error_mean"] == pytest.approx(0.2)
    assert first["to_dense"] == pytest.approx(-30) and first["error_max"] == pytest.approx(0.3)
    drawn = heat_report.draw(tmp_path / "h", found, dense, s, "noise", 10)
    assert sorted(p.name for p in drawn) == [
        "h.png", "h.svg", "h_difference.png", "h_difference.svg",
    ]  # fmt: skip
    text = (tmp_path / "h_difference.svg").read_text()
    assert text.count("<image") >= 2


def of_card(seed: int, value: float, config=None, **result) -> Heat:
    result = {"method": "lrr", "sparsity": 0.9, "learning_rate": 0.1, "seed": seed, **result}
    meta = {"result": result, "config": config or {}}
    return Heat(Path(f"{seed}.card"), meta, np.full((1, 8, 8), value))


def test_cards_that_differ_in_more_than_their_seed_are_rows_of_their_own():
    dense = of_card(0, 0.1, method="dense", sparsity=0.0)
    for other in (
        of_card(0, 0.8, learning_rate=0.01),
        of_card(0, 0.8, config={"model.width": 16}),
        of_card(1, 0.8, config={"augment": "augmix"}),
    ):
        found = heat_report.rows([dense, of_card(0, 0.2), of_card(1, 0.4), other])
        assert [len(row.errors) for row in found] == [1, 2, 1]
        assert found[1].errors.mean() == pytest.approx(0.3)
        assert len({row.label for row in found}) == 3
    label = heat_report.rows([of_card(0, 0.2), of_card(0, 0.2, {"model.width": 16})])[1].label
    assert label == "lrr model.width=16 90%"


def test_diverged_cards_have_no_heatmap_in_a_mean(tmp_path):
    found = heat_report.rows([of_card(0, 0.1), of_card(1, 0.3), of_card(2, 0.9, diverged_at=7)])
    assert len(found) == 1 and found[0].errors.mean() == pytest.approx(0.2)
    assert heat_report.rows([of_card(2, 0.9, diverged_at=7)]) == []
    s = evaluate.Settings((3.0,), 10)
    assert heat_report.draw(tmp_path / "h", [], None, s, "noise", 10) == []
    assert heat_report.table([], None, s) == []


def test_the_page_tells_cards_of_two_configs_apart(tmp_path):
    """By the configs that are kept beside the maps; those of earlier versions are read without."""
    run = pages.leave(tmp_path / "run", robust=False)
    cards = [of_card(0, 0.2), of_card(1, 0.4), of_card(0, 0.6, {"model.width": 16})]
    s, d = evaluate.Settings((3.0,), 10), data.prepare(runs.tiny(tmp_path))
    file = run / "tables" / "heatmap.npz"
    heatmap.Findings(cards, [], s, "noise", d).save(file.with_suffix(""), tmp_path / "plot")
    with np.load(file) as held:
        kept = dict(held)
    assert [json.loads(text) for text in kept["configs"]] == [{}, {}, {"model.width": 16}]
    groups = lambda: {label: len(some) for label, _, some in outcome.read(run).heats.groups}
    assert groups() == {"lrr model.width default 90%": 2, "lrr model.width=16 90%": 1}
    del kept["configs"]
    np.savez(file, **kept)
    assert groups() == {"lrr 90%": 3} and not outcome.read(run).notes


def test_a_card_that_does_not_know_its_data_is_told_them(tmp_path, capsys):
    """As imported ones are."""
    spec = models.Spec("conv2", 2, 10, image_HWC=(8, 8, 3))
    path = tmp_path / "imported.card"
    pack.save(path, cards.sampled(spec, 0.5, binary=True), spec, {})
    command = [str(path), "--eps=2", "--images=5"]
    assert heatmap.main(command) == 2
    assert "imported.card: does not say what it was trained on" in capsys.readouterr().err
    assert heatmap.main([*command, "--data.name=digits", "--data.image_size=8"]) == 0
    out = capsys.readouterr().out
    assert "digits" in out and "| imported" in out


def test_rings_cover_the_map_once():
    radius = fourier.radius(32, 32)
    rings = [(radius >= a) & (radius < b) for a, b in list(heat_report.RINGS.values())[1:]]
    assert np.all(sum(ring.astype(int) for ring in rings) == 1)
    assert radius[16, 16] == 0 and radius[0, 16] == 1 and jax.device_count() >= 1
