"""With fresh keys, corruptions change 1,000 lossless CIFAR-10 test images as much as the authors' code does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cards_jax import corruptions
from cards_jax.corruptions import frost

# Mean absolute change and PSNR in dB (of the mean squared change) at severities 1 to 5, by code that equals
# the authors' golden arrays bit for bit: several passes over the images where draws matter much.
REFERENCE = {
    "gaussian_noise": (
        (7.998, 28.07),
        (11.906, 24.60),
        (15.739, 22.18),
        (17.649, 21.18),
        (19.519, 20.31),
    ),
    "shot_noise": (
        (5.930, 30.32),
        (8.332, 27.37),
        (13.056, 23.50),
        (15.009, 22.29),
        (18.259, 20.60),
    ),
    "impulse_noise": (
        (1.274, 25.04),
        (2.544, 22.04),
        (3.825, 20.27),
        (6.387, 18.04),
        (8.918, 16.58),
    ),
    "defocus_blur": (
        (1.377, 41.87),
        (3.315, 34.05),
        (4.996, 30.46),
        (6.514, 28.14),
        (9.276, 25.10),
    ),
    "glass_blur": (
        (11.140, 21.18),
        (11.275, 21.29),
        (11.060, 22.02),
        (18.072, 18.07),
        (17.337, 18.67),
    ),
    "motion_blur": (
        (6.957, 26.93),
        (10.348, 23.67),
        (13.027, 21.87),
        (13.107, 21.82),
        (15.146, 20.69),
    ),
    "zoom_blur": (
        (8.753, 24.95),
        (10.305, 23.55),
        (12.302, 22.12),
        (14.357, 20.91),
        (16.330, 19.94),
    ),
    "snow": ((10.650, 25.58), (23.579, 19.60), (25.232, 18.45), (36.826, 15.69), (51.291, 13.12)),
    "frost": ((30.455, 17.92), (44.721, 14.54), (49.782, 13.38), (44.883, 14.12), (43.223, 14.18)),
    "fog": ((10.821, 25.70), (21.480, 19.74), (27.557, 17.57), (32.373, 16.15), (38.966, 14.53)),
    "brightness": (
        (10.030, 27.77),
        (20.295, 21.60),
        (30.101, 18.12),
        (39.350, 15.74),
        (55.869, 12.58),
    ),
    "contrast": (
        (10.680, 25.57),
        (21.351, 19.56),
        (25.621, 17.98),
        (29.890, 16.64),
        (36.295, 14.95),
    ),
    "elastic_transform": (
        (21.820, 17.06),
        (19.895, 17.79),
        (17.904, 18.69),
        (16.420, 19.40),
        (13.585, 20.99),
    ),
    "pixelate": ((1.779, 32.55), (3.397, 29.56), (4.130, 28.67), (6.216, 26.71), (8.631, 24.96)),
    "jpeg_compression": (
        (5.322, 30.64),
        (6.589, 28.87),
        (7.021, 28.34),
        (7.478, 27.82),
        (8.090, 27.17),
    ),
    "speckle_noise": (
        (5.686, 30.05),
        (9.346, 25.75),
        (11.136, 24.25),
        (14.695, 21.86),
        (18.159, 20.04),
    ),
    "gaussian_blur": (
        (1.334, 42.21),
        (4.902, 30.66),
        (6.269, 28.54),
        (7.431, 27.10),
        (9.446, 25.10),
    ),
    "spatter": ((1.019, 30.25), (2.748, 25.96), (6.744, 22.60), (3.046, 22.84), (5.090, 20.68)),
    "saturate": (
        (11.525, 21.63),
        (14.888, 19.42),
        (8.043, 25.32),
        (20.295, 18.30),
        (29.527, 15.24),
    ),
}
TOLERANCE = 0.03


@pytest.mark.slow
@pytest.mark.parametrize("name", REFERENCE)
def test_change_is_that_of_the_originals(name, data_dir, fixtures_dir):
    with np.load(data_dir / "cifar10_lossless_6k.npz") as file:
        images = file["test_images"]
    passes = 4 if corruptions.find(name).draw else 1
    clean = np.tile(images, (passes, 1, 1, 1))
    frost.use(fixtures_dir / "frost_textures.npz")
    try:
        for severity, expected in zip(corruptions.SEVERITIES, REFERENCE[name], strict=True):
            made = corruptions.corrupt(jax.random.key(severity), clean, name, severity)
            change = made.astype(jnp.float32) - clean
            psnr = 10 * np.log10(255**2 / jnp.mean(change**2))
            mine = (float(jnp.mean(jnp.abs(change))), float(psnr))
            np.testing.assert_allclose(
                mine, expected, rtol=TOLERANCE, err_msg=f"severity {severity}"
            )
    finally:
        frost.use(None)
