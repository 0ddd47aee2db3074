"""Fourier waves, their signs, and the sweep against a naive double loop."""

import cards
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cards_jax import fourier, hand, pack
from cards_jax.evaluate import fourier as evaluate

SIZES = [(8, 8), (32, 32), (7, 8), (5, 9), (6, 1)]


def all_waves(H, W, phase=fourier.PHASE):
    make = jax.vmap(lambda u, v: fourier.wave(u, v, H, W, phase))
    return np.asarray(make(*fourier.frequencies(H, W).T))


def by_fft(H, W, i, j):
    """The authors' construction, in double precision: coefficients (1 + i) / 2 and its conjugate, normalised."""
    spectrum = np.zeros((H, W), complex)
    opposite = (2 * (H // 2) - i) % H, (2 * (W // 2) - j) % W
    spectrum[i, j] = 0.5 + 0.5j
    spectrum[opposite] = 1 if opposite == (i, j) else 0.5 - 0.5j
    wave = np.fft.ifft2(np.fft.ifftshift(spectrum)).real
    return wave / np.linalg.norm(wave)


@pytest.mark.parametrize("count, rows", [(1, 1000), (8, 1000), (100, 81), (10**5, 1)])
def test_many_cards_side_by_side_take_fewer_images_at_a_time(count, rows, monkeypatch):
    """On a GPU, whose memory they share."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    asked = []

    class Many:
        __len__ = lambda self: count

        def sums(self, f, shared):
            asked.append(f)
            return lambda images, labels, eps, *where: np.zeros((1, 10**5), np.uint8)

    images = np.zeros((1, 8, 8, 3), np.uint8)
    evaluate.counter(Many(), evaluate.Settings((4.0,), 1))(images, np.zeros(1), 0, 3)
    found = dict(zip(asked[0].__code__.co_freevars, asked[0].__closure__, strict=True))
    assert found["rows"].cell_contents == rows


def test_32_x_32_cells_have_514_waves():
    assert len(fourier.frequencies(32, 32)) == 514
    counts = np.bincount(fourier.mirror(32, 32).ravel())
    assert np.sum(counts == 1) == 4 and np.sum(counts == 2) == 510
    assert tuple(fourier.frequencies(32, 32)[fourier.mirror(32, 32)[16, 16]]) == (0, 0)


@pytest.mark.parametrize("H, W", SIZES)
def test_every_wave_is_that_of_the_authors_and_its_opposite_is_the_same(H, W):
    waves, mirror = all_waves(H, W), fourier.mirror(H, W)
    seen = set()
    for i in range(H):
        for j in range(W):
            k = mirror[i, j]
            assert k == mirror[(2 * (H // 2) - i) % H, (2 * (W // 2) - j) % W]
            if k not in seen:
                np.testing.assert_allclose(waves[k], by_fft(H, W, i, j), atol=2e-6)
            seen.add(k)
    assert seen == set(range(len(waves)))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SIZES), st.floats(-4, 4))
def test_norm_and_support_whatever_the_phase(size, phase):
    H, W = size
    waves = all_waves(H, W, phase)
    np.testing.assert_allclose(np.linalg.norm(waves, axis=(1, 2)), 1, atol=1e-5)
    power = np.abs(np.fft.fftshift(np.fft.fft2(waves), (1, 2)))
    cells = np.arange(len(waves))[:, None, None] == fourier.mirror(H, W)
    assert np.all((power > 0.1) == cells)


def test_signs_are_independent_and_do_not_depend_on_the_batch(key):
    draw = lambda w, i: fourier.signs(key, w, i, 3)
    both = np.asarray(
        jax.vmap(lambda w: jax.vmap(lambda i: draw(w, i))(np.arange(500)))(np.arange(8))
    )
    assert set(np.unique(both)) == {-1, 1} and abs(both.mean()) < 0.04
    np.testing.assert_array_equal(both[3, 77], draw(3, 77))
    columns = both.transpose(0, 2, 1).reshape(24, 500)
    others = np.corrcoef(columns)[~np.eye(24, dtype=bool)]
    assert np.abs(others).max() < 0.25
    assert not np.array_equal(
        fourier.signs(jax.random.key(1), 0, 0, 64), fourier.signs(key, 0, 0, 64)
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 513), st.floats(0.1, 20))
def test_the_norm_in_each_channel_is_eps_before_clipping(k, eps):
    u, v = fourier.frequencies(32, 32)[k]
    image = np.random.default_rng(k).random((32, 32, 3), np.float32)
    sign = np.float32([1, -1, 1])
    wave = fourier.wave(u, v, 32, 32)
    free = np.asarray(fourier.perturb(image, wave, sign, np.float32(eps), clip=False))
    np.testing.assert_allclose(np.linalg.norm(free - image, axis=(0, 1)), eps, rtol=1e-4)
    clipped = np.asarray(fourier.perturb(image, wave, sign, np.float32(eps)))
    np.testing.assert_array_equal(clipped, free.clip(0, 1))


def dealt(count):
    files = [cards.sampled(cards.SMALL, s, True) for s in np.linspace(0.2, 0.8, count)]
    return [pack.CardFile(card, cards.SMALL, {}) for card in files]


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (6, 8, 8, 3), np.uint8), rng.integers(0, 3, 6).astype(np.int32)


SETTINGS = evaluate.Settings(eps=(0.5, 3.0), images=6)


@pytest.fixture(scope="module")
def swept(problem):
    return evaluate.sweep(hand.stacked(dealt(3)), *problem, SETTINGS, rows=16)


def test_sweep_is_a_double_loop(problem, swept):
    images, labels = problem
    key, mirror = jax.random.key(SETTINGS.seed), fourier.mirror(8, 8)
    assert swept.shape == (3, 2, len(fourier.frequencies(8, 8)), 6) and swept.dtype == bool
    noisy = np.empty((2, 8, 8, *images.shape), np.float32)
    for i in range(8):
        for j in range(8):
            first = np.argwhere(mirror == mirror[i, j])[0]
            for n, image in enumerate(images / np.float32(255)):
                sign = np.asarray(fourier.signs(key, mirror[i, j], n, 3))
                noise = by_fft(8, 8, *first)[:, :, None] * sign
                for e, eps in enumerate(SETTINGS.eps):
                    noisy[e, i, j, n] = (image + eps * noise).clip(0, 1)
    for file, found in zip(dealt(3), swept, strict=True):
        logits = np.asarray(file.logits(noisy.reshape(-1, 8, 8, 3)))
        logits = logits.reshape(2, 8, 8, 6, -1)
        top = np.sort(logits, -1)
        sure = top[..., -1] - top[..., -2] > 1e-4  # rounding decides nothing
        assert sure.mean() > 0.9
        wanted = logits.argmax(-1) != labels  # (E, 8, 8, N)
        cells = found[:, mirror]
        np.testing.assert_array_equal(cells[sure], wanted[sure])
        errors = evaluate.errors(found, 8, 8)
        whole = sure.all(-1)
        np.testing.assert_allclose(errors[whole], wanted.mean(-1)[whole])
    assert 0 < swept.mean() < 1


def test_cards_alone_and_other_batches_count_the_same(problem, swept):
    alone = [evaluate.sweep(hand.stacked([f]), *problem, SETTINGS, rows=5)[0] for f in dealt(3)]
    assert np.mean(np.stack(alone) != swept) < 0.01  # some may be at a boundary
    later = evaluate.image_by_image(hand.stacked(dealt(3)), *problem, SETTINGS, first=4, rows=7)
    assert np.mean(np.concatenate(list(later), -1) != swept[..., 4:]) < 0.01


def test_one_program_serves_all_waves_and_norms(problem, monkeypatch):
    monkeypatch.setattr(evaluate, "PIECE_SECONDS", 1e-9)  # a wave at a time
    compiled = []
    listen = lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        one = hand.stacked(dealt(1))
        evaluate.sweep(one, *problem, SETTINGS, rows=7)
    finally:
        jax.monitoring.clear_event_listeners()
    assert 1 <= len(compiled) <= 3  # the sweep, and nothing per wave or norm


def test_numbers_by_image_have_the_maps_means():
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.2, 0.6, (len(fourier.frequencies(8, 8)), 1))
    wrong = rng.random((len(rates), 40)) < rates
    cells = evaluate.errors(wrong, 8, 8)
    assert evaluate.error_by_image(wrong, 8, 8).mean() == pytest.approx(cells.mean())
    found = evaluate.unevenness_by_image(wrong, 8, 8)
    pairs = np.cov(fourier.spread(wrong.T, 8, 8).reshape(40, -1), bias=True)
    variance = (pairs.sum() - np.trace(pairs)) / (40 * 39)
    assert found.shape == (40,) and found.mean() == pytest.approx(np.sqrt(variance))


def test_unevenness_has_no_part_of_few_images():
    rng = np.random.default_rng(1)
    rates = rng.uniform(0.2, 0.6, (len(fourier.frequencies(16, 16)), 1))
    true = fourier.spread(rates[:, 0], 16, 16).std()
    few = [
        evaluate.unevenness_by_image(rng.random((len(rates), 10)) < rates, 16, 16)
        for _ in range(200)
    ]
    plain = evaluate.errors(rng.random((len(rates), 10)) < rates, 16, 16).std()
    assert np.mean([f.mean() for f in few]) == pytest.approx(true, rel=0.05) and plain > 1.4 * true


def test_unevenness_by_image_is_its_derivative():
    """Of an image that is counted a little more often: what a bootstrap over images asks for."""
    rng = np.random.default_rng(2)
    rates = rng.uniform(0, 1, (len(fourier.frequencies(8, 8)), 1))
    wrong = rng.random((len(rates), 300)) < rates
    found = evaluate.unevenness_by_image(wrong, 8, 8)
    for n in (0, 7):
        more = evaluate.unevenness_by_image(np.concatenate([wrong, wrong[:, [n] * 3]], 1), 8, 8)
        wanted = found.mean() + 3 / 303 * (found[n] - found.mean())
        assert more.mean() - found.mean() == pytest.approx(wanted - found.mean(), abs=6e-5)


@pytest.mark.parametrize(
    "marks", [np.zeros((34, 5), bool), np.ones((34, 5), bool), np.eye(34, 1, dtype=bool)]
)
def test_a_flat_map_and_a_single_image_have_no_unevenness(marks):
    assert not evaluate.unevenness_by_image(marks, 8, 8).any()
