"""Commands of decks, on a small run: they find its images, choose, deal, measure once and say on what."""

import argparse
import csv
import dataclasses
import json

import cards
import decks
import numpy as np
import pytest
import runs
from PIL import Image

from cards_jax import (
    deck_commands,
    deck_file,
    deck_inputs,
    deck_table,
    folder,
    gate,
    pack,
    show,
    tune,
)
from cards_jax.config import ConfigError
from cards_jax.deck import Deck


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(run folder, folder of images) of a card that was trained on images in a folder."""
    top = tmp_path_factory.mktemp("own images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 5)):
        for name in ("ant", "bee"):
            place = top / "images" / split / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(place / f"{i:03}.png")
    c = runs.tiny(
        top / "runs",
        data__name="folder",
        data__dir=str(top / "images"),
        data__title="Noise",
        data__cache_dir=str(top / "cache"),
        seeds=(0,),
        epochs=1,
        batch_size=16,
        holdout=8,
    )
    runs.finished(c)
    return folder.path_of(c), top / "images"


def arguments(run, save, *more):
    return deck_commands.parse(["build", str(run), f"--save={save}", *more])


def test_images_lie_where_the_run_found_them(trained, tmp_path):
    args = arguments(trained[0], tmp_path / "own.deck")
    args.do(args)
    assert deck_file.load(tmp_path / "own.deck").gate is not None


def test_a_card_without_its_run_needs_to_be_told(trained, tmp_path):
    (card,) = (trained[0] / "cards").iterdir()
    alone = tmp_path / card.name
    alone.write_bytes(card.read_bytes())
    with pytest.raises(ConfigError, match=r"data\.dir"):
        args = arguments(alone, tmp_path / "own.deck")
        args.do(args)
    args = arguments(alone, tmp_path / "own.deck", f"--data.dir={trained[1]}")
    args.do(args)
    assert len(deck_file.load(tmp_path / "own.deck")) == 1


def test_other_images_are_refused(trained, tmp_path):
    other = tmp_path / "images"
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            (other / split / name).mkdir(parents=True)
            for i in range(12):
                image = Image.new("RGB", (8, 8), (i, 7, 9))
                image.save(other / split / name / f"{i}.png")
    args = arguments(trained[0], tmp_path / "own.deck", f"--data-dir={other}")
    with pytest.raises(ConfigError, match="fingerprint"):
        args.do(args)


@pytest.fixture(scope="module")
def pair(trained, tmp_path_factory):
    """A folder with that card, and with another one that says it was trained with noise."""
    place = tmp_path_factory.mktemp("pair")
    (path,) = (trained[0] / "cards").iterdir()
    (place / "plain.card").write_bytes(path.read_bytes())
    first = pack.load(path)
    meta = {**first.meta, "config": {**first.meta["config"], "augment": "gaussian"}}
    other = cards.sampled(first.spec, 0.5, binary=True)
    pack.save(place / "gaussian.card", other, first.spec, meta, origin=cards.origin())
    return place


@pytest.fixture(scope="module")
def command(trained):
    """The exit code of a command on these images."""

    def run(*words) -> int:
        return deck_commands.main([*map(str, words), f"--data.dir={trained[1]}"])

    return run


@pytest.fixture(scope="module")
def deck(command, pair, tmp_path_factory):
    path = tmp_path_factory.mktemp("deck") / "my.deck"
    assert command("build", pair, f"--save={path}") == 0
    return path


def table(path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_an_evaluation_measures_once(command, deck, tmp_path, monkeypatch, capsys):
    save = tmp_path / "new" / "my"
    words = "evaluate", deck, "--corruptions=fog", "--severities=1,5", f"--save={save}"
    assert command(*words, "--images=8") == 0
    out, _ = capsys.readouterr()
    assert out.startswith(
        "8 test images of Noise. Corruptions generated from them, severities 1, 5"
    )
    ends = ["csv", "html", "json", "jsonl", "md"]
    pictures = [f"my_{kind}.{end}" for kind in ("paper", "true") for end in ("png", "svg")]
    assert sorted(p.name for p in save.parent.iterdir()) == [*(f"my.{e}" for e in ends), *pictures]
    rows = table(tmp_path / "new" / "my.csv")
    sets = [("clean", "0"), ("fog", "1"), ("fog", "5"), ("mixed", "0")]
    assert list(dict.fromkeys((r["corruption"], r["severity"]) for r in rows)) == sets
    gates = {"adaptive, paper", "adaptive, ours", "adaptive, ours, soft"}
    singles = {"card 0 (gaussian)", "card 1 (plain)", "agnostic"}
    assert {r["predictor"] for r in rows} == gates | singles
    about = json.loads((tmp_path / "new" / "my.json").read_text())
    assert (about["images"], about["severities"], about["sizes"]) == (8, [1, 5], [1, 10, 32, 100])
    monkeypatch.setattr(deck_table, "measure_one", None)
    before = save.with_name("my.csv").read_bytes()
    assert command(*words, "--images=8") == 0
    assert capsys.readouterr().out == out and save.with_name("my.csv").read_bytes() == before
    assert command(*words, "--images=7") == 2
    assert "holds a measurement with another images" in capsys.readouterr().err


def test_a_card_knows_the_name_of_its_data(command, pair, tmp_path, capsys):
    """No --data.title: it was given to the run."""
    card = pair / "plain.card"
    assert pack.meta(card)["title"] == "Noise"
    assert show.main([str(card)]) == 0
    assert "  Noise (fingerprint " in capsys.readouterr().out
    assert command("evaluate", card, "--corruptions=none") == 0
    assert capsys.readouterr().out.startswith("10 test images of Noise.\n")
    file = pack.load(card)
    del file.meta["title"]
    pack.save(tmp_path / "old.card", file.card, file.spec, file.meta)
    assert command("evaluate", tmp_path / "old.card", "--corruptions=none") == 2
    assert "results need a name for people" in capsys.readouterr().err


def test_settings_are_chosen_on_holdout_images(command, pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tune, "CHOICES", tune.CHOICES[:: len(tune.CHOICES) // 2][:2])
    score = tune._score  # of random cards, which is as good with one gate as with another
    less_noise = lambda d, *given: {**score(d, *given), "score": 1 - d.gate.settings.noise}
    monkeypatch.setattr(tune, "_score", less_noise)
    save = tmp_path / "gate.json"
    assert command("choose", pair, "--references=20", f"--save={save}") == 0
    found, settings = json.loads(save.read_text()), deck_inputs.settings_of(str(save))
    tried = [gate.Settings.read(x["settings"]) for x in found["tried"]]
    assert [x.noise for x in tried] == [1, 0.5] and settings == tried[1]
    assert settings.references == 20 and found["score"] == 0.5 and found["images"] == 8
    assert "50.00%" in capsys.readouterr().out
    assert command("build", pair, f"--gate={save}", f"--save={tmp_path / 'own.deck'}") == 0
    assert deck_file.load(tmp_path / "own.deck").gate.settings == settings


@pytest.mark.parametrize("room, count", [(0, 2), (10**6, 4)])
def test_the_best_deck_within_a_budget_is_saved(command, pair, tmp_path, capsys, room, count):
    """Without room there are the two cards by themselves, with it both together, with a gate and without."""
    both = [deck_file.as_deck(path) for path in sorted(pair.iterdir())]
    budget = max(map(deck_file.true_bytes, both)) + room
    save, front = tmp_path / "best.deck", tmp_path / "front.csv"
    words = "deal", pair, f"--budget={budget}", f"--save={save}", f"--table={front}"
    assert command(*words) == 0
    out, rows = capsys.readouterr().out, table(front)
    assert f"Pareto front of {count} decks, on 8 holdout images" in out
    assert f"best score within {budget:,} bytes" in out
    best = max(rows, key=lambda r: (float(r["score"]), -int(r["true_bytes"])))
    names = [both[int(i)].members[0].name for i in best["cards"].split()]
    assert [m.name for m in deck_file.load(save).members] == names
    assert save.stat().st_size == int(best["true_bytes"]) <= budget


@pytest.mark.slow
def test_the_theory_is_measured_on_the_images_of_the_cards(command, deck, tmp_path, capsys):
    save = tmp_path / "theory"
    words = "theory", deck, "--corruptions=fog", "--severities=1", "--images=8", f"--save={save}"
    assert command(*words, "--attacked=2", "--steps=2") == 0
    assert capsys.readouterr().out.startswith("8 test images of Noise. Corruptions generated")
    rows = table(save.with_name("theory.csv"))
    groups = ("all", "gaussian", "plain")
    wanted = [(name, group) for name in ("clean", "fog") for group in groups]
    assert [(r["corruption"], r["group"]) for r in rows] == wanted


def test_textures_of_frost_are_looked_for_before_anything_is_measured(
    command, deck, tmp_path, capsys
):
    assert command("evaluate", deck, "--corruptions=frost", f"--frost={tmp_path}") == 2
    err = capsys.readouterr().err
    assert "frost: " in err and "does not hold frost1.png" in err and err.count("\n") == 1


# --- what the commands are given


@pytest.mark.parametrize("own", [None, gate.PAPER, gate.OURS, decks.SETTINGS])
def test_every_gate_has_the_settings_of_its_name(monkeypatch, own):
    """A gate of the deck's own comes beside `paper` and `ours`, and is the one that is softened."""
    blank = np.zeros((2, 1, 5), np.float32)
    monkeypatch.setattr(gate, "build", lambda s, groups, images: gate.Gate(s, groups, blank))
    two = decks.small(("plain", "gaussian"), gated=False)
    known = own and gate.Gate(own, two.groups, blank)
    images = argparse.Namespace(train_images=None)
    found = deck_inputs.gates_of(Deck(two.members, known), images)
    named = {"adaptive, paper": gate.PAPER, "adaptive, ours": gate.OURS}
    named |= {"adaptive, own": own} if own == decks.SETTINGS else {}
    first = "adaptive, own" if own == decks.SETTINGS else "adaptive, ours"
    softly = dataclasses.replace(named[first], temperature=deck_table.SOFT)
    assert {k: x.settings for k, x in found.items()} == {**named, f"{first}, soft": softly}
    assert not known or known in found.values()  # not built again
    assert deck_inputs.gates_of(Deck(two.members[:1]), images) == {}


def saved(path, diverged_at=None):
    """A card's file."""
    file = decks.file()
    file.meta["result"] = {"diverged_at": diverged_at}
    pack.save(path, file.card, file.spec, file.meta, origin=file.origin)
    return str(path)


def test_diverged_cards_are_left_out_and_named(tmp_path, capsys):
    places = [saved(tmp_path / f"{n}.card", at) for n, at in (("a", None), ("b", 7), ("c", 0))]
    members = lambda *cards: deck_inputs.members_of(argparse.Namespace(cards=cards, augment=None))
    assert [m.name for m in members(*places).members] == ["a"]
    assert capsys.readouterr().err == "left out, as they diverged: b, c\n"
    assert len(members(places[0])) == 1 and capsys.readouterr().err == ""
    with pytest.raises(ConfigError, match=r"cards: all of them diverged .b, c.; allowed are"):
        members(*places[1:])
