"""Corruptions as they are usually made: image by image in NumPy, SciPy, OpenCV, scikit-image and Pillow.

Each takes a square image, uint8 (H, H, 3), a severity from 1 to 5 and a numpy generator or RandomState, and
follows the authors' recipe with the constants of cards_jax. Needs opencv-python-headless and scikit-image,
which cards_jax itself does not.
"""

import io

import cv2
import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import color, filters

from cards_jax.corruptions import blur, digital, frost, noise, weather
from cards_jax.corruptions.severity import rows


def _at(table, image, severity):
    return rows(table, len(image))[severity - 1]


def _bytes(unit) -> np.ndarray:
    return (np.clip(unit, 0, 1) * 255).astype(np.uint8)


def gaussian_noise(image, severity, rng):
    return _bytes(
        image / 255 + rng.normal(size=image.shape, scale=_at(noise.GAUSSIAN_SIGMA, image, severity))
    )


def speckle_noise(image, severity, rng):
    x = image / 255
    return _bytes(
        x + x * rng.normal(size=image.shape, scale=_at(noise.SPECKLE_SIGMA, image, severity))
    )


def shot_noise(image, severity, rng):
    counts = _at(noise.SHOT_COUNTS, image, severity)
    return _bytes(rng.poisson(image / 255 * counts) / counts)


def impulse_noise(image, severity, rng):
    amount = _at(noise.IMPULSE_AMOUNT, image, severity)
    hit = rng.choice([True, False], size=image.shape, p=[amount, 1 - amount])
    salt = rng.choice([True, False], size=image.shape, p=[0.5, 0.5])
    return np.where(hit, np.where(salt, 255, 0), image).astype(np.uint8)


def gaussian_blur(image, severity, rng):
    return _bytes(_smooth(image / 255, _at(blur.GAUSSIAN_SIGMA, image, severity)))


def _smooth(unit, sigma, **how):
    return filters.gaussian(unit, sigma=sigma, channel_axis=-1 if unit.ndim == 3 else None, **how)


def defocus_blur(image, severity, rng):
    radius, sigma = _at(blur.DEFOCUS, image, severity)
    most = max(8, int(radius))
    y, x = np.mgrid[-most : most + 1, -most : most + 1]
    disc = (x**2 + y**2 <= radius**2).astype(np.float32)
    width = 3 if radius <= 8 else 5
    kernel = cv2.GaussianBlur(disc / disc.sum(), (width, width), sigma)
    return _bytes(
        np.stack([cv2.filter2D(c, -1, kernel) for c in np.moveaxis(image / 255, -1, 0)], -1)
    )


def glass_blur(image, severity, rng):
    sigma, reach = _at(blur.GLASS_SIGMA, image, severity), _at(blur.GLASS_REACH, image, severity)
    x = (_smooth(image / 255, sigma) * 255).astype(np.uint8)
    for _ in range(_at(blur.GLASS_ROUNDS, image, severity)):
        for row in range(len(x) - reach, reach, -1):
            for column in range(len(x) - reach, reach, -1):
                right, down = rng.randint(-reach, reach, size=2)
                x[row, column] = x[row + down, column + right]
    return _bytes(_smooth(x / 255, sigma))


def motion_blur(image, severity, rng):
    return _streaked(image, *_at(blur.MOTION, image, severity), rng.uniform(-45, 45))


