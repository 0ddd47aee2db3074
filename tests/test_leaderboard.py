"""benchmark(): known accuracies come out, whatever the classifier speaks."""

import corrupted_files as fake
import jax
import numpy as np
import pytest

import cards_jax
from cards_jax import leaderboard, published, scores
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


def test_no_batch_holds_images_of_two_severities(squares, tmp_path, monkeypatch):
    """A deck looks at its whole batch; 7 divides neither all images nor a piece of those that are read at once."""
    place = fake.write(tmp_path / "c", ("fog",))
    images = np.load(place / "fog.npy")
    images[:, 0, 0, 1] = np.repeat(np.arange(1, 6), 20)
    np.save(place / "fog.npy", images)
    monkeypatch.setattr(scores, "PIECE_BYTES", 5 * 8 * 8 * 3 * 12)
    seen = []

    def predict(images):
        seen.append((set(images[:, 0, 0, 1].tolist()), len(images)))
        return fake.logits(images)

    found = run(place, predict, corruptions="fog", batch_size=7)
    clean, corrupted = seen[:3], seen[3:]
    assert sum(n for _, n in clean) == 20
    assert [s for s, _ in corrupted] == [{s} for _ in (0, 1) for s in range(1, 6) for _ in (0, 1)]
    assert max(n for _, n in corrupted) == 7
    assert found.accuracies["fog"] == pytest.approx([share("fog", s) for s in range(1, 6)])


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
    assert mean("cifar100") == pytest.approx(
        {"LRR card": 0.6646, "LRR deck": 0.7109, "binary card": 0.6526, "binary deck": 0.6909},
        abs=5e-5,
    )
    assert published.of(None) == {} and leaderboard.FORMS == ("uint8", "float")


@pytest.mark.parametrize(
    ("data", "entry", "corruption", "severities"),
    [
        ("cifar10", "Standard", "gaussian_noise", (0.7778, 0.5788, 0.3919, 0.3261, 0.2767)),
        ("cifar10", "LRR card", "glass_blur", (0.8578, 0.8666, 0.8744, 0.7571, 0.7844)),
        ("cifar10", "LRR deck", "fog", (0.9642, 0.9609, 0.9453, 0.9281, 0.834)),
        ("cifar10", "binary card", "snow", (0.9299, 0.8919, 0.8843, 0.8625, 0.8429)),
        ("cifar10", "binary deck", "contrast", (0.9444, 0.9192, 0.8918, 0.8402, 0.6042)),
        ("cifar100", "LRR card", "gaussian_noise", (0.6789, 0.5512, 0.4253, 0.369, 0.3066)),
        ("cifar100", "LRR deck", "jpeg_compression", (0.7518, 0.7286, 0.7143, 0.7048, 0.6869)),
        ("cifar100", "binary card", "pixelate", (0.7603, 0.739, 0.7208, 0.6758, 0.5785)),
        ("cifar100", "binary deck", "impulse_noise", (0.7633, 0.7335, 0.7047, 0.6216, 0.5325)),
    ],
)
def test_published_cells_are_means_over_the_severities_of_the_leaderboard(
    data, entry, corruption, severities
):
    """As its files list them."""
    assert published.of(data)[entry][corruption] == pytest.approx(np.mean(severities), abs=1e-6)
