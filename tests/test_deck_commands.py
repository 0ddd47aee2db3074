"""Commands of decks find the images that their cards were trained on."""

import numpy as np
import pytest
import runs
from PIL import Image

from cards_jax import deck_commands, deck_file, folder
from cards_jax.config import ConfigError


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
            for i in range(3):
                image = Image.new("RGB", (8, 8), (i, 7, 9))
                image.save(other / split / name / f"{i}.png")
    args = arguments(trained[0], tmp_path / "own.deck", f"--data-dir={other}")
    with pytest.raises(ConfigError, match="fingerprint"):
        args.do(args)
