"""benchmark(): known accuracies come out, whatever the classifier speaks."""

import corrupted_files as fake
import jax
import numpy as np
import pytest

import cards_jax
from cards_jax import leaderboard, published
from cards_jax.corruptions import BENCHMARK, EXTRA
from cards_jax.data import folder


@pytest.fixture
def squares(monkeypatch):
    """The test set of data="folder" is the one that fits the fake files."""
    clean = fake.clean()
    monkeypatch.setattr(folder, "load", lambda *_, **__: (clean.images, clean.labels))


def run(place, predict=fake.logits, **options):
    given = dict(title="Squares", progress=False) | options
    return cards_jax.benchmark(predict, "folder", None, corruptions_dir=str(place), **given)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return fake.write(tmp_path_factory.mktemp("c") / "c")


def share(name, severity):
    return fake.right(name, severity) / 20


TRUTH = np.mean([[share(n, s) for s in range(1, 6)] for n in BENCHMARK])


def test_mean_of_75_cells_and_not_of_95(squares, place):
    found = run(place, corruptions=("benchmark", "extra"))
    assert found.corrupted == pytest.approx(TRUTH, abs=1e-12)
    assert found.clean == 1 and found.means["extra"] == 0
    assert abs(TRUTH - TRUTH * 15 / 19) > 0.1  # what a mean over all 19 would be
    for name in BENCHMARK + EXTRA:
        expected = [share(name, s) for s in range(1, 6)]
        assert found.accuracies[name] == pytest.approx(expected)
    noise = np.mean([found.accuracies[n] for n in BENCHMARK[:3]])
    assert found.means["noise"] == pytest.approx(noise)
    assert found.means["without_noise"] == pytest.approx((15 * TRUTH - 3 * noise) / 12)


def test_an_incomplete_benchmark_has_no_mean(squares, place):
    found = run(place, corruptions=BENCHMARK[:14])
    assert found.corrupted is None and "without_jpeg" in found.means
    assert "digital" not in found.means and "corrupted" not in str(found).splitlines()[-1]


def test_every_form_of_predict_gives_the_same(squares, place):
    softmax = lambda z: np.exp(z) / np.exp(z).sum(1, keepdims=True)
    seen = []

    def torch_like(images):
        seen.append((images.shape[1:], images.dtype.name, float(images.max()), len(images)))
        back = np.rint(images * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        return fake.logits(back).astype(np.float32).tolist()

    options = dict(corruptions="fog")
    one = run(place, **options)
    two = run(place, lambda x: softmax(fake.logits(x)), **options)
    three = run(place, torch_like, form="float", channels_first=True, batch_size=7, **options)
    for other in (two, three):
        assert other.accuracies == one.accuracies
        for name, errors in one.calibration_errors.items():
            assert other.calibration_errors[name] == pytest.approx(errors, abs=1e-6)
    assert {x[:2] for x in seen} == {((3, 8, 8), "float32")}
    assert max(x[2] for x in seen) <= 1 and max(x[3] for x in seen) == 7


def test_probabilities_that_are_rounded_are_no_logits(squares, place):
    """Rows of half precision add up to 1 within 1%."""
    rounded = lambda x: 1.005 * np.asarray(jax.nn.softmax(fake.logits(x)))
    options = dict(corruptions="fog", batch_size=1)
    exact, found = run(place, **options), run(place, rounded, **options)
    for name, errors in exact.calibration_errors.items():
        assert found.calibration_errors[name] == pytest.approx(errors, abs=0.01)


def test_calibration_error_of_a_sure_classifier(squares, place):
    found = run(place, corruptions="fog")
    sure = np.exp(5) / (np.exp(5) + 3)
    for accuracy, error in zip(
        found.accuracies["fog"], found.calibration_errors["fog"], strict=True
    ):
        assert error == pytest.approx(abs(accuracy - sure), abs=1e-9)


@pytest.mark.parametrize(
    ("predict", "options", "said"),
    [
        (lambda x: np.zeros(len(x)), {}, "expected .20, classes"),
        (lambda x: np.zeros((1, 4)), {}, "got shape"),
        (lambda x: np.zeros((len(x), 2)), {}, "gives 2 classes"),
        (lambda x: np.full((len(x), 4), np.nan), {}, "not finite"),
        (fake.logits, {"outputs": "probabilities"}, "are not probabilities"),
        (fake.logits, {"outputs": "labels"}, "outputs='labels': allowed are auto"),
        (fake.logits, {"form": "int8"}, "form='int8': allowed are uint8"),
        (fake.logits, {"batch_size": 0}, "batch_size=0"),
        (fake.logits, {"corruptions": "fogg"}, "nearest is 'fog'"),
        (fake.logits, {"title": None}, "data.title: is not given"),
    ],
)
def test_mistakes_are_said(squares, place, predict, options, said):
    with pytest.raises(ValueError, match=said):
        run(place, predict, **{"corruptions": "fog"} | options)


def test_table_says_source_and_percent(squares, place):
    text = str(run(place, corruptions=("benchmark", "extra")))
    assert text.startswith("corrupted images in c; 20 images")
    assert f"corrupted {100 * TRUTH:.2f} (mean over 15 x 5)" in text
    assert "RobustBench" not in text and "| saturate" in text


def test_published_means_are_those_of_the_leaderboard():
    mean = lambda data: {k: published.mean(v) for k, v in published.of(data).items()}
    assert mean("cifar10") == pytest.approx(
        {
            "Standard": 0.7346,
            "LRR card": 0.9094,
            "LRR deck": 0.9279,
            "binary card": 0.8832,
            "binary deck": 0.9016,
        },
        abs=5e-5,
    )
    assert mean("cifar100")["LRR deck"] == pytest.approx(0.7109, abs=5e-5)
    assert published.of(None) == {} and leaderboard.FORMS == ("uint8", "float")
