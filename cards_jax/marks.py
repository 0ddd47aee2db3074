"""What one card did on each corruption: its answer to every image, kept in a file so that it is measured once."""

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Self

import numpy as np

from cards_jax import files
from cards_jax.evaluate import calibration

CLEAN = "clean"  # in the place of a corruption; it has one severity
FORMAT = 1
MOST = 2**32  # bytes that a file may unpack to


@dataclasses.dataclass(frozen=True, eq=False)
class Marks:
    """On one corruption, or on clean images (S = 1).

    predicted: uint8 or uint16 (S, N). correct: bool (S, N). loss: float64 (S,), mean cross-entropy.
    bins: float64 (S, BINS, 3), see evaluate/calibration.py.
    """

    predicted: np.ndarray
    correct: np.ndarray
    loss: np.ndarray
    bins: np.ndarray

    @property
    def accuracy(self) -> np.ndarray:
        """(S,), fractions."""
        return self.correct.mean(1)

    @property
    def calibration_error(self) -> np.ndarray:
        """(S,), fractions."""
        return calibration.error(self.bins)

    @classmethod
    def of(
        cls, predicted_SN: np.ndarray, confidence_SN: np.ndarray, loss_SN: np.ndarray, labels_N
    ) -> Self:
        """From what evaluate/answers.py gives for every image."""
        correct = predicted_SN == labels_N
        bins = [calibration.bins(*pair) for pair in zip(confidence_SN, correct, strict=True)]
        small = predicted_SN.astype(np.uint8 if predicted_SN.max(initial=0) < 256 else np.uint16)
        return cls(small, correct, loss_SN.mean(1, dtype=np.float64), np.stack(bins))


FIELDS = tuple(f.name for f in dataclasses.fields(Marks))


def place(card: Path, identity: str) -> Path | None:
    """Folder of a card's marks on a source: beside the cards/ of its run, None for a card that is in no run."""
    if card.parent.name != "cards":
        return None
    return card.parent.parent / "corruptions" / identity / card.stem


def write(path: Path, card_sha256: str, one: Marks) -> None:
    """Keep the marks of a card on one corruption, whole or not at all; OSError where they cannot be written."""
    arrays = {field: getattr(one, field) for field in FIELDS}
    arrays["correct"] = np.packbits(one.correct, -1)
    header = {"format": FORMAT, "card": card_sha256, "sha256": _sums(arrays)}
    header = np.frombuffer(json.dumps(header).encode(), np.uint8)
    files.deliver_arrays(path, header=header, **arrays)


def read(path: Path, card_sha256: str) -> Marks | None:
    """What `write` kept of this very card; None where there is nothing, or it is damaged or of another card."""
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > MOST:
                return None
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(file["header"].tobytes())
            arrays = {field: file[field] for field in FIELDS}
        known = header["format"] == FORMAT and header["card"] == card_sha256
        if not known or header["sha256"] != _sums(arrays):
            return None
        count = arrays["predicted"].shape[1]
        return Marks(
            **arrays | {"correct": np.unpackbits(arrays["correct"], -1, count).astype(bool)}
        )
    except Exception:  # zipfile, zlib, json and numpy raise a dozen kinds on damaged bytes
        return None


def _sums(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    return {k: hashlib.sha256(np.ascontiguousarray(x)).hexdigest() for k, x in arrays.items()}
