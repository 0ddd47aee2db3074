"""CIFAR-10 and CIFAR-100 from small files in the published layouts, whole, damaged and hostile."""

import dataclasses
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from cards_jax import data
from cards_jax.config import ConfigError
from cards_jax.data import cifar, cifar10, cifar100
from cards_jax.data.pickles import read_batch

SMALL10 = dataclasses.replace(
    cifar10.LAYOUT,
    batches={"train": {"data_batch_1": 4, "data_batch_2": 3}, "test": {"test_batch": 5}},
)
SMALL100 = dataclasses.replace(
    cifar100.LAYOUT, batches={"train": {"train": 6}, "test": {"test": 5}}
)
LAYOUTS = {"cifar10": SMALL10, "cifar100": SMALL100}


def python2_pickle(pixels: np.ndarray, labels: list[int], key: str) -> bytes:
    """A batch as Python 2 wrote it: protocol 2, byte strings, the module names of numpy 1."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    raw = pixels.tobytes()
    return b"".join(
        [
            b"\x80\x02}q\x01(",
            text(b"data") + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n",
            b"K\x00\x85" + text(b"b") + b"\x87R(K\x01",
            b"".join(b"M" + struct.pack("<H", n) for n in pixels.shape) + b"\x86",
            b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|"),
            b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + struct.pack("<i", len(raw)) + raw + b"tb",
            text(key.encode()) + b"](" + b"".join(b"K" + bytes([n]) for n in labels) + b"e",
            text(b"batch_label") + text(b"a batch") + b"u.",
        ]
    )


def write_small(folder: Path, name: str, form: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Writes the files of a small data set; returns images and labels of each split."""
    layout = LAYOUTS[name]
    kind = getattr(layout, form)
    rng = np.random.default_rng(1)
    folder = folder / kind.folder
    folder.mkdir(parents=True)
    (folder / "readme.html").write_text("<html>")
    truth = {}
    for split, batches in layout.batches.items():
        parts = []
        for batch, n in batches.items():
            images = rng.integers(0, 256, (n, 32, 32, 3), np.uint8)
            labels = rng.integers(0, layout.classes, n)
            pixels = images.transpose(0, 3, 1, 2).reshape(n, 3072)
            if form == "binary":
                coarse = rng.integers(0, 20, (n, layout.label_bytes - 1))
                raw = np.hstack([coarse, labels[:, None], pixels]).astype(np.uint8).tobytes()
            else:
                raw = python2_pickle(pixels, labels.tolist(), layout.label_key)
            (folder / (batch + kind.suffix)).write_bytes(raw)
            parts.append((images, labels))
        truth[split] = tuple(np.concatenate(part) for part in zip(*parts, strict=True))
    return truth


