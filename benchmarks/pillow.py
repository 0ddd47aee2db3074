"""AugMix as the original makes it: image by image, in Pillow and NumPy."""

import numpy as np


def pillow_views(rng: np.random.Generator, image, severity: float = 3.0, first: bool = True):
    """The image, flipped and cropped, and two mixtures of it: float32 (3, H, W, C) in [0, 1].

    image: a PIL image. first: whether it is flipped and cropped at all.
    """
    from PIL import Image, ImageOps

    if first:
        W, H = image.size
        image = ImageOps.mirror(image) if rng.random() < 0.5 else image
        padded = Image.new("RGB", (W + 8, H + 8))
        padded.paste(image, (4, 4))
        x, y = rng.integers(0, 9, 2)
        image = padded.crop((x, y, x + W, y + H))
    clean = np.asarray(image, np.float32) / np.float32(255)
    return np.stack([clean, *(_pillow_mixture(rng, image, clean, severity) for _ in range(2))])


def _pillow_mixture(rng, image, clean: np.ndarray, severity: float) -> np.ndarray:
    weights, share = rng.dirichlet([1, 1, 1]), rng.random()
    mixture = np.zeros_like(clean)
    for weight in weights:
        chain = image
        for _ in range(rng.integers(1, 4)):
            operation, level = rng.integers(9), rng.uniform(0.1, severity)
            chain = pillow_step(chain, operation, level, rng.choice((-1, 1)))
        mixture += np.float32(weight) * (np.asarray(chain, np.float32) / np.float32(255))
    return (1 - share) * clean + share * mixture


def pillow_step(image, operation: int, level: float, sign: int):
    """One operation of AugMix on a PIL image; numbered as in cards_jax.augment.augmix.OPERATIONS."""
    from PIL import Image, ImageOps

    part = lambda most: int(level * most / 10)
    if operation < 4:
        return (
            lambda: ImageOps.autocontrast(image),
            lambda: ImageOps.equalize(image),
            lambda: ImageOps.posterize(image, 4 - part(4)),
            lambda: ImageOps.solarize(image, 256 - part(256)),
        )[operation]()
    if operation == 4:
        return image.rotate(sign * part(30), resample=Image.BILINEAR)
    W, H = image.size
    shear, right, down = sign * level * 0.03, sign * part(W / 3), sign * part(H / 3)
    matrix = (
        (1, shear, 0, 0, 1, 0),
        (1, 0, 0, shear, 1, 0),
        (1, 0, right, 0, 1, 0),
        (1, 0, 0, 0, 1, down),
    )[operation - 5]
    return image.transform(image.size, Image.AFFINE, matrix, resample=Image.BILINEAR)
