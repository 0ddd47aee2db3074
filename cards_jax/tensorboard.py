"""Metric rows as TensorBoard reads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cards_jax.plain import plain


class TensorBoard:
    """Metric rows as TensorBoard scalars: one TensorBoard run per realization.

    `start_step` hides what an earlier run wrote past its last checkpoint. Raises ImportError where
    tensorboardX is not installed.
    """

    scalars = ("loss", "accuracy", "lr", "alive")

    def __init__(self, folder: str | Path, start_step: int | None = None, active: bool = True):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError(
                'TensorBoard output needs tensorboardX: pip install "cards_jax[tensorboard]"'
            ) from None
        self.active = active
        self._open = lambda run: SummaryWriter(str(Path(folder) / run), purge_step=start_step)
        self._writers = {}

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Writes each finite scalar of the rows under `<split>/<name>` at the row's step."""
        if not self.active:
            return
        for row in rows:
            run = str(row["realization"])
            if run not in self._writers:
                self._writers[run] = self._open(run)
            for name in self.scalars:
                value = plain(row.get(name))
                if value is not None:
                    tag = f"{row['split']}/{name}" if "split" in row else name
                    self._writers[run].add_scalar(tag, float(value), int(row["step"]))
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
