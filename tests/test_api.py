"""The commands as functions: a small run is trained once, then measured, dealt and described from Python."""

import dataclasses
import io
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import cards_jax
from cards_jax import api, config, experiment, export, folder, heatmap, main, robustness
from cards_jax.config import ConfigError

TINY = {
    **{"epochs": 1, "seeds": 0, "sparsity": [0.5, 0.8], "model.name": "conv2", "baseline": None},
    **{"model.width": 2, "batch_size": 64, "compute.devices": 1, "data.image_size": 8},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> api.Run:
    return cards_jax.train_cards(
        "configs/quickstart.py", {**TINY, "workdir": str(tmp_path_factory.mktemp("runs"))}
    )


@pytest.fixture(scope="module")
def dense(run, tmp_path_factory) -> Path:
    """A card that says it is dense."""
    card = cards_jax.load(run.cards[0])
    result = card.meta["result"] | {"method": "dense", "sparsity": 0.0}
    path = tmp_path_factory.mktemp("dense") / "dense.card"
    dataclasses.replace(card, meta={**card.meta, "result": result}).save(path)
    return path


def test_every_public_name_is_there_and_says_what_it_does():
    for name in cards_jax.__all__:
        assert getattr(cards_jax, name).__doc__


def test_a_run_is_what_the_command_leaves(run):
    stored = json.loads((run.folder / "results.json").read_text())["results"]
    assert run.results == stored and len(stored) == 2
    assert [path.is_file() for path in run.cards] == [True] * 2
    for path, result in zip(run.cards, run.results, strict=True):
        assert cards_jax.load(path).meta["result"]["id"] == result["id"]
    assert run.baseline is None
    assert min(_picture(run.curves)) > 100
    assert "| bp     |           80 |" in str(run) == run._repr_markdown_()


def test_a_second_call_trains_nothing(run, capsys):
    metrics = (run.folder / "metrics.jsonl").read_bytes()
    again = cards_jax.train_cards(run.config)
    assert again.results == run.results and again.folder == run.folder
    assert (run.folder / "metrics.jsonl").read_bytes() == metrics
    assert "2 of 2 realizations are there already" in capsys.readouterr().out


def test_a_run_names_its_baseline(monkeypatch, tmp_path):
    """The folder that the command trains or finds; nothing is trained here."""
    monkeypatch.setattr(api.experiment, "complete", lambda c: [])
    found = lambda name: cards_jax.train_cards(
        "configs/quickstart.py", {"workdir": str(tmp_path), "baseline": name}
    )
    assert found("auto").baseline == folder.path_of(
        experiment.baseline_config(found("auto").config)
    )
    assert found("elsewhere").baseline == Path("elsewhere").absolute()
    assert found(None).baseline is None


def test_changes_may_be_numbers_and_arrays_of_numpy():
    change = lambda **fields: api.resolve(
        "configs/quickstart.py", {k.replace("__", "."): v for k, v in fields.items()}
    )
    assert change(epochs=np.int64(5)).epochs == 5
    assert change(seeds=np.arange(3)).seeds == change(seeds=range(3)).seeds == (0, 1, 2)
    assert change(sparsity=np.float32(0.5)).sparsity == (0.5,)
    assert change(evaluate__corruptions="benchmark").evaluate.corruptions == ("benchmark",)
    with pytest.raises(ConfigError, match="sparsity='0.5': allowed is"):
        change(sparsity="0.5")


def test_configs_resolve_as_on_the_command_line():
    flags = ("--config.epochs=3", "--config.sparsity=0.5,0.9", "--config.seeds=2")
    wanted = main.parse(["x", "--config=configs/bp_conv.py:conv2", *flags])[1]
    changes = {"epochs": 3, "sparsity": [0.5, 0.9], "seeds": 2}
    found = api.resolve("configs/bp_conv.py:conv2", changes)
    assert config.flat(found) == config.flat(wanted)
    c = config.defaults()
    assert config.flat(api.resolve(c, {"name": "mine"})) == {**config.flat(c), "name": "mine"}
    assert c.name == "run", "the config that is given stays as it is"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "'epoch' is no field; the nearest is 'epochs'"),
        ({"epochs": "many"}, "epochs='many': must be a whole number"),
        ({"sparsity": 1.5}, "sparsity=1.5: allowed is the fraction removed"),
    ],
)
def test_a_wrong_change_is_one_line(changes, message):
    with pytest.raises(ConfigError, match=message) as raised:
        cards_jax.train_cards("configs/quickstart.py", changes)
    assert "\n" not in str(raised.value)


