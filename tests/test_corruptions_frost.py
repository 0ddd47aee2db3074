"""Where textures of frost come from, and that results can say so."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from photographs import photographs
from PIL import Image

from cards_jax import corruptions
from cards_jax.config import ConfigError
from cards_jax.corruptions import frost


@pytest.fixture(autouse=True)
def forget():
    yield
    frost.use(None)


def picture_folder(folder: Path, side: int = 400) -> Path:
    """Five photographs under the names of the originals."""
    folder.mkdir(parents=True)
    for name, image in zip(frost.FILES, photographs(side, 5), strict=True):
        Image.fromarray(image).save(folder / name, quality=95)
    return folder


@pytest.mark.parametrize("size", [16, 32, 64, 100, 224])
def test_made_up_textures_serve_every_side(size):
    textures = frost.textures(size)
    assert len(textures.extents) == 5 and textures.extents.min() > size
    assert textures.pixels.dtype == np.uint8 and textures.flavour == "made up"


def test_made_up_textures_are_as_bright_and_grainy_as_the_photographs(fixtures_dir):
    with np.load(fixtures_dir / "frost_textures.npz") as file:
        real = [file[f"t{i}"].astype(float) for i in range(5)]
    made = frost.textures(32).pixels.astype(float)
    grain = lambda t: np.abs(np.diff(t.mean(-1), axis=0)).mean()
    for mine, theirs in zip(made, real, strict=True):
        np.testing.assert_allclose(mine.mean((0, 1)), theirs.mean((0, 1)), atol=12)
        assert 0.5 < grain(mine) / grain(theirs) < 2


def test_a_folder_of_photographs(tmp_path):
    folder = picture_folder(tmp_path / "photos")
    frost.use(folder)
    assert re.fullmatch("photos [0-9a-f]{8}", frost.flavour())
    assert corruptions.flavours()["frost"] == f"textures: {frost.flavour()}"
    first = np.asarray(Image.open(folder / "frost1.png"))
    np.testing.assert_array_equal(frost.textures(32).pixels[0], first[2::5, 2::5])  # a fifth
    assert tuple(frost.textures(64).extents[0]) == (120, 120)
    assert frost.textures(224).extents.min() == 400


def test_corrupt_notices_another_source(tmp_path, key):
    images = photographs(32, 2)
    before = corruptions.corrupt(key, images, "frost", 3)
    frost.use(picture_folder(tmp_path / "photos"))
    after = corruptions.corrupt(key, images, "frost", 3)
    frost.use(None)
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(before, corruptions.corrupt(key, images, "frost", 3))


def test_crops_cover_textures_and_stay_inside(key):
    """Every texture is met, and no crop reaches into the black that fills up the smaller ones."""
    textures = frost.textures(32)
    draw = jax.jit(jax.vmap(lambda k: corruptions.find("frost").draw(k, 1, (32, 32, 3))))
    crops = np.asarray(draw(jax.random.split(key, 60)))
    windows = [
        np.lib.stride_tricks.sliding_window_view(t[:h, :w, 0], (32, 32))
        for t, (h, w) in zip(textures.pixels, textures.extents, strict=True)
    ]
    found = [
        {i for i, w in enumerate(windows) if (w == c[..., 0]).all((2, 3)).any()} for c in crops
    ]
    assert all(found) and set().union(*found) == set(range(5))


@pytest.mark.parametrize("missing", frost.FILES)
def test_a_folder_without_one_is_refused(tmp_path, missing):
    folder = picture_folder(tmp_path / "photos", 40)
    (folder / missing).unlink()
    with pytest.raises(ConfigError, match=f"frost: .*photos.* does not hold {missing}; needed is"):
        frost.use(folder)
    assert frost.flavour() == "made up"


def test_a_damaged_photograph_is_named(tmp_path, key):
    folder = picture_folder(tmp_path / "photos", 40)
    (folder / "frost4.jpg").write_bytes(b"no picture")
    frost.use(folder)
    with pytest.raises(ConfigError, match="frost: .*frost4.jpg.* cannot be read"):
        corruptions.corrupt(key, photographs(32, 1), "frost", 1)


def test_packed_textures(tmp_path):
    path = tmp_path / "packed.npz"
    textures = {f"t{i}": np.full((40 + i, 50, 3), 40 * i, np.uint8) for i in range(5)}
    np.savez(path, **textures)
    frost.use(path)
    before = frost.flavour()
    assert before.startswith("packed.npz ") and tuple(frost.textures(32).extents[4]) == (44, 50)
    with pytest.raises(ConfigError, match="packed.npz.* too small for images of 64 pixels"):
        frost.textures(64)
    other = tmp_path / "other" / "packed.npz"
    other.parent.mkdir()
    np.savez(other, **{**textures, "t0": textures["t1"]})
    frost.use(other)
    assert frost.flavour() != before and frost.flavour().startswith("packed.npz ")


@pytest.mark.parametrize(
    "content", [b"", b"text", {"t0": np.zeros((40, 40, 3), np.uint8)}, {"float": None}]
)
def test_packed_textures_of_another_kind_are_refused(tmp_path, content):
    path = tmp_path / "packed.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        grey = {f"t{i}": np.zeros((40, 40, 3)) for i in range(5)}
        np.savez(path, **(grey if "float" in content else content))
    with pytest.raises(ConfigError, match="frost: .*packed.npz"):
        frost.use(path)


def test_an_installed_wheel_is_read_and_not_imported(tmp_path):
    picture_folder(tmp_path / "imagecorruptions" / "frost", 300)
    (tmp_path / "imagecorruptions" / "__init__.py").write_text("raise SystemExit('imported')")
    about = tmp_path / "imagecorruptions-1.1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: imagecorruptions\nVersion: 1.1.2\n"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from cards_jax.corruptions import frost; "
        "print(frost.flavour(), frost.textures(32).extents[0])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "imagecorruptions 1.1.2 [60 60]", done.stderr
