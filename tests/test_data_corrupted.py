"""Sources of corrupted images: published files, prepared ones, made ones; what is damaged is refused by name."""

import hashlib
import io
import shutil
import tarfile

import corrupted_files as fake
import numpy as np
import pytest

from cards_jax import corruptions
from cards_jax.config import ConfigError
from cards_jax.corruptions import BENCHMARK, EXTRA
from cards_jax.data import cifar10_corrupted, cifar_c, corrupted
from cards_jax.data.corrupted import Clean


def find(place, *names, clean=None, **options):
    return corrupted.find(clean or fake.clean(), names or ("contrast",), str(place), **options)


def test_blocks_are_severities(tmp_path):
    source = find(fake.write(tmp_path / "c"), "benchmark", "extra")
    assert source.names == BENCHMARK + EXTRA and source.image_HWC == (8, 8, 3)
    np.testing.assert_array_equal(source.labels, fake.labels())
    whole = np.load(tmp_path / "c" / "fog.npy")
    piece = source.read("fog", 3, 5)
    assert piece.shape == (5, 5, 8, 8, 3) and piece.dtype == np.uint8
    for s in range(5):
        np.testing.assert_array_equal(piece[s], whole[20 * s + 3 : 20 * s + 8])


def test_first_images_of_every_severity(tmp_path):
    source = find(fake.write(tmp_path / "c"), count=7)
    assert len(source.labels) == 7
    whole = np.load(tmp_path / "c" / "contrast.npy")
    np.testing.assert_array_equal(source.read("contrast", 0, 7)[4], whole[80:87])
    with pytest.raises(ConfigError, match="corruption_images=21: allowed are 0 .all. to 20"):
        find(tmp_path / "c", count=21)


def test_files_of_unknown_origin_are_not_called_cifar(tmp_path):
    source = find(fake.write(tmp_path / "CIFAR-10-C"))
    assert source.kind == "files" and source.benchmark is None
    assert source.name == "corrupted images in CIFAR-10-C"


def test_cifar_10_c_is_no_test_set_of_cifar_100(tmp_path, monkeypatch):
    labels = (np.arange(10_000) % 10).astype(np.int32)
    official = hashlib.sha256(labels.astype(np.uint8)).hexdigest()
    monkeypatch.setattr(cifar_c, "OFFICIAL_LABELS", official)
    arrays = {"fog": np.zeros((1, 32, 32, 3), np.uint8)}
    of = lambda data: Clean(np.zeros((10_000, 32, 32, 3), np.uint8), labels, data, data)
    assert cifar_c._what(tmp_path, labels, arrays, of("cifar10"))[0] == "cifar10"
    assert cifar_c._what(tmp_path, labels, arrays, of("folder"))[0] == "cifar10"  # recompressed
    with pytest.raises(ConfigError, match="holds CIFAR-10-C; allowed with data.name=cifar100"):
        cifar_c._what(tmp_path, labels, arrays, of("cifar100"))
    with pytest.raises(ConfigError, match="holds CIFAR-10-C; allowed with data.name=cifar100"):
        cifar10_corrupted.source(tmp_path, of("cifar100"), ("fog",), 0)