def _picture(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return image.size


def test_corruptions_are_those_of_the_command(run, dense, tmp_path, capsys):
    names = ["brightness", "contrast"]
    found = cards_jax.measure_corruptions([run.folder], dense, corruptions=names, images=20)
    arguments = [str(run.folder), f"--baseline={dense}", "--images=20"]
    path = tmp_path / "table"
    assert robustness.main([*arguments, "--corruptions=brightness,contrast", f"--save={path}"]) == 0
    assert capsys.readouterr().out.strip() == str(found).strip()
    assert found.pictures == {"main": path.with_suffix(".png").read_bytes()}
    assert len(found.rows) == 3 and min(_picture(found.pictures["main"])) > 100
    assert repr(found) == "Measured(3 rows, pictures: main)"


def test_heatmaps_are_those_of_the_command(run, dense, tmp_path, capsys):
    path = tmp_path / "maps" / "heat"
    found = cards_jax.measure_heatmaps([run.folder], dense, eps=[2], images=5, save=path)
    arguments = [str(run.folder), f"--baseline={dense}", "--images=5", "--eps=2"]
    assert heatmap.main(arguments) == 0
    assert capsys.readouterr().out.strip() == str(found).strip()
    assert set(found.pictures) == {"main", "difference"}
    assert found.pictures["difference"] == Path(f"{path}_difference.png").read_bytes()
    assert {row["card"] for row in found.rows} == {"dense", "bp 50%", "bp 80%"}


def test_a_deck_is_that_of_the_command(run, tmp_path):
    deck = cards_jax.build_deck([run.folder], gate="none")
    images = jax.random.randint(jax.random.key(0), (3, 8, 8, 3), 0, 256).astype("uint8")
    mean = np.mean([cards_jax.load(path).predict(images) for path in run.cards], axis=0)
    np.testing.assert_allclose(deck.predict(images), mean, atol=1e-5)
    with pytest.raises(ConfigError, match="gate='theirs': allowed are paper, ours"):
        cards_jax.build_deck([run.folder], gate="theirs")


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda run: api.measure_corruptions([]), r"cards=\[\]: allowed are card files"),
        (lambda run: api.measure_corruptions(run.folder, images="10"), "images='10': allowed is"),
        (lambda run: api.measure_heatmaps(run.folder, images=1.5), "images=1.5: allowed is"),
        (lambda run: api.measure_heatmaps(run.folder, save="."), "save='.': allowed is the begin"),
        (
            lambda run: cards_jax.load(run.folder),
            r"a folder; allowed is the file of one card .*card",
        ),
        (lambda run: cards_jax.benchmark(None, "cifar"), "data='cifar': the nearest is 'cifar10'"),
    ],
)
def test_mistakes_are_one_line(run, call, message):
    with pytest.raises(ConfigError, match=message):
        call(run)


def test_one_place_is_as_good_as_several(run):
    fields = {"corruptions": "brightness", "images": 5}
    one = cards_jax.measure_corruptions(run.folder, **fields)
    assert one.text == cards_jax.measure_corruptions([str(run.folder)], **fields).text
    deck = cards_jax.build_deck(str(run.cards[0]), gate=None)
    assert len(deck) == 1 and len(repr(deck)) < 200
    assert repr(cards_jax.load(run.cards[0])).startswith("CardFile(bp, 50% removed, conv2 of width")
    heat = cards_jax.measure_heatmaps(run.cards[0], eps=4, images=5)
    assert {row["eps"] for row in heat.rows} == {4}


def test_what_load_returns_can_be_exported(run, tmp_path):
    card = cards_jax.load(run.cards[0])
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    back = cards_jax.import_state_dict(cards_jax.export_state_dict(card), card.spec)
    back.save(tmp_path / "back.card")
    again = cards_jax.load(tmp_path / "back.card")
    np.testing.assert_allclose(again.logits(images), card.logits(images), rtol=1e-5, atol=1e-5)
    assert export.main([str(run.cards[0]), f"--save={tmp_path / 'a.jax'}"]) == 0
    function = export.load(tmp_path / "a.jax")
    np.testing.assert_allclose(function(images), card.logits(images), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"floats must lie in \[0, 1\], got"):
        function(images.astype(np.float32))
