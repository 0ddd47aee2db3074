"""Textures of frost: from a folder, from an installed imagecorruptions wheel, or made up."""

import functools
import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from cards_jax.config import ConfigError
from cards_jax.corruptions.severity import rows

FILES = (
    "frost1.png",
    "frost2.png",
    "frost3.png",
    "frost4.jpg",
    "frost5.jpg",
)  # a sixth was never used
SHRINK = {32: 0.2, 64: 0.3, 224: 1.0}  # of the photographs, for images of a side
PACKED_SIDE = 32

_chosen: str | None = None


class Textures(NamedTuple):
    """Pixels, uint8 (5, H, W, 3), filled up with black; heights and widths, int32 (5, 2); where from."""

    pixels: np.ndarray
    extents: np.ndarray
    flavour: str


def use(path: str | Path | None) -> None:
    """Take textures from a folder that holds FILES, or from an .npz of five of them shrunk for 32 pixels.

    None goes back to an installed imagecorruptions wheel, else to made-up textures. Raises ConfigError
    where the path does not hold them.
    """
    global _chosen
    if path is not None:
        _check(Path(path))
    _chosen = None if path is None else str(Path(path).absolute())


def chosen() -> str | None:
    """The path given to `use`."""
    return _chosen


def flavour(size: int = 32) -> str:
    """Which textures `frost` uses at present, in words that belong beside every result."""
    return textures(size).flavour


def textures(size: int) -> Textures:
    """The textures for images of a side: all larger than it."""
    return _textures(size, _chosen)


@functools.lru_cache(maxsize=8)
def _textures(size: int, chosen: str | None) -> Textures:
    if chosen is not None:
        path = Path(chosen)
        found = _packed(path, size) if path.suffix == ".npz" else _photographs(path, size)
        # Two files of one name are told apart by what is in them, so that no measurement is taken for the other's.
        own = hashlib.sha256(b"".join(image.tobytes() for image in found)).hexdigest()[:8]
        return _stacked(found, f"{path.name} {own}")
    if (folder := _wheel()) is not None:
        version = importlib.metadata.version("imagecorruptions")
        return _stacked(_photographs(folder, size), f"imagecorruptions {version}")
    return _stacked([_made_up(size, number) for number in range(5)], "made up")


def _stacked(images: list[np.ndarray], flavour: str) -> Textures:
    extents = np.array([image.shape[:2] for image in images], np.int32)
    pixels = np.zeros((len(images), *extents.max(0), 3), np.uint8)
    for whole, image in zip(pixels, images, strict=True):
        whole[: image.shape[0], : image.shape[1]] = image
    return Textures(pixels, extents, flavour)


def _check(path: Path) -> None:
    if path.suffix == ".npz":
        _packed(path, PACKED_SIDE)
    elif missing := [name for name in FILES if not (path / name).is_file()]:
        raise ConfigError(
            f"frost: {str(path)!r} does not hold {missing[0]}; needed is a folder with {', '.join(FILES)}"
        )


def _packed(path: Path, size: int) -> list[np.ndarray]:
    names = [f"t{number}" for number in range(5)]
    try:
        with np.load(path, allow_pickle=False) as file:
            images = [file[name] for name in names]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ConfigError(
            f"frost: {str(path)!r} does not hold five textures {', '.join(names)} ({error})"
        ) from None
    wrong = [image.shape for image in images if image.dtype != np.uint8 or image.shape[2:] != (3,)]
    if wrong:
        raise ConfigError(f"frost: a texture in {str(path)!r} is no uint8 RGB image but {wrong[0]}")
    if min(min(image.shape[:2]) for image in images) <= size:
        raise ConfigError(
            f"frost: the textures in {str(path)!r} are too small for images of {size} pixels a side; "
            f"name a folder with {', '.join(FILES)}"
        )
    return images


def _photographs(folder: Path, size: int) -> list[np.ndarray]:
    return [_shrunk(folder / name, size) for name in FILES]


def _shrunk(path: Path, size: int) -> np.ndarray:
    """A photograph, linearly interpolated between pixel centres (no averaging, as it was published)."""
    try:
        with Image.open(path) as file:
            photograph = np.asarray(file.convert("RGB"), np.float32)
    except OSError as error:
        raise ConfigError(f"frost: {str(path)!r} cannot be read ({error})") from None
    factor = rows(SHRINK, size)
    factor = max(
        factor, (size + 1.5) / min(photograph.shape[:2])
    )  # larger than the image in any case
    shrunk = _sampled(_sampled(photograph, factor).swapaxes(0, 1), factor).swapaxes(0, 1)
    return np.rint(shrunk).astype(np.uint8)


def _sampled(image: np.ndarray, factor: float) -> np.ndarray:
    length = len(image)
    position = ((np.arange(round(length * factor)) + 0.5) / factor - 0.5).clip(0, length - 1)
    low = np.minimum(position.astype(int), length - 2)
    weight = (position - low)[:, None, None].astype(np.float32)
    return image[low] * (1 - weight) + image[low + 1] * weight


def _wheel() -> Path | None:
    """The folder of textures of an installed imagecorruptions wheel, which is not imported."""
    found = importlib.util.find_spec("imagecorruptions")
    if found is None or not found.origin:
        return None
    folder = Path(found.origin).parent / "frost"
    return folder if all((folder / name).is_file() for name in FILES) else None


def _made_up(size: int, number: int) -> np.ndarray:
    """A pattern of crystals with the brightness, tint, contrast and grain of one of the photographs."""
    side = 3 * size
    rng = np.random.default_rng((number, 2019))
    mean, spread, tint = MADE_UP[number]
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = np.inf

    def noise(slope: float) -> np.ndarray:
        spectrum = np.fft.fft2(rng.standard_normal((side, side))) / frequency**slope
        values = np.fft.ifft2(spectrum).real
        return values / values.std()

    needles = -np.abs(noise(1.0))  # bright along the lines where noise changes its sign
    pattern = needles / needles.std() + noise(0.7)
    light = mean + spread * (pattern - pattern.mean()) / pattern.std()
    return np.clip(light[..., None] * np.array(tint), 0, 255).astype(np.uint8)


# Mean and standard deviation of grey, and the channels relative to it; two of the photographs are alike.
MADE_UP = (
    (130.8, 17.9, (0.593, 1.14, 1.267)),
    (206.9, 22.0, (0.971, 0.993, 1.037)),
    (206.9, 22.0, (0.971, 0.993, 1.037)),
    (152.3, 29.3, (0.906, 1.006, 1.087)),
    (123.4, 43.0, (0.91, 0.999, 1.091)),
)
