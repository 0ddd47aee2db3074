"""Which waves of one norm fool one card, image by image, in a file beside its run: so it is measured once."""

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from cards_jax import files, fourier
from cards_jax.data import Data
from cards_jax.evaluate.fourier import Settings

FORMAT = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Place:
    """Where wrong answers bool (D, N) to the waves of one norm are kept, of the first N images of a test set.

    N may grow from one writing to the next: signs of the noise do not depend on it. path: None of a card in no run,
    whose answers are not kept. about: what they depend on.
    """

    path: Path | None
    about: dict[str, Any]
    waves: int

    @classmethod
    def of(cls, card: Path, card_sha256: str, d: Data, s: Settings, norm: float) -> "Place":
        """Beside the cards/ of the card's run."""
        own = {"norm": norm, "phase": s.phase, "clip": s.clip, "seed": s.seed}
        about = {"format": FORMAT, "data": d.fingerprint, **own}
        name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
        run = card.parent.parent if card.parent.name == "cards" else None
        path = run and run / "heatmaps" / name / f"{card.stem}.npz"
        return cls(
            path, about | {"card": card_sha256}, len(fourier.frequencies(*d.test_images.shape[1:3]))
        )

    def read(self) -> np.ndarray:
        """What `write` kept of this very card; of no image where there is nothing, or it is damaged."""
        nothing = np.zeros((self.waves, 0), bool)
        if self.path is None or not self.path.is_file():
            return nothing
        try:
            with np.load(io.BytesIO(self.path.read_bytes()), allow_pickle=False) as held:
                bits, header = held["wrong"], json.loads(held["header"].tobytes())
            if header != self._header(bits, header["images"]):
                return nothing
            return np.unpackbits(bits, -1, header["images"]).astype(bool).reshape(self.waves, -1)
        except Exception:  # zipfile, zlib, json and numpy raise a dozen kinds on damaged bytes
            return nothing

    def write(self, wrong: np.ndarray) -> None:
        """Keep bool (D, N), whole or not at all; OSError where it cannot be written."""
        if self.path is None:
            return
        bits = np.packbits(wrong, -1)
        header = json.dumps(self._header(bits, wrong.shape[1])).encode()
        files.deliver_arrays(self.path, header=np.frombuffer(header, np.uint8), wrong=bits)

    def _header(self, bits: np.ndarray, images: int) -> dict[str, Any]:
        digest = hashlib.sha256(np.ascontiguousarray(bits)).hexdigest()
        return {**self.about, "images": images, "sha256": digest}
