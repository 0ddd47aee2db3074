"""The spectrum against its definition, and distances against a KD-tree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KDTree

from cards_jax import spectrum
from cards_jax.spectrum import Spectrum


def naive(image: np.ndarray, colour: str, binning: str, last: int) -> np.ndarray:
    """Mean of |FFT|^2 over rings, on the whole centred plane, in float64."""
    image = image.astype(np.float64) / (255 if image.dtype == np.uint8 else 1)
    planes = [image @ spectrum.LUMA] if colour == "luma" else np.moveaxis(image, -1, 0)
    power = np.mean([np.abs(np.fft.fftshift(np.fft.fft2(p))) ** 2 for p in planes], 0)
    H, W = power.shape
    y, x = np.mgrid[:H, :W]
    distance = np.hypot(y - H // 2, x - W // 2)
    radius = np.round(distance) if binning == "round" else np.floor(distance)
    return np.array([power[radius == r].mean() for r in range(last + 1)])


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("colour", spectrum.COLOURS)
@pytest.mark.parametrize("binning", spectrum.BINNINGS)
@pytest.mark.parametrize("shape", [(32, 32), (9, 12), (8, 7)])
def test_power_is_the_mean_over_rings(images, colour, binning, shape):
    image = images[0, : shape[0], : shape[1]]
    wanted = naive(image, colour, binning, min(shape) // 2)
    found = Spectrum(colour, binning).power(image)
    np.testing.assert_allclose(found, wanted, rtol=2e-5)
    of_floats = Spectrum(colour, binning).power(image / np.float32(255))
    np.testing.assert_allclose(of_floats, found, rtol=1e-5)


def test_all_rings_with_the_corner(images):
    wanted = naive(images[0], "luma", "round", 23)
    np.testing.assert_allclose(Spectrum(last=23).power(images[0]), wanted, rtol=2e-5)
    with pytest.raises(ValueError, match="last=24: images of 32 x 32 have radii up to 23"):
        Spectrum(last=24).power(images[0])


def test_features_are_normalised_reciprocals(images):
    found = spectrum.features(images, Spectrum("channels", "floor", 22))
    wanted = np.array([1 / naive(image, "channels", "floor", 22) for image in images])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert found.shape == (6, 23) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_features_equal_those_of_a_transform(images):
    """Smooth images, whose high frequencies are a millionth of their mean, and noise: as near as float32 comes."""
    waves = np.cumsum(np.cumsum(images.astype(float), 1), 2)
    smooth = np.uint8(255 * waves / waves.max((1, 2, 3), keepdims=True))
    for given in (images, smooth):
        for spectrum_ in (Spectrum(), Spectrum("channels", "floor", 22)):
            fft = []
            for image in given:
                planes = np.moveaxis(image / 255, -1, 0)
                planes = [image / 255 @ spectrum.LUMA] if spectrum_.colour == "luma" else planes
                power = np.mean([np.abs(np.fft.fft2(p)) ** 2 for p in planes], 0)
                v = np.fft.fftfreq(32, 1 / 32)
                distance = np.hypot(v[:, None], v[None])
                radius = getattr(np, spectrum_.binning)(distance)
                rings = range((spectrum_.last or 16) + 1)
                fft.append(1 / np.array([power[radius == r].mean() for r in rings]))
            wanted = fft / np.linalg.norm(fft, axis=1, keepdims=True)
            np.testing.assert_allclose(spectrum.features(given, spectrum_), wanted, atol=2e-5)


def test_a_wave_lies_in_its_ring():
    y, x = np.mgrid[:32, :32]
    wave = 0.5 + 0.2 * np.cos(2 * np.pi * (3 * x + 4 * y) / 32)
    power = np.array(Spectrum().power(np.float32(wave)[..., None]))
    assert power[1:].argmax() + 1 == 5 and power[5] > 1e6 * np.delete(power, [0, 5]).max()


@pytest.mark.parametrize("colour", [(0.3, 0.3, 0.3), (0.9, 0.3, 0.1)])
@pytest.mark.parametrize("side", [8, 28, 32, 96])
def test_an_image_of_one_colour_has_no_features(side, colour):
    flat = np.full((side, side, 3), colour, np.float32)
    assert not np.isfinite(Spectrum()(flat)).any()
    assert np.isfinite(Spectrum()(flat.copy() * np.linspace(0.5, 1, side)[:, None, None])).all()


def test_noise_is_flatter_than_a_smooth_image():
    rng = np.random.default_rng(0)
    noise = rng.random((32, 32, 3))
    smooth = noise.cumsum(0).cumsum(1) / 1024
    of_noise, of_smooth = spectrum.features(np.float32([noise, smooth]), Spectrum())
    assert of_smooth[-1] > 0.5 and of_noise[-1] < 0.5


def test_distances_equal_a_kd_tree():
    rng = np.random.default_rng(0)
    unit = lambda x: np.float32(x / np.linalg.norm(x, axis=-1, keepdims=True))
    references = unit(rng.random((5000, 17)) ** 4)
    batches = unit(rng.random((1000, 20, 17)) ** 4)
    wanted, _ = KDTree(references).query(batches.mean(1))
    found = jax.lax.map(lambda batch: spectrum.nearest(references, batch), jnp.asarray(batches))
    np.testing.assert_allclose(found, wanted[:, 0], rtol=1e-5)


def test_small_distances_do_not_cancel():
    reference = np.float32([[0.6, 0.8]])
    found = spectrum.nearest(reference, reference + np.float32([[1e-5, 0]]))
    np.testing.assert_allclose(found, 1e-5, rtol=1e-2)


@pytest.mark.parametrize("wrong", [{"colour": "red"}, {"binning": "ceil"}])
def test_unknown_settings_are_named(wrong):
    field, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{field}='{value}': allowed are"):
        Spectrum(**wrong)
