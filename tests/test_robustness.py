"""The command on corruptions: files that were made before, the textures of frost, other data, a run's own page."""

import csv
import json
import re
import shutil

import cards
import corrupted_files as fake
import numpy as np
import pages
import pytest

from cards_jax import commands, config, models, pack, robustness
from cards_jax.config import ConfigError
from cards_jax.corruptions import frost
from cards_jax.data.corrupted import Clean

SPEC = models.Spec("conv2", 4, 10, image_HWC=(8, 8, 3))


@pytest.fixture(autouse=True)
def forget():
    yield
    frost.use(None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on 8 x 8 digits, made without training."""
    path = pages.leave(tmp_path_factory.mktemp("runs") / "tiny-0", robust=False, spec=SPEC)
    c = config.from_json((path / "config.json").read_text())
    c.data.image_size = 8
    (path / "config.json").write_text(config.to_json(c))
    return path


def card(path, result: dict, **meta):
    pack.save(path, cards.sampled(SPEC, 0.5, True), SPEC, {"result": result, **meta})
    return path


@pytest.fixture
def textures(tmp_path):
    path = tmp_path / "packed.npz"
    np.savez(path, **{f"t{i}": np.full((40, 40, 3), 40 * i, np.uint8) for i in range(5)})
    return path


def command(*words) -> int:
    return robustness.main(list(map(str, words)))


def refused(capsys, *words) -> str:
    """The line that is said."""
    capsys.readouterr()
    assert command(*words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


def test_files_that_were_made_before(run, tmp_path, capsys):
    place, labels = fake.write(tmp_path / "c", ("fog",)), fake.labels()
    images = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 3), np.uint8)
    np.save(place / "fog.npy", images)  # on which accuracies differ
    words = run, f"--dir={place}", "--corruptions=fog", f"--save={tmp_path / 'found'}"
    assert command(*words) == 0
    assert "corrupted images in c; 20 images" in capsys.readouterr().out
    cells = list(csv.DictReader((tmp_path / "found_cells.csv").read_text().splitlines()))
    for path in (run / "cards").iterdir():
        answers = np.asarray(pack.load(path).logits(images)).argmax(1).reshape(5, 20)
        mine = [r for r in cells if r["card"] == path.stem and r["corruption"] == "fog"]
        assert [r["severity"] for r in mine] == list("12345")
        found = [float(r["accuracy"]) for r in mine]
        assert found == pytest.approx((answers == labels).mean(1), abs=1e-6)


@pytest.mark.parametrize("points, potential", [(100, 0.8), (-100, 0.0)])
def test_the_margin_is_in_points(run, tmp_path, capsys, points, potential):
    """Of prune potential: 100 are always kept, and nothing is better by as many."""
    place = fake.write(tmp_path / "c", ("fog",))
    base = card(tmp_path / "dense.card", pages.result(0, 0.0, "dense"))
    words = f"--baseline={base}", f"--margin={points}", f"--save={tmp_path / 'found'}"
    assert command(run, f"--dir={place}", "--corruptions=fog", *words) == 0
    assert f"within {points} points of dense" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["margin"] == points / 100
    assert [row["prune potential bp"] for row in found["corruptions"]] == [potential] * 2


@pytest.mark.parametrize("wrong", ["batch_size=0", "images=-1"])
def test_numbers_that_cannot_be(run, capsys, wrong):
    assert f"{wrong}: allowed are whole numbers from" in refused(capsys, run, f"--{wrong}")


def test_cards_of_other_images_are_refused_unless_data_are_named(run, tmp_path, capsys):
    known = {"data_fingerprint": "other", "config": {"data.image_size": 8}}
    other = card(tmp_path / "other.card", pages.result(0, 0.5), **known)
    words = run, other, "--corruptions=brightness", "--images=5"
    err = refused(capsys, *words)
    assert "other.card was trained on other images (fingerprint other) than digits holds" in err
    assert "name them with --data.name and --data.dir if that is meant" in err
    assert command(*words, "--data.name=digits", "--data.image_size=8") == 0
    out, err = capsys.readouterr()
    assert "note: " in err and "other.card was trained on other images" in err
    assert "digits, generated corruptions" in out


def test_tables_of_a_run_come_into_its_page(run, tmp_path):
    mine = shutil.copytree(run, tmp_path / "mine")
    words = mine, "--corruptions=brightness", "--images=5"
    assert command(*words, f"--save={tmp_path / 'elsewhere'}") == 0
    assert not (mine / "report.html").exists()
    assert command(*words, f"--save={mine / 'tables' / 'corruptions'}") == 0
    text = (mine / "report.html").read_text()
    assert "Corruptions</h2>" in text and "brightness" in text


def test_results_say_which_textures_of_frost_they_are_of(run, textures, tmp_path, capsys):
    words = run, "--corruptions=frost", "--images=5", f"--save={tmp_path / 'found'}"
    assert command(*words, f"--frost={textures}") == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert re.fullmatch("textures: packed.npz [0-9a-f]{8}", found["flavours"]["frost"])
    assert f"frost {found['flavours']['frost']}" in capsys.readouterr().out
    assert f"'{tmp_path}' does not hold frost1.png" in refused(
        capsys, *words, f"--frost={tmp_path}"
    )


def test_a_config_names_textures_of_frost(textures):
    c = config.defaults()
    c.evaluate.corruptions = ("frost",)
    clean = Clean(np.zeros((2, 8, 8, 3), np.uint8), np.zeros(2, np.int32), "digits", "digits")
    assert robustness.source_of(c, clean).flavours["frost"] == "textures: made up"
    config.assign(c, "evaluate.frost", str(textures))
    assert "packed.npz" in robustness.source_of(c, clean).flavours["frost"]
    config.assign(c, "evaluate.frost", str(textures.parent))
    with pytest.raises(ConfigError, match="does not hold frost1.png"):
        robustness.source_of(c, clean)


@pytest.mark.parametrize("flag", ["baseline", "population"])
def test_cards_that_are_not_dense_are_no_baseline(run, tmp_path, capsys, flag):
    """Tables would call them dense."""
    words = run, f"--{flag}={run}", "--corruptions=fog", "--images=5"
    assert "holds cards of bp; allowed are dense ones" in refused(capsys, *words)
    base = card(tmp_path / "dense.card", pages.result(0, 0.0, "dense"))
    commands.dense_only(flag, base, commands.methods_of([base]))


def test_where_it_is_saved_is_looked_at_before_anything_is_measured(
    run, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(robustness, "evaluated", lambda args: pytest.fail("measured"))
    (tmp_path / "file").write_text("")
    assert command(run, f"--save={tmp_path}/file/x") == 1
    assert "its folder cannot be made" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        command(run, "--save=.")
    assert ended.value.code == 2
    assert "allowed is the beginning of file names" in capsys.readouterr().err
