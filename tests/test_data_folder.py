"""Trees of image files: folders and archives, the cache, and what hostile archives try."""

import gzip
import io
import json
import logging
import os
import stat
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cards_jax import data
from cards_jax.config import ConfigError
from cards_jax.data import folder, trees

CLASSES = ("ant", "bee", "cat")


def png(value, size=(8, 8), mode="RGB", kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, value).save(buffer, kind, **options)
    return buffer.getvalue()


def tree() -> dict[str, bytes]:
    """5, 4, 3 training and 2 test images of three classes; the pixel tells class and number."""
    files = {"README.txt": b"hello", "train/.DS_Store": b"", "train/ant/notes.csv": b"1,2"}
    for k, label in enumerate(CLASSES):
        for i in range(5 - k):
            files[f"train/{label}/{i:03}.png"] = png((10 * k, i, 100))
        for i in range(2):
            files[f"test/{label}/{i:03}.PNG"] = png((10 * k, i, 200))
    return files


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, raw in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(raw)
    return path


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for name, raw in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
    return path


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in files.items():
            archive.writestr(name, raw)
    return path


WRITERS = {
    "tree": write_folder,
    "a.tar.gz": write_tar,
    "a.tgz": write_tar,
    "a.tar": write_tar,
    "a.zip": write_zip,
}


@pytest.fixture
def load(tmp_path):
    """Loads a split with its cache in the test's folder."""

    def load(path: Path, split: str = "train", **options):
        return data.load("folder", split, str(path), cache_dir=str(tmp_path / "cache"), **options)

    return load


@pytest.mark.parametrize("top", ["", "photos/"])
@pytest.mark.parametrize("name", WRITERS)
def test_every_form_gives_the_same_images(tmp_path, load, name, top):
    files = {top + file: raw for file, raw in reversed(tree().items())}
    path = WRITERS[name](tmp_path / name, files)
    images, labels = load(path)
    assert images.dtype == np.uint8 and labels.dtype == np.int32
    assert images.shape == (12, 8, 8, 3)
    assert labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 0]
    assert images[:, 3, 3, 0].tolist() == (10 * labels).tolist()
    assert images[:, 3, 3, 1].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4]
    assert load(path, "test")[0][:, 0, 0, 2].tolist() == [200] * 6
    about = data.describe("folder", str(path), cache_dir=str(tmp_path / "cache"))
    assert about.classes == CLASSES
    np.testing.assert_allclose(about.mean, (images / 255).mean((0, 1, 2)), atol=1e-6)


@pytest.mark.parametrize("name", ["val", "valid"])
def test_validation_folder_serves_as_test(tmp_path, load, name):
    files = {file.replace("test/", f"{name}/"): raw for file, raw in tree().items()}
    assert len(load(write_tar(tmp_path / "a.tar", files), "test")[1]) == 6


def test_test_folder_is_preferred_to_a_validation_folder(tmp_path, load):
    files = tree() | {"val/ant/0.png": png("red")}
    assert len(load(write_tar(tmp_path / "a.tar", files), "test")[1]) == 6


def test_second_time_comes_from_the_cache(tmp_path, load, monkeypatch):
    path = write_tar(tmp_path / "a.tar.gz", tree())
    first = load(path)
    monkeypatch.setattr(folder, "_decode", None)
    again = load(path)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_changed_source_and_other_size_are_decoded_anew(tmp_path, load):
    path = write_folder(tmp_path / "tree", tree())
    assert load(path, image_size=4)[0].shape == (12, 4, 4, 3)
    assert load(path)[0].shape == (12, 8, 8, 3)
    (path / "train/ant/005.png").write_bytes(png((0, 5, 100)))
    assert len(load(path)[0]) == 13
    (path / "train/ant/000.png").write_bytes(png((77, 0, 1)))
    os.utime(path / "train/ant/000.png", (time.time() + 9, time.time() + 9))
    assert load(path)[0][0, 0, 0, 0] == 77


def test_damaged_cache_is_made_again(tmp_path, load, caplog):
    path = write_tar(tmp_path / "a.tar", tree())
    first = load(path)
    (entry,) = (tmp_path / "cache" / "folder").glob("[!.]*")  # beside its lock
    names = sorted(os.listdir(entry))
    assert names == [
        "index.json",
        *(f"{s}_{w}.npy" for s in data.SPLITS[::-1] for w in ("images", "labels")),
    ]
    for name in ("train_images.npy", "train_labels.npy", "index.json"):
        whole = (entry / name).read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        for raw in (bytes(flipped), whole[:-1], b"", None):
            (entry / name).unlink()
            if raw is not None:
                (entry / name).write_bytes(raw)
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                again = load(path)
            assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
            told = "is damaged" in caplog.text
            assert told or (name == "index.json" and raw is None)
            assert (entry / name).read_bytes() == whole
    assert sorted(os.listdir(entry)) == names
    assert sorted(os.listdir(entry.parent)) == [f".{entry.name}.lock", entry.name]


