"""Labels of image files from the command line."""

import csv

import cards
import decks
import numpy as np
import pytest
from PIL import Image

from cards_jax import deck_file, pack, predict


@pytest.fixture
def place(tmp_path):
    """A card, a deck, and a folder of images of several sizes and kinds."""
    (tmp_path / "images" / "more").mkdir(parents=True)
    for i, image in enumerate(decks.smooth(3)):
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
    big = Image.fromarray(decks.smooth(1, 30)[0]).resize((40, 30)).convert("L")
    big.save(tmp_path / "images" / "more" / "big.bmp")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    file = decks.file()
    pack.save(tmp_path / "a.card", file.card, file.spec, file.meta)
    decks.small(("plain", "gaussian")).save(tmp_path / "hand.deck")
    return tmp_path


@pytest.mark.parametrize("model", ["a.card", "hand.deck"])
def test_a_folder_of_images(place, model, capsys):
    out = place / "out.csv"
    code = predict.main([str(place / model), str(place / "images"), f"--save={out}", "--top=2"])
    printed = capsys.readouterr()
    assert code == 0 and printed.err == ""
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [r["file"].rpartition("images/")[2] for r in rows] == [
        "0.png", "1.png", "2.png", "more/big.bmp"
    ]  # fmt: skip
    wanted = np.asarray(deck_file.as_deck(place / model).predict(decks.smooth(3)))
    for row, p in zip(rows, wanted, strict=False):
        assert row["label"] == f"class {p.argmax()}"
        found = [float(row[f"class {k}"]) for k in range(3)]
        if model == "a.card":  # a gate's choice depends on the fourth image as well
            np.testing.assert_allclose(found, p, rtol=1e-4)
        assert float(row["probability"]) == max(found)
    assert printed.out.count("class ") == 8 and "0.png" in printed.out


def test_all_cards_of_a_deck(place, capsys):
    out = place / "out.csv"
    images = [str(place / "images" / f"{i}.png") for i in range(3)]
    assert predict.main([str(place / "hand.deck"), *images, f"--save={out}", "--agnostic"]) == 0
    d = decks.small(("plain", "gaussian"))
    wanted = np.asarray(d.predict(decks.smooth(3), adaptive=False)).max(1)
    found = [float(r["probability"]) for r in csv.DictReader(out.read_text().splitlines())]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_a_gate_without_a_choice_is_said(place, capsys):
    Image.new("RGB", (8, 8), "red").save(place / "flat.png")
    assert predict.main([str(place / "hand.deck"), str(place / "flat.png")]) == 0
    assert "1 of 1 batches went to all cards" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "image", "message"),
    [
        ("absent.card", "images", "No such file"),
        ("images/0.png", "images", "damaged, or not a card file"),
        ("a.card", "absent", "no such image; allowed are files and folders of .bmp"),
        ("a.card", "empty", "no such image"),
        ("a.card", "images/notes.txt", "no readable 8-bit image"),
    ],
)
def test_one_line_for_what_is_wrong(place, model, image, message, capsys):
    (place / "empty").mkdir()
    assert predict.main([str(place / model), str(place / image)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert error.startswith("python -m cards_jax.predict: ")


def test_images_that_are_not_square(place):
    image_HWC = (8, 9, 3)
    with pytest.raises(ValueError, match="8 x 8 pixels; allowed are 8 x 9"):
        predict.read([place / "images" / "0.png"], image_HWC)
    assert cards.SMALL.image_HWC == (8, 8, 3)


def test_what_systems_leave_in_folders_is_no_image(place):
    folder = place / "images"
    wanted = predict.find([folder])
    (folder / "__MACOSX").mkdir()
    (folder / "folder.png").mkdir()
    for name in ("._0.png", "__MACOSX/0.png"):
        (folder / name).write_bytes(b"no image")
    assert predict.find([folder]) == wanted


def test_a_count_says_what_is_allowed(capsys):
    with pytest.raises(SystemExit):
        predict.main(["a.card", "b.png", "--top=0"])
    assert "'0': allowed are whole numbers from 1" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--top=0"], ["--batch=x"], ["--nonsense"], []])
def test_wrong_options(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        predict.main(["a.card", "b.png", *wrong] if wrong else [])
    assert ended.value.code == 2 and capsys.readouterr().err.count("\n") == 1
