"""Prepared folders of tensorflow-datasets, read without TensorFlow."""

import io
import json
import shutil
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cards_jax import data
from cards_jax.config import ConfigError

CLASSES = ["cat", "dog", "eel"]
without_tensorflow = pytest.mark.skipif(
    find_spec("tensorflow") is not None, reason="tells what happens without TensorFlow"
)


def prepare(top, sizes=(8,), channels=3, split="test"):
    """A folder that the library prepares itself, from a builder that needs no TensorFlow."""
    import tensorflow_datasets as tfds

    class Shapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.2.3")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, channels)),
                "label": tfds.features.ClassLabel(names=CLASSES),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, _):
            return {"train": self._generate_examples(9), split: self._generate_examples(4)}

        def _generate_examples(self, n):
            for i in range(n):
                side = sizes[i % len(sizes)]
                pixels = np.full((side, side, channels), 20 * i + i % 3, np.uint8)
                buffer = io.BytesIO()
                Image.fromarray(pixels.squeeze()).save(buffer, "PNG")
                yield i, {"image": buffer.getvalue(), "label": i % 3}

    builder = Shapes(data_dir=str(top), file_format="array_record")
    builder.download_and_prepare()
    return top / "shapes" / "1.2.3"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("prepared"))


def load(path, cache, split="train", **options):
    return data.load("tfds", split, str(path), cache_dir=str(cache), **options)


def test_prepared_folder_is_read_without_tensorflow(prepared, tmp_path):
    images, labels = load(prepared, tmp_path)
    assert images.shape == (9, 8, 8, 3) and images.dtype == np.uint8 and labels.dtype == np.int32
    assert sorted(images[:, 0, 0, 0].tolist()) == [20 * i + i % 3 for i in range(9)]
    assert np.array_equal(images[:, 5, 5, 1] % 20, labels)
    assert load(prepared, tmp_path, "test")[0].shape == (4, 8, 8, 3)
    about = data.describe("tfds", str(prepared), cache_dir=str(tmp_path))
    assert about.classes == tuple(CLASSES)
    np.testing.assert_allclose(about.mean, (images / 255).mean((0, 1, 2)), atol=1e-6)
    assert "tensorflow" not in sys.modules


def test_grey_images_of_different_sizes_and_a_validation_split(tmp_path):
    path = prepare(tmp_path / "top", sizes=(8, 12), channels=1, split="validation")
    with pytest.raises(ConfigError, match="data.image_size: image .* give data.image_size"):
        load(path, tmp_path)
    assert load(path, tmp_path, "test", image_size=6)[0].shape == (4, 6, 6, 3)


def test_folders_that_are_not_prepared(prepared, tmp_path):
    for path, message in (
        (tmp_path / "cifar10" / "3.0.2", "set data.download=True or run tfds.builder"),
        (tmp_path / "cifar10", "it should end in <name>/<version>"),
        (prepared.parent, f"it holds {prepared}"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            load(path, tmp_path)
        assert str(caught.value).startswith("data.dir: ") and "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="data.dir: is not given"):
        data.load("tfds", "train")


@without_tensorflow
def test_preparing_without_tensorflow_is_refused_at_once(tmp_path):
    with pytest.raises(ConfigError, match="preparing it needs TensorFlow: pip install tensorflow"):
        load(tmp_path / "cifar10" / "3.0.2", tmp_path, download=True)


@without_tensorflow
def test_tfrecord_format_says_what_to_do(prepared, tmp_path):
    path = shutil.copytree(prepared, tmp_path / "shapes" / "1.2.3")
    info = json.loads((path / "dataset_info.json").read_text())
    (path / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    with pytest.raises(ConfigError, match="its format tfrecord needs TensorFlow"):
        load(path, tmp_path)


@pytest.mark.parametrize(
    "name", ["features.json", "dataset_info.json", "shapes-train.array_record-00000-of-00001"]
)
def test_damaged_files_are_told(prepared, tmp_path, name):
    path = shutil.copytree(prepared, tmp_path / "shapes" / "1.2.3")
    raw = (path / name).read_bytes()
    (path / name).write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ConfigError, match="data.dir: .* cannot be read"):
        load(path, tmp_path)
    if name == "dataset_info.json":
        return
    (path / name).unlink()
    with pytest.raises(ConfigError, match="data.dir: .* cannot be read"):
        load(path, tmp_path)


@pytest.mark.parametrize("module", ["tensorflow_datasets", "array_record"])
def test_absent_library_is_told(prepared, tmp_path, module):
    code = f"""
        import sys
        sys.modules[{module!r}] = None  # importing it now raises ImportError
        from cards_jax import data
        try:
            data.load("tfds", "train", {str(prepared)!r}, cache_dir={str(tmp_path)!r})
        except data.ConfigError as error:
            print(error)
    """
    root = Path(data.__file__).parents[2]
    command = [sys.executable, "-c", textwrap.dedent(code)]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    told = ran.stdout.strip().splitlines()[-1]  # the library prints a banner of its own before
    assert told.startswith("data.name: tfds cannot use") and module in told
    assert 'pip install "cards_jax[tfds]"' in told


def test_lost_class_names_are_told(prepared, tmp_path):
    path = shutil.copytree(prepared, tmp_path / "shapes" / "1.2.3")
    (path / "label.labels.txt").write_text("cat\n")
    with pytest.raises(ConfigError, match="labels 0 to 2, 1 names"):
        load(path, tmp_path)


@pytest.mark.parametrize("key", ["pythonClassName", "python\\u0043lassName", "type"])
def test_features_that_would_import_something_are_refused(prepared, tmp_path, key):
    path = shutil.copytree(prepared, tmp_path / "shapes" / "1.2.3")
    (path / "features.json").write_text(f'{{"a": [{{"{key}": "antigravity.Feature"}}]}}')
    with pytest.raises(ConfigError, match="names 'antigravity.Feature'; it is not read"):
        load(path, tmp_path)
    assert "antigravity" not in sys.modules
