"""Cards on corrupted images: together as alone, once and not again."""

import shutil

import cards
import corrupted_files as fake
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from cards_jax import models, pack, scores
from cards_jax.config import ConfigError
from cards_jax.data import corrupted
from cards_jax.evaluate import answers, clean, fourier
from cards_jax.hand import Hand
from cards_jax.marks import Marks

SPEC = models.Spec("conv2", 4, fake.CLASSES, image_HWC=(8, 8, 3))
OTHER = models.Spec("conv2", 2, 10, image_HWC=(8, 8, 3))
NAMES = ("fog", "contrast")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return fake.write(tmp_path_factory.mktemp("c") / "c", (*NAMES, "frost"), 33)


@pytest.fixture
def run(tmp_path):
    """A run's folder with three cards of one network and one of another."""
    folder = tmp_path / "run" / "cards"
    folder.mkdir(parents=True)
    for sparsity in (0.2, 0.5, 0.8):
        card = cards.sampled(SPEC, sparsity, binary=True)
        meta = {"result": {"seed": 0, "method": "bp", "sparsity": sparsity}}
        pack.save(folder / f"{sparsity}.card", card, SPEC, meta)
    pack.save(folder / "other.card", cards.sampled(OTHER, 0.5, binary=True), OTHER, {})
    return tmp_path / "run"


def source(files, *names, **options):
    return corrupted.find(fake.clean(33), names or NAMES, str(files), **options)


def evaluate(places, source, **options):
    said = []
    found = scores.evaluate(
        places, source, fake.clean(33), say=said.append, progress=False, **options
    )
    return found, said


def same(a, b):
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("predicted", "correct"))


def test_a_hand_gives_what_every_card_gives_alone(files, run, monkeypatch):
    """In pieces that overlap, in batches that do not fill up, on four devices."""
    monkeypatch.setattr(scores, "PIECE_BYTES", 5 * 8 * 8 * 3 * 10)
    found, _ = evaluate([run], source(files), batch_size=3)
    assert len(scores.starts(source(files))) == 4 and scores.starts(source(files))[-1] < 30
    for score in found:
        card = pack.load(score.path)
        for name in NAMES:
            images = np.load(files / f"{name}.npy")
            logits = np.asarray(card.logits(images), np.float64)
            labels = np.tile(fake.labels(33), 5)
            right = (logits.argmax(1) == labels).reshape(5, 33)
            log_p = log_softmax(logits, 1)
            loss = -log_p[np.arange(len(labels)), labels].reshape(5, 33).mean(1)
            one = score.marks[name]
            np.testing.assert_array_equal(one.correct, right)
            np.testing.assert_allclose(one.loss, loss, rtol=1e-4)
            np.testing.assert_allclose(one.bins[..., 0].sum(1), 33)
            sums = np.exp(log_p.max(1)).reshape(5, 33).sum(1)
            np.testing.assert_allclose(one.bins[..., 2].sum(1), sums, rtol=1e-5)
        clean = np.asarray(card.logits(fake.clean(33).images)).argmax(1)
        np.testing.assert_array_equal(score.marks["clean"].predicted[0], clean)