def damage(folder, kind):
    path = folder / "contrast.npy"
    content, images = path.read_bytes(), np.load(path)
    if kind == "cut":
        path.write_bytes(content[:-1])
    elif kind == "longer":
        path.write_bytes(content + b"0")
    elif kind == "html":
        path.write_bytes(b"<!DOCTYPE html><html>Not found</html>")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "float":
        np.save(path, images.astype(np.float32))
    elif kind == "pickle":
        np.save(path, np.array([{"a": 1}] * 100, object), allow_pickle=True)
    elif kind == "channels":
        np.save(path, images.transpose(0, 3, 1, 2))
    elif kind == "few":
        np.save(path, images[:95])
    elif kind == "flat":
        np.save(path, images.reshape(100, -1))
    elif kind == "columns":
        np.save(path, np.asfortranarray(images))
    elif kind == "promise":  # a header of 10^12 images in a small file
        header = io.BytesIO()
        form = {"descr": "|u1", "fortran_order": False, "shape": (10**12, 8, 8, 3)}
        np.lib.format.write_array_header_1_0(header, form)
        path.write_bytes(header.getvalue() + b"0" * 100)
    elif kind == "missing":
        path.unlink()
    elif kind == "labels":
        np.save(folder / "labels.npy", np.arange(100) % 7)
    elif kind == "float labels":
        np.save(folder / "labels.npy", np.zeros(100))
    elif kind == "no labels":
        np.save(folder / "labels.npy", np.zeros(0, np.uint8))
    elif kind == "record":
        (folder / "made.json").write_text("[]")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("cut", "contrast.npy has .* bytes, but its header promises .*truncated or damaged"),
        ("longer", "truncated or damaged"),
        ("html", "contrast.npy is a web page"),
        ("empty", "contrast.npy is no .npy file"),
        ("float", r"contrast.npy holds float32 .*allowed are uint8 \(5 N, H, W, C\)"),
        ("pickle", "contrast.npy holds objects"),
        ("channels", "holds|has shape"),
        ("few", r"contrast.npy has shape \(95, 8, 8, 3\), not \(100, 8, 8, 3\)"),
        ("flat", "contrast.npy holds uint8"),
        ("columns", "contrast.npy holds columns"),
        ("promise", "truncated or damaged"),
        ("missing", "lacks contrast.npy"),
        ("labels", "labels.npy.*the same labels"),
        ("float labels", "labels.npy holds float64"),
        ("no labels", "labels.npy holds uint8"),
        ("record", "made.json cannot be read"),
    ],
)
def test_damaged_files_are_refused_before_anything_is_measured(tmp_path, kind, said):
    folder = fake.write(tmp_path / "c", ("contrast", "fog"))
    damage(folder, kind)
    with pytest.raises(ConfigError, match=said) as error:
        find(folder, "fog", "contrast")
    assert "\n" not in str(error.value)


def test_what_is_not_asked_for_may_be_damaged(tmp_path):
    folder = fake.write(tmp_path / "c", ("contrast", "fog"))
    damage(folder, "html")
    assert find(folder, "fog").names == ("fog",)


def archive(tmp_path, folder):
    path = tmp_path / "c.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder, "CIFAR-10-C")
    return path


def test_a_tar_is_read_where_it_lies(tmp_path):
    folder = fake.write(tmp_path / "c", ("contrast", "fog"))
    unpacked, packed = find(folder), find(archive(tmp_path, folder))
    np.testing.assert_array_equal(packed.read("contrast", 2, 9), unpacked.read("contrast", 2, 9))


def test_a_tar_that_is_cut_or_none_is_refused(tmp_path):
    path = archive(tmp_path, fake.write(tmp_path / "c", ("contrast",)))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(ConfigError, match="c.tar"):
        find(path)
    path.write_bytes(b"<html>")
    with pytest.raises(ConfigError, match="is no .tar, or damaged"):
        find(path)


def large(folder, labels):
    """Files of the published size, which take no room on the disk: all images are black."""
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile(labels, 5).astype(np.uint8))
    with open(folder / "contrast.npy", "wb") as file:
        form = {"descr": "|u1", "fortran_order": False, "shape": (50_000, 32, 32, 3)}
        np.lib.format.write_array_header_1_0(file, form)
        file.truncate(file.tell() + 50_000 * 3072)
    return folder


def test_published_labels_make_it_cifar_10_c(tmp_path, data_dir):
    labels = np.load(data_dir / "cifar10_lossless_6k.npz")["test_labels_all"].astype(np.int32)
    source = find(large(tmp_path / "c", labels))
    assert source.name.startswith("CIFAR-10-C (unpacked files") and source.benchmark == "cifar10"
    other = find(large(tmp_path / "other", labels[::-1]))
    assert "CIFAR" not in other.name and other.benchmark is None
    with pytest.raises(ConfigError, match="SHA256 .* CIFAR-10-C has c72763e1"):
        find(archive(tmp_path, tmp_path / "c"))


def test_labels_of_the_test_set_make_it_cifar_100_c(tmp_path):
    labels = np.random.default_rng(0).permutation(np.arange(10_000) % 100).astype(np.int32)
    clean = Clean(np.zeros((1, 32, 32, 3), np.uint8), labels, "cifar100", "CIFAR-100")
    folder = large(tmp_path / "c", labels)
    assert find(folder, clean=clean).benchmark == "cifar100"
    assert find(folder).benchmark is None


