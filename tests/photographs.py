"""Pieces of the two photographs that scikit-learn brings along, as small square images."""

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image


def photographs(size: int, count: int) -> np.ndarray:
    """Images uint8 (count, size, size, 3), in turn from each photograph."""
    small = []
    for name in ("china.jpg", "flower.jpg"):
        picture = Image.fromarray(load_sample_image(name))
        height = max(2 * size, 96)
        small.append(np.asarray(picture.resize((height * 3 // 2, height))))
    pieces = []
    for number in range(count):
        picture, rng = small[number % 2], np.random.default_rng(number)
        row, column = (int(rng.integers(0, side - size)) for side in picture.shape[:2])
        pieces.append(picture[row : row + size, column : column + size])
    return np.stack(pieces)