def test_progress_comes_after_every_call_and_ends_with_the_last(files, run, monkeypatch, capsys):
    """Two networks in calls of at most 60 images of all cards: 3 cards are asked 20 at a time, one card 60."""
    monkeypatch.setattr(scores, "CALL", 60)
    steps, update = [], scores.Progress.update
    monkeypatch.setattr(scores.Progress, "update", lambda s, n: steps.append(n) or update(s, n))
    scores.evaluate([run], source(files), fake.clean(33), say=lambda text: None)
    clean, corrupted = -(-33 // 20) + 1, -(-165 // 20) + -(-165 // 60)
    assert steps == list(range(1, clean + 2 * corrupted + 1))
    assert f"step {steps[-1]}/{steps[-1]}  100%" in capsys.readouterr().err


def test_all_clean_images_can_be_asked_for_alone(files, run):
    evaluate([run], source(files, count=20))
    found, _ = evaluate([run], corrupted.without(fake.clean(33)))
    for score in found:
        assert set(score.marks) == {"clean"}
        answers = np.asarray(pack.load(score.path).logits(fake.clean(33).images)).argmax(1)
        np.testing.assert_array_equal(score.marks["clean"].predicted[0], answers)
    _, said = evaluate([run], corrupted.without(fake.clean(33)))
    assert said[0].startswith("4 of 4 cards were evaluated before on ") and len(said) == 1


def test_nothing_is_measured_twice(files, run, monkeypatch):
    first, _ = evaluate([run], source(files))
    asked = []
    measure = Hand.map_images
    monkeypatch.setattr(
        Hand, "map_images", lambda self, f, n: asked.append(len(self)) or measure(self, f, n)
    )
    again, said = evaluate([run], source(files))
    assert not asked and said[0].startswith("4 of 4 cards were evaluated before on ")
    for a, b in zip(first, again, strict=True):
        assert a.marks.keys() == b.marks.keys()
        assert all(same(a.marks[n], b.marks[n]) for n in a.marks)
        assert all(np.array_equal(a.marks[n].bins, b.marks[n].bins) for n in a.marks)
    # A new card, a damaged file, a card that is another one now: only these are measured.
    pack.save(run / "cards" / "new.card", cards.sampled(SPEC, 0.3, binary=True), SPEC, {})
    pack.save(run / "cards" / "0.2.card", cards.sampled(SPEC, 0.25, binary=True), SPEC, {})
    kept = next((run / "corruptions").glob("*/0.5/fog.npz"))
    kept.write_bytes(kept.read_bytes()[:-100])
    anew, said = evaluate([run], source(files))
    assert asked == [3] and said[0].startswith("2 of 5 cards were evaluated before on ")
    by_name = {s.name: s for s in anew}
    assert same(by_name["0.5"].marks["fog"], first[1].marks["fog"])
    assert not same(by_name["0.2"].marks["fog"], first[0].marks["fog"])


def test_other_corruptions_and_other_images_are_measured_anew(files, run):
    evaluate([run], source(files))
    found, said = evaluate([run], source(files, "fog", "frost"))
    assert set(found[0].marks) == {"clean", "fog", "frost"} and not said
    fewer, said = evaluate([run], source(files, count=20))
    assert fewer[0].marks["fog"].correct.shape == (5, 20) and not said


def test_an_interrupted_evaluation_goes_on(files, run, monkeypatch):
    whole = source(files)

    def stops(name, first, count):
        if name == "contrast":
            raise KeyboardInterrupt
        return whole.read(name, first, count)

    broken = corrupted.Source(**vars(whole) | {"read": stops})
    with pytest.raises(KeyboardInterrupt):
        evaluate([run], broken)
    asked = []
    read = lambda name, *place: asked.append(name) or whole.read(name, *place)
    evaluate([run], corrupted.Source(**vars(whole) | {"read": read}))
    assert asked == ["contrast"]


def test_a_card_outside_of_a_run_leaves_nothing_behind(files, run, tmp_path):
    shutil.copy(run / "cards" / "0.5.card", tmp_path / "alone.card")
    before = sorted(tmp_path.iterdir())
    found, _ = evaluate([tmp_path / "alone.card"], source(files))
    assert found[0].name == "alone" and sorted(tmp_path.iterdir()) == before


def test_cards_that_do_not_fit_are_refused(files, run, tmp_path):
    large = models.Spec("conv2", 4, 4, image_HWC=(16, 16, 3))
    pack.save(tmp_path / "a.card", cards.sampled(large, 0.5, binary=True), large, {})
    with pytest.raises(ConfigError, match="a.card: the card takes images .16, 16, 3., the clean"):
        evaluate([tmp_path / "a.card"], source(files))
    few = models.Spec("conv2", 4, 3, image_HWC=(8, 8, 3))
    pack.save(tmp_path / "a.card", cards.sampled(few, 0.5, binary=True), few, {})
    with pytest.raises(ConfigError, match="has 3 classes, a label is 3"):
        evaluate([tmp_path / "a.card"], source(files))


def test_answers_that_are_not_finite_are_wrong():
    """argmax takes them for class 0, which half of these images are."""
    labels = np.array([0, 0, 0, 1], np.int32)
    images = np.zeros((4, 8, 8, 3), np.uint8)
    lost = lambda x: jnp.full((len(x), 2), jnp.nan)
    assert clean.measure(lost, images, labels, np.int32([0, 2]), 2)["correct"] == 0
    found = answers.measure(lost, images, labels, 2)
    one = Marks.of(
        *(np.asarray(found[k])[None] for k in ("predicted", "confidence", "loss")), labels
    )
    assert one.accuracy == 0
    s = fourier.Settings((4.0,), 4)
    wrong = fourier.wrong(lost, s, 4, 8, 0, 1, *map(jnp.asarray, (images, labels, [4.0], 0, 0, 8)))
    assert np.asarray(wrong).all()