def pack(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    return archive


def read(name: str, split: str, path: Path, download: bool = False):
    return cifar.read(LAYOUTS[name], split, str(path), download, str(path.parent / "no-cache"))


@pytest.mark.parametrize("form", ["binary", "python"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_every_published_form_at_every_place(tmp_path, name, form):
    truth = write_small(tmp_path / "unpacked", name, form)
    kind = getattr(LAYOUTS[name], form)
    unpacked = tmp_path / "unpacked" / kind.folder
    (tmp_path / "packed").mkdir()
    archive = pack(unpacked, tmp_path / "packed" / kind.remote.name)
    renamed = pack(unpacked, tmp_path / "renamed.bin")
    for place in (unpacked, unpacked.parent, archive, archive.parent, renamed):
        for split, (images, labels) in truth.items():
            found_images, found_labels = read(name, split, place)
            assert found_images.dtype == np.uint8 and found_labels.dtype == np.int32
            assert np.array_equal(found_images, images)
            assert np.array_equal(found_labels, labels)


def test_binary_is_preferred(tmp_path):
    write_small(tmp_path, "cifar10", "python")
    for file in (tmp_path / SMALL10.python.folder).iterdir():
        file.write_bytes(b"never read")
    truth = write_small(tmp_path, "cifar10", "binary")
    assert np.array_equal(read("cifar10", "train", tmp_path)[0], truth["train"][0])


def test_official_sizes_through_the_public_door(tmp_path):
    """Full-size test files: 10,000 records each."""
    rng = np.random.default_rng(0)
    for name, label_bytes, file in (
        ("cifar10", 1, "test_batch.bin"),
        ("cifar100", 2, "test.bin"),
    ):
        records = np.zeros((10_000, label_bytes + 3072), np.uint8)
        records[:, label_bytes - 1] = rng.integers(0, 10, 10_000)
        records[:, label_bytes:] = np.arange(10_000)[:, None] % 256
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_bytes(records.tobytes())
        images, labels = data.load(name, "test", str(tmp_path / name))
        assert images.shape == (10_000, 32, 32, 3) and images[259, 5, 5, 1] == 3
        assert np.array_equal(labels, records[:, label_bytes - 1])
        with pytest.raises(ConfigError, match="data.dir: .* holds no cifar"):
            data.load(name, "train", str(tmp_path / name), cache_dir=str(tmp_path))


def test_nothing_there_says_what_to_get_and_where_to_put_it(tmp_path):
    (tmp_path / "empty").mkdir()
    for place in ("empty", "absent"):
        with pytest.raises(ConfigError) as caught:
            data.load("cifar10", "train", str(tmp_path / place), cache_dir=str(tmp_path / "c"))
        message = str(caught.value)
        assert "\n" not in message and message.startswith("data.dir: ")
        for part in ("cifar-10-binary.tar.gz", "170,052,171", "https://", str(tmp_path / "c")):
            assert part in message


def test_archive_in_the_cache_is_found_without_a_dir(tmp_path):
    truth = write_small(tmp_path / "x", "cifar10", "binary")
    (tmp_path / "cache" / "cifar10").mkdir(parents=True)
    kind = SMALL10.binary
    pack(tmp_path / "x" / kind.folder, tmp_path / "cache" / "cifar10" / kind.remote.name)
    images, _ = cifar.read(SMALL10, "test", None, False, str(tmp_path / "cache"))
    assert np.array_equal(images, truth["test"][0])
    (tmp_path / "empty").mkdir()  # a folder that was named is not silently replaced by the cache
    with pytest.raises(ConfigError, match="empty holds no cifar10"):
        cifar.read(SMALL10, "test", str(tmp_path / "empty"), False, str(tmp_path / "cache"))


@pytest.mark.parametrize("form", ["binary", "python"])
def test_truncations_and_flips_of_an_archive_are_told(tmp_path, form):
    write_small(tmp_path, "cifar10", form)
    kind = getattr(SMALL10, form)
    archive = pack(tmp_path / kind.folder, tmp_path / "a.tar.gz")
    whole = archive.read_bytes()
    damaged = [whole[: len(whole) * part // 8] for part in range(8)]
    damaged += [whole[:-1], whole[:-9]]
    for position in (len(whole) // 3, len(whole) // 2, len(whole) - 8):
        flipped = bytearray(whole)
        flipped[position] ^= 4
        damaged.append(bytes(flipped))
    for raw in damaged:
        archive.write_bytes(raw)
        with pytest.raises(ConfigError, match="data.dir: .*a.tar.gz"):
            read("cifar10", "train", archive)


@pytest.mark.parametrize("form", ["binary", "python"])
def test_truncated_or_missing_batch_is_told(tmp_path, form):
    write_small(tmp_path, "cifar10", form)
    kind = getattr(SMALL10, form)
    path = tmp_path / kind.folder / ("data_batch_2" + kind.suffix)
    raw = path.read_bytes()
    for cut in (raw[:-3073], raw[:-1], raw[: len(raw) // 2], b""):
        path.write_bytes(cut)
        with pytest.raises(ConfigError, match="data.dir: .*data_batch_2"):
            read("cifar10", "train", tmp_path)
    path.unlink()
    with pytest.raises(ConfigError, match="lacks the file data_batch_2"):
        read("cifar10", "train", tmp_path)


def test_a_batch_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    write_small(tmp_path, "cifar10", "binary")

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(ConfigError, match="data_batch_1.bin.*Permission denied"):
        read("cifar10", "train", tmp_path)


def test_label_out_of_range_is_told(tmp_path):
    write_small(tmp_path, "cifar10", "binary")
    path = tmp_path / SMALL10.binary.folder / "data_batch_1.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(ConfigError, match="labels .* to 10; cifar10 has 0 to 9"):
        read("cifar10", "train", tmp_path)


def test_web_page_and_other_data_instead_of_an_archive(tmp_path):
    page = tmp_path / "cifar-10-binary.tar.gz"
    page.write_text("<!DOCTYPE html><title>quota</title>")
    with pytest.raises(ConfigError, match="is a web page; allowed"):
        read("cifar10", "train", page)
    write_small(tmp_path, "cifar100", "binary")
    other = pack(tmp_path / SMALL100.binary.folder, tmp_path / "b.tar.gz")
    with pytest.raises(ConfigError, match="no archive of cifar10: it lacks the train files"):
        read("cifar10", "train", other)


def test_the_same_batch_twice_is_refused(tmp_path):
    write_small(tmp_path, "cifar10", "binary")
    folder = tmp_path / SMALL10.binary.folder
    with tarfile.open(tmp_path / "twice.tar.gz", "w:gz") as tar:
        tar.add(folder, "a")
        tar.add(folder, "b")
    with pytest.raises(ConfigError, match="holds data_batch_1.bin twice"):
        read("cifar10", "train", tmp_path / "twice.tar.gz")


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_python_3_of_every_protocol(protocol):
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    batch = {"data": pixels, "labels": [1, 2], "n": np.array([3, 400], ">i4"), "f": pixels.T}
    found = read_batch(pickle.dumps(batch, protocol), "x")
    assert set(found) == set(batch) and found["labels"] == [1, 2]
    for key in ("data", "n", "f"):
        assert np.array_equal(found[key], batch[key]), key


class _Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments, state) if state else (function, arguments)

    def __reduce__(self):
        return self.reduced


def hostile(marker: Path) -> dict[str, bytes]:
    touch = f"touch {marker}"
    nested = b"".join(b"]" for _ in range(100_000))
    return {
        "system": pickle.dumps(_Call(os.system, touch)),
        "eval": pickle.dumps(_Call(eval, f"open({str(marker)!r}, 'w')")),
        "module": b"\x80\x02cos\nsystem\nU" + bytes([len(touch)]) + touch.encode() + b"\x85R.",
        "instance": b"(S'" + touch.encode() + b"'\nios\nsystem\n.",
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0fos.system.thing\x93.",
        "memo": b"\x80\x02]r\xff\xff\xff\xff.",
        "long string": b"\x80\x02T\xff\xff\xff\x7fabc.",
        "long bytes": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x0fabc.",
        "huge array": pickle.dumps({"data": _Call(np.ndarray, (10**12,))}),
        "objects": pickle.dumps({"data": np.array([os.getcwd, None])}, 2),
        "object dtype": pickle.dumps({"data": np.array([None])}, 2),
        "state of a function": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}U\x01aK\x01sb.",
        "persistent": b"\x80\x02Pid\n.",
        "no dictionary": pickle.dumps([1, 2]),
        "deep": b"\x80\x02" + nested + b".",
        "empty": b"",
        "text": b"hello",
    }


@pytest.mark.parametrize("kind", hostile(Path("x")))
def test_hostile_pickles_are_refused_and_run_nothing(tmp_path, kind):
    marker = tmp_path / "ran"
    with pytest.raises(ConfigError, match="data.dir: some/file is no readable batch"):
        read_batch(hostile(marker)[kind], "some/file")
    assert not marker.exists()


def test_hostile_pickle_in_an_archive(tmp_path):
    write_small(tmp_path, "cifar10", "python")
    folder = tmp_path / SMALL10.python.folder
    marker = tmp_path / "ran"
    size = (folder / "data_batch_1").stat().st_size
    raw = pickle.dumps(_Call(os.system, f"touch {marker}"))
    (folder / "data_batch_1").write_bytes(raw + bytes(size - len(raw)))
    with pytest.raises(ConfigError, match="data_batch_1 is no readable batch.*system"):
        read("cifar10", "train", pack(folder, tmp_path / "h.tar.gz"))
    assert not marker.exists()


def test_pickle_of_another_shape_or_without_labels(tmp_path):
    write_small(tmp_path, "cifar10", "python")
    path = tmp_path / SMALL10.python.folder / "data_batch_1"
    good = np.zeros((4, 3072), np.uint8)
    for batch, message in (
        ({"data": good.reshape(2, 6144), "labels": [0] * 4}, "no 4 x 3072 bytes under 'data'"),
        ({"data": good.view(np.int8), "labels": [0] * 4}, "no 4 x 3072 bytes under 'data'"),
        ({"data": good}, "no 4 labels under 'labels'"),
        ({"data": good, "labels": [0] * 3}, "no 4 labels under 'labels'"),
        ({"data": good, "labels": ["cat"] * 4}, "no 4 labels under 'labels'"),
        ({"data": good, "labels": [0, 1, 2, -1]}, "labels -1 to 2"),
    ):
        path.write_bytes(pickle.dumps(batch, 2))
        with pytest.raises(ConfigError, match=message):
            read("cifar10", "train", tmp_path)


def test_archive_that_asks_for_too_much(tmp_path):
    """A header can claim any size: it is compared with the layout before a byte is read."""
    archive = tmp_path / "big.tar"
    member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    member.size = 2**33
    archive.write_bytes(member.tobuf() + bytes(1024))
    with pytest.raises(ConfigError, match="data_batch_1.bin' has 8,589,934,592 bytes"):
        read("cifar10", "train", archive)


@pytest.mark.slow
def test_sixty_thousand_real_images_through_the_published_archives(
    data_dir, tmp_path, tmp_path_factory
):
    """Real photographs written as full-size archives, binary and pickled, and read back."""
    cache = tmp_path_factory.getbasetemp() / "decoded"
    source = dict(dir=str(data_dir / "cifar10_images.tar.gz"), cache_dir=str(cache))
    for form in (cifar10.LAYOUT.binary, cifar10.LAYOUT.python):
        archive = tmp_path / form.remote.name
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            for split, batches in cifar10.LAYOUT.batches.items():
                images, labels = data.load("folder", split, **source)
                pixels = images.transpose(0, 3, 1, 2).reshape(-1, 3072)
                for i, batch in enumerate(batches):
                    rows = slice(10_000 * i, 10_000 * (i + 1))
                    if form.suffix:
                        raw = np.hstack([labels[rows, None].astype(np.uint8), pixels[rows]])
                        raw = raw.tobytes()
                    else:
                        raw = python2_pickle(pixels[rows], labels[rows].tolist(), "labels")
                    member = tarfile.TarInfo(f"{form.folder}/{batch}{form.suffix}")
                    member.size = len(raw)
                    tar.addfile(member, io.BytesIO(raw))
        for split in data.SPLITS:
            images, labels = data.load("folder", split, **source)
            found_images, found_labels = data.load("cifar10", split, str(archive))
            assert np.array_equal(found_images, images) and np.array_equal(found_labels, labels)
        archive.unlink()