def test_swapped_notes_of_the_cache_are_seen(tmp_path, load):
    path = write_tar(tmp_path / "a.tar", tree())
    load(path)
    (index,) = (tmp_path / "cache" / "folder").glob("*/index.json")
    content = json.loads(index.read_text())
    content["notes"]["classes"] = ["x", "y", "z"]
    index.write_text(json.dumps(content))
    assert data.describe("folder", str(path), cache_dir=str(tmp_path / "cache")).classes == CLASSES


def test_cache_that_cannot_be_written_costs_only_time(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    path = write_tar(tmp_path / "a.tar", tree())
    with caplog.at_level(logging.WARNING):
        images, _ = data.load("folder", "train", str(path), cache_dir=str(tmp_path / "file"))
    assert len(images) == 12 and "cannot keep decoded data" in caplog.text


def test_images_of_different_sizes(tmp_path, load):
    files = tree() | {"train/bee/009.png": png("blue", (9, 8))}
    path = write_zip(tmp_path / "a.zip", files)
    with pytest.raises(ConfigError, match=r"data.image_size: .*train/bee/009.png has .*\(8, 9\)"):
        load(path)
    images, labels = load(path, image_size=6)
    assert images.shape == (13, 6, 6, 3)
    assert images[labels == 1][-1].reshape(-1, 3).tolist() == [[0, 0, 255]] * 36


def test_resizing_keeps_the_centre_square(tmp_path, load):
    wide = Image.new("RGB", (24, 8), "red")
    wide.paste("white", (8, 0, 16, 8))
    buffer = io.BytesIO()
    wide.save(buffer, "PNG")
    files = {"train/a/0.png": buffer.getvalue(), "test/a/0.png": buffer.getvalue()}
    assert (load(write_tar(tmp_path / "a.tar", files), image_size=4)[0] == 255).all()


def test_other_modes_and_formats_become_rgb(tmp_path, load):
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=b"\x00\x80")
    files = {
        "train/a/0.png": png(33, mode="L"),
        "train/a/1.png": png((9, 8, 7, 100), mode="RGBA"),
        "train/a/2.png": buffer.getvalue(),
        "train/a/3.bmp": png((1, 2, 3), kind="BMP"),
        "train/a/4.webp": png((9, 9, 9), kind="WEBP", lossless=True),
        "train/a/5.jpeg": png((128, 128, 128), kind="JPEG"),
        "test/a/0.png": png(1, mode="1"),
    }
    images, _ = load(write_tar(tmp_path / "a.tar", files))
    seen = [[33] * 3, [9, 8, 7], [9, 8, 7], [1, 2, 3], [9] * 3, [128] * 3]
    assert images[:, 4, 4].tolist() == seen


