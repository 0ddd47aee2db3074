"""Size and statistics of uint8 images."""

import numpy as np
from PIL import Image


def fitted(image: Image.Image, size: int) -> Image.Image:
    """The largest centred square of an image, `size` pixels a side."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    # Pillow widens the bilinear filter when it shrinks, so shrinking averages over areas.
    return square.resize((size, size), Image.Resampling.BILINEAR)


def resized(images_NHWC: np.ndarray, size: int | None) -> np.ndarray:
    """The images (uint8, three channels) at `size` pixels a side; the array itself if it is so."""
    if size is None or images_NHWC.shape[1:3] == (size, size):
        return images_NHWC
    out = np.empty((len(images_NHWC), size, size, 3), np.uint8)
    for i, image in enumerate(images_NHWC):
        out[i] = fitted(Image.fromarray(image), size)
    return out


def mean_and_std(images_NHWC: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel in [0, 1] units, from exact integer counts."""
    means, stds = [], []
    for channel in range(images_NHWC.shape[-1]):
        # In pieces, because bincount widens its input to eight bytes a pixel.
        pieces = np.array_split(images_NHWC[..., channel], len(images_NHWC) // 1024 + 1)
        counts = sum(np.bincount(piece.ravel(), minlength=256) for piece in pieces)
        total, levels = counts.sum(), np.arange(256)
        mean = (counts @ levels) / total
        # A constant channel would be divided by zero; half a grey level is below every real spread.
        std = max((counts @ (levels - mean) ** 2 / total) ** 0.5, 0.5)
        means.append(round(float(mean / 255), 6))
        stds.append(round(float(std / 255), 6))
    return tuple(means), tuple(stds)