def test_made_images_are_those_that_make_writes(tmp_path):
    clean = fake.clean()
    corruptions.make(clean.images, clean.labels, tmp_path, 3, ("contrast", "pixelate"), False)
    written = find(tmp_path, "contrast", "pixelate")
    made = corrupted.find(clean, ("contrast", "pixelate"), seed=3)
    for name in made.names:
        np.testing.assert_array_equal(made.read(name, 4, 10), written.read(name, 4, 10))
    for source in (made, written):
        assert source.name == "Squares, generated corruptions, seed 3"
        assert source.kind == "generated" and source.benchmark is None


def test_images_made_from_others_are_not_called_by_the_name_of_the_test_set(tmp_path):
    mine, other = fake.clean(), fake.clean()
    other = Clean(255 - other.images, other.labels, other.data, "Negatives")
    place = corruptions.make(mine.images, mine.labels, tmp_path / "made", names=("contrast",))
    assert find(place, clean=mine).name == "Squares, generated corruptions, seed 0"
    assert find(place, clean=other).name.startswith("made, not of Negatives, generated")
    few = corruptions.make(mine.images[:7], mine.labels[:7], tmp_path / "few", names=("contrast",))
    assert find(few, clean=mine).name.startswith("Squares, ")  # of its first images


def test_flavours_are_named():
    source = corrupted.find(fake.clean(), ("frost", "jpeg_compression", "fog"))
    assert "frost textures" in source.name and "jpeg_compression libjpeg-turbo" in source.name
    assert "elastic" not in source.name


def test_names_are_checked():
    with pytest.raises(ConfigError, match="nearest is 'contrast'"):
        corrupted.find(fake.clean(), ("contrst",))
    with pytest.raises(ConfigError, match="needs at least one"):
        corrupted.find(fake.clean(), ())
    assert corruptions.expand(("fog", "benchmark"))[:2] == ("fog", "gaussian_noise")
    assert len(corruptions.expand(("benchmark", "benchmark"))) == 15


def test_a_data_set_without_a_name_needs_a_title():
    assert corrupted.title_of("cifar10", None) == "CIFAR-10"
    assert corrupted.title_of("folder", "CIFAR-10 (JPEG)") == "CIFAR-10 (JPEG)"
    with pytest.raises(ConfigError, match="data.title: is not given"):
        corrupted.title_of("folder", None)


def test_images_that_cannot_be_corrupted_are_refused():
    grey = Clean(np.zeros((2, 8, 8, 1), np.uint8), np.zeros(2, np.int32), "folder", "Grey")
    with pytest.raises(ConfigError, match="images: got uint8"):
        corrupted.find(grey, ("fog",))


def test_a_place_that_is_not_there_and_an_archive_that_may_not_be_fetched(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        find(tmp_path / "none")
    for data, said in (("cifar10", "CIFAR-10-C.tar .2,918,471,680 bytes"), ("cifar100", "by hand")):
        clean = Clean(np.zeros((1, 32, 32, 3), np.uint8), np.zeros(1, np.int32), data, data)
        with pytest.raises(ConfigError, match=said):
            find("published", clean=clean, cache_dir=str(tmp_path))
    with pytest.raises(ConfigError, match="allowed with data.name=cifar10"):
        find("published", cache_dir=str(tmp_path))
    assert cifar_c.ARCHIVE.kind == "tar"


def test_prepared_folders_of_tensorflow_datasets(tmp_path):
    from test_data_tfds import prepare

    one = prepare(tmp_path / "p")
    top = tmp_path / "cifar10_corrupted"
    for severity in range(1, 6):
        shutil.copytree(one, top / f"frosted_glass_blur_{severity}" / "1.0.0")
    source = find(top, "glass_blur")
    assert source.kind == "tfds" and "CIFAR" not in source.name
    piece = source.read("glass_blur", 1, 2)
    assert piece.shape == (5, 2, 8, 8, 3)
    np.testing.assert_array_equal(piece[0, :, 0, 0, 0] % 20, source.labels[1:3])
    with pytest.raises(ConfigError, match="no prepared elastic_1; run, where TensorFlow is"):
        find(top, "elastic_transform")