def test_large_photographs_are_decoded_by_threads(tmp_path, load):
    rng = np.random.default_rng(0)
    files, truth = {}, []
    for i in range(300):  # more than one batch of the pool
        pixels = rng.integers(0, 256, (80, 80, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        files[f"train/a/{i:03}.png"] = buffer.getvalue()
        truth.append(pixels)
    files["test/a/0.png"] = files["train/a/000.png"]
    images, _ = load(write_tar(tmp_path / "a.tar", files))
    assert np.array_equal(images, np.stack(truth))


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar", "a.zip"])
def test_every_truncation_is_told(tmp_path, load, name):
    path = WRITERS[name](tmp_path / name, tree())
    whole = path.read_bytes()
    end = len(whole) if name != "a.tar" else len(whole.rstrip(b"\0"))
    for cut in sorted({*range(0, end, max(1, end // 40)), end - 1}):
        path.write_bytes(whole[:cut])
        with pytest.raises(ConfigError, match="data.dir: "):
            load(path)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
def test_flipped_bits_of_a_compressed_archive_never_change_an_image(tmp_path, load, name):
    path = WRITERS[name](tmp_path / name, tree())
    whole, truth = path.read_bytes(), load(path)
    rng = np.random.default_rng(0)
    told = 0
    for position in rng.integers(0, len(whole), 150):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            found, _ = folder._decode(path, None)
        except ConfigError:
            told += 1
        else:
            assert np.array_equal(found["train_images"], truth[0])
            assert np.array_equal(found["train_labels"], truth[1])
    assert told > 75


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train/ant/a.txt": b"x"}, "holds no train images; allowed is train/<class>/<image>"),
        (
            {"train/a/0.png": b"x"},
            "holds no test images; allowed is test/<class>/<image> or val/<class>/<image>",
        ),
        ({"train/0.png": b"x"}, "'train/0.png' lies in no class folder"),
        ({"test/dog/0.png": b"x"}, "class 'dog' of test is not in train"),
        ({"more/train/ant/0.png": b"x"}, "several trees, below"),
        ({"train/a\nb/0.png": b"x"}, "class name .* is not printable"),
        ({"train/ant/9.png": b"\x89PNG no"}, "train/ant/9.png is no readable 8-bit image"),
        ({"train/ant/9.jpg": png("red", kind="JPEG")[:-40]}, "9.jpg is no readable 8-bit image"),
        ({"train/ant/9.png": png(1, mode="I;16")}, "mode I;16"),
        (
            {"train/ant/9.png": b"%!PS-Adobe-3.0 EPSF-3.0"},
            "it begins with b'%!PS-Ado'; read are PNG",
        ),
    ],
)
def test_wrong_trees(tmp_path, load, files, message):
    start = {} if message.startswith("holds no") else tree()
    for name in ("a.zip", "a.tar"):
        with pytest.raises(ConfigError, match=message) as caught:
            load(WRITERS[name](tmp_path / name, start | files))
        assert "\n" not in str(caught.value)


def test_the_first_picture_of_an_animation_counts(tmp_path, load):
    rest = {"save_all": True, "append_images": [Image.new("RGB", (8, 8), "blue")]}
    moving = {
        f"train/ant/9.{kind}": png("red", kind=kind.upper(), **rest)
        for kind in ("gif", "png", "tiff")
    }
    images, labels = load(write_folder(tmp_path / "tree", tree() | moving))
    assert images.shape == (15, 8, 8, 3)
    assert [images[labels == 0][i].mean((0, 1)).tolist() for i in (-3, -2, -1)] == [[255, 0, 0]] * 3


def test_a_pipe_is_refused_and_not_waited_for(tmp_path, load):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="pipe is no file and no folder"):
        load(tmp_path / "pipe")


def test_missing_and_foreign_files(tmp_path, load):
    with pytest.raises(ConfigError, match="data.dir: .*nowhere does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="data.dir: is not given"):
        data.load("folder", "train")
    for raw, message in (
        (b"<html>", "is a web page"),
        (b"hello", "starts with b'hello'"),
        (b"", "starts with b''"),
        (b"\x1f\x8b\x08\x00<html>", "truncated or damaged"),
        (b"PK\x03\x04", "truncated or damaged"),
    ):
        (tmp_path / "a.tar.gz").write_bytes(raw)
        with pytest.raises(ConfigError, match=message):
            load(tmp_path / "a.tar.gz")


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "train/../../evil", "C:\\evil"])
def test_names_that_point_outside_are_refused(tmp_path, load, name):
    for archive in ("a.tar.gz", "a.zip"):
        path = WRITERS[archive](tmp_path / archive, tree() | {name: b""})
        with pytest.raises(ConfigError, match="points outside; archive refused"):
            load(path)


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CHRTYPE,
        tarfile.GNUTYPE_SPARSE,
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, load, kind):
    path = write_tar(tmp_path / "a.tar", tree())
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo("train/ant/link.png")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(ConfigError, match="link.png' is a link or no plain file"):
        load(path)


def test_link_in_a_zip_is_refused(tmp_path, load):
    path = write_zip(tmp_path / "a.zip", tree())
    with zipfile.ZipFile(path, "a") as archive:
        member = zipfile.ZipInfo("train/ant/link.png")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(ConfigError, match="link.png' is a link or encrypted"):
        load(path)


def test_the_same_name_twice_is_refused(tmp_path, load):
    path = write_tar(tmp_path / "a.tar", tree())
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo("train/ant/000.png"))
    with pytest.raises(ConfigError, match="holds 'train/ant/000.png' twice"):
        load(path)


def test_absurd_sizes_are_refused_before_reading(tmp_path, load):
    path = tmp_path / "a.tar"
    for name, kind, message in (
        ("train/a/0.png", tarfile.REGTYPE, "has 1,099,511,627,776 bytes; allowed are"),
        ("paxheader", tarfile.XHDTYPE, "has a header of 1,099,511,627,776 bytes"),
        ("longname", tarfile.GNUTYPE_LONGNAME, "has a header of 1,099,511,627,776 bytes"),
    ):
        member = tarfile.TarInfo(name)
        member.size, member.type = 2**40, kind
        path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        with pytest.raises(ConfigError, match=message):
            load(path)