def _streaked(image, radius, sigma, angle):
    """ImageMagick's motion blur as a correlation: 16-bit sums, cut off to 8 bits."""
    steps = np.arange(2 * int(np.ceil(radius)) + 1)
    taps = np.exp(-(steps**2) / (2 * sigma**2))
    reach = len(steps) - 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    turn = np.deg2rad(angle)
    rows = np.ceil(steps * np.sin(turn) - 0.5).astype(int) + reach
    columns = np.ceil(steps * np.cos(turn) - 0.5).astype(int) + reach
    np.add.at(kernel, (rows, columns), taps / taps.sum())
    total = cv2.filter2D(image * 257.0, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    return (np.floor(total + 0.5) // 257).astype(np.uint8)


def zoom_blur(image, severity, rng):
    end, step = _at(blur.ZOOM, image, severity)
    x = (image / 255).astype(np.float32)
    factors = np.arange(1, end, step)
    total = sum(_zoomed(x, factor) for factor in factors)
    return _bytes((x + total) / (len(factors) + 1))


def _zoomed(x, factor):
    inner = int(np.ceil(len(x) / factor))
    first = (len(x) - inner) // 2
    part = x[first : first + inner, first : first + inner]
    large = ndimage.zoom(part, (factor, factor) + (1,) * (x.ndim - 2), order=1)
    trim = (len(large) - len(x)) // 2
    return large[trim : trim + len(x), trim : trim + len(x)]


def snow(image, severity, rng):
    mean, spread, zoom, threshold, radius, sigma, weight = _at(weather.SNOW, image, severity)
    x = image.astype(np.float32) / 255
    layer = _zoomed(rng.normal(size=image.shape[:2], loc=mean, scale=spread), zoom)
    layer = _bytes(np.where(layer < threshold, 0, layer))
    layer = _streaked(layer, radius, sigma, rng.uniform(-135, -45))[..., None] / 255
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
    white = weight * x + (1 - weight) * np.maximum(x, grey * 1.5 + 0.5)
    return _bytes(white + layer + np.rot90(layer, k=2))


def frost_(image, severity, rng):
    mine, its = _at(weather.FROST, image, severity)
    textures, size = frost.textures(len(image)), len(image)
    number = rng.randint(5)
    height, width = textures.extents[number]
    row, column = rng.randint(0, height - size), rng.randint(0, width - size)
    piece = textures.pixels[number, row : row + size, column : column + size]
    return np.clip(mine * image + its * piece, 0, 255).astype(np.uint8)


def fog(image, severity, rng):
    amount, decay = _at(weather.FOG, image, severity)
    x = image / 255
    most = x.max()
    x = x + amount * _cloud(len(image), decay, rng)[..., None]
    return _bytes(x * most / (most + amount))


def _cloud(size, decay, rng):
    side = 1 << (size - 1).bit_length()
    heights, step, rough = np.zeros((side, side)), side, 100
    noisy = lambda total: total / 4 + rough * rng.uniform(-rough, rough, total.shape)
    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = noisy(pairs + np.roll(pairs, -1, 1))
        centres = heights[half::step, half::step]
        beside = corners + np.roll(corners, -1, 1) + centres + np.roll(centres, 1, 0)
        heights[::step, half::step] = noisy(beside)
        above = corners + np.roll(corners, -1, 0) + centres + np.roll(centres, 1, 1)
        heights[half::step, ::step] = noisy(above)
        step, rough = half, rough / decay
    heights -= heights.min()
    return (heights / heights.max())[:size, :size]


def brightness(image, severity, rng):
    x = color.rgb2hsv(image / 255)
    x[..., 2] = np.clip(x[..., 2] + _at(weather.BRIGHTNESS, image, severity), 0, 1)
    return _bytes(color.hsv2rgb(x))


def saturate(image, severity, rng):
    factor, offset = _at(digital.SATURATE, image, severity)
    x = color.rgb2hsv(image / 255)
    x[..., 1] = np.clip(x[..., 1] * factor + offset, 0, 1)
    return _bytes(color.hsv2rgb(x))


def contrast(image, severity, rng):
    x = image / 255
    mean = x.mean((0, 1), keepdims=True)
    return _bytes((x - mean) * _at(digital.CONTRAST, image, severity) + mean)


def jpeg_compression(image, severity, rng):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=_at(digital.JPEG_QUALITY, image, severity))
    return np.asarray(Image.open(file))


def pixelate(image, severity, rng):
    small = (int(len(image) * _at(digital.PIXELATE, image, severity)),) * 2
    shrunk = Image.fromarray(image).resize(small, Image.Resampling.BOX)
    return np.asarray(shrunk.resize(image.shape[:2], Image.Resampling.BOX))


def elastic_transform(image, severity, rng):
    size = len(image)
    amplitude, sigma, reach = (size * part for part in _at(digital.ELASTIC, image, severity))
    middle, third = size // 2, size // 3
    high, low = middle + third, middle - third
    start = np.float32([[high, high], [high, low], [low, low]])
    end = start + rng.uniform(-reach, reach, size=(3, 2)).astype(np.float32)
    x = cv2.warpAffine(
        image.astype(np.float32) / 255,
        cv2.getAffineTransform(start, end),
        (size, size),
        borderMode=cv2.BORDER_REFLECT_101,
    )
    field = lambda: (
        amplitude
        * _smooth(rng.uniform(-1, 1, size=(size, size)), sigma, mode="reflect", truncate=3)
    )
    right, down = field().astype(np.float32), field().astype(np.float32)
    rows, columns = np.mgrid[:size, :size]
    sample = lambda c: ndimage.map_coordinates(
        c, (rows + down, columns + right), order=1, mode="reflect"
    )
    return _bytes(np.stack([sample(c) for c in np.moveaxis(x, -1, 0)], -1))


def spatter(image, severity, rng):
    mean, spread, sigma, threshold, strength, is_mud = _at(weather.SPATTER, image, severity)
    x = image.astype(np.float32) / 255
    layer = _smooth(rng.normal(size=image.shape[:2], loc=mean, scale=spread), sigma)
    layer[layer < threshold] = 0
    if is_mud:
        cover = _smooth((layer > threshold).astype(np.float32), strength)
        cover[cover < 0.8] = 0
        cover = cover[..., None]
        return _bytes(x * (1 - cover) + cover * np.array(weather.MUD) / 255)
    layer = (layer * 255).astype(np.int32).astype(np.uint8)
    shade = cv2.distanceTransform(255 - cv2.Canny(layer, 50, 150), cv2.DIST_L2, 5)
    shade = cv2.blur(np.minimum(shade, 20), (3, 3)).astype(np.uint8)
    shade = cv2.filter2D(cv2.equalizeHist(shade), cv2.CV_8U, np.array(weather.RIPPLE))
    light = layer * cv2.blur(shade, (3, 3)).astype(np.float32)
    light = (light / max(light.max(), 1) * strength)[..., None]
    return _bytes(x + light * np.array(weather.WATER) / 255)


def find(name: str):
    """The function of a corruption."""
    return globals()["frost_" if name == "frost" else name]