def test_total_size_is_limited(tmp_path):
    files = {f"{i}.bin": bytes(2**20) for i in range(8)}
    for name in ("a.tar.gz", "a.zip"):
        path = WRITERS[name](tmp_path / name, files)
        assert len(list(trees.files(path))) == 8
        with pytest.raises(ConfigError, match="unpacks to more than 4,194,304 bytes"):
            list(trees.files(path, total_limit=2**22))


def test_endless_zeros_after_the_end_mark_are_limited(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(bytes(2**23)))
    assert list(trees.files(path)) == []
    with pytest.raises(ConfigError, match="unpacks to more than 4,194,304 bytes"):
        list(trees.files(path, total_limit=2**22))


def test_decompression_bombs_are_refused(tmp_path, load):
    header = png("red", (1, 1))
    for side in (9_000, 11_000, 60_000):  # ours; Pillow warns; Pillow refuses
        bomb = header.replace(b"\x00\x00\x00\x01" * 2, side.to_bytes(4, "big") * 2, 1)
        crc = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
        files = tree() | {"train/ant/9.png": bomb[:29] + crc + bomb[33:]}
        with pytest.raises(ConfigError, match="9.png is no readable 8-bit image: .*pixels"):
            load(write_tar(tmp_path / "a.tar", files))


def test_more_than_the_memory_is_refused(tmp_path):
    items = {"x": folder.Item("x", "train", 0, 0)}
    with pytest.raises(ConfigError, match="more than the .* bytes of this machine's memory"):
        folder._allocated(tmp_path, items, (10**6, 10**7, 3))


def test_links_between_folders_are_followed_once(tmp_path, load):
    path = write_folder(tmp_path / "elsewhere", tree())
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "train").symlink_to(path / "train")
    (tmp_path / "tree" / "test").symlink_to(path / "test")
    (path / "train" / "ant" / "loop").symlink_to(path / "train")
    assert len(load(tmp_path / "tree")[0]) == 12


@pytest.mark.parametrize("backwards", [False, True])
def test_of_two_names_of_a_folder_the_first_counts(tmp_path, load, monkeypatch, backwards):
    """In whichever order a disk lists them."""
    path = write_folder(tmp_path / "tree", tree())
    (path / "train" / "dog").symlink_to(path / "train" / "cat")
    walk = os.walk

    def listed(*args, **options):
        for top, folders, names in walk(*args, **options):
            folders.sort(reverse=backwards)
            yield top, folders, names

    monkeypatch.setattr(os, "walk", listed)
    assert len(load(path)[0]) == 12


@pytest.mark.slow
def test_sixty_thousand_real_images(data_dir, tmp_path):
    path = data_dir / "cifar10_images.tar.gz"
    source = dict(dir=str(path), cache_dir=str(tmp_path))
    start = time.monotonic()
    images, labels = data.load("folder", "train", **source)
    first = time.monotonic() - start
    assert images.shape == (50_000, 32, 32, 3)
    assert np.bincount(labels).tolist() == [5000] * 10
    assert np.bincount(data.load("folder", "test", **source)[1]).tolist() == [1000] * 10
    start = time.monotonic()
    again = data.load("folder", "train", **source)[0]
    assert time.monotonic() - start < first / 4
    assert np.array_equal(images, again)
    about = data.describe("folder", **source)
    assert about.classes == data.describe("cifar10").classes
    np.testing.assert_allclose(about.mean, data.describe("cifar10").mean, atol=0.002)
    np.testing.assert_allclose(about.std, data.describe("cifar10").std, atol=0.002)


@pytest.mark.slow
def test_real_images_agree_with_the_lossless_ones(data_dir, tmp_path_factory):
    """File n of a class is the n-th image of that class in the official order."""
    exact = np.load(data_dir / "cifar10_lossless_6k.npz")
    cache = tmp_path_factory.getbasetemp() / "decoded"
    archive = data_dir / "cifar10_images.tar.gz"
    images, labels = data.load("folder", "test", str(archive), cache_dir=str(cache))
    official = exact["test_labels_all"]
    for index, image in list(zip(exact["test_index"], exact["test_images"], strict=True))[::25]:
        label = official[index]
        rank = np.count_nonzero(official[:index] == label)
        found = images[labels == label][rank]
        assert np.abs(found.astype(int) - image).mean() < 20


@pytest.mark.parametrize(
    "orientation, corner", [(1, (0, 0)), (3, (3, 7)), (6, (0, 3)), (8, (7, 0))]
)
def test_photographs_stand_the_way_up_that_their_camera_wrote_down(orientation, corner):
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[0, 0] = 255
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    found = folder.decoded(file.getvalue(), None)
    assert found.shape == ((4, 8, 3) if orientation < 5 else (8, 4, 3))
    assert tuple(np.argwhere(found[..., 0] == 255)[0]) == corner
