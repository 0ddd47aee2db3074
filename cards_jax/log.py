"""What a run says: printed, and kept."""

import sys
from datetime import UTC, datetime
from pathlib import Path

from cards_jax.progress import Progress, emit


class RunLog:
    """What a run says: printed, and kept with UTC time stamps in log.txt."""

    def __init__(self, folder: str | Path, active: bool = True):
        self.path = Path(folder) / "log.txt"
        self.active = active
        self.progress: Progress | None = None  # cleared off the terminal before a line is printed
        if active:
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def say(self, text: str) -> None:
        """Prints the text to stdout and appends it to log.txt.

        A log that cannot be written (full disk) is said on stderr and stops nothing.
        """
        if not self.active:
            return
        if self.progress is not None:
            self.progress.clear()
        emit(sys.stdout, text + "\n")
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        lines = "".join(f"{stamp} {line}\n" for line in text.splitlines() or [""])
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(lines)
        except OSError as error:
            emit(sys.stderr, f"cannot write {self.path}: {error.strerror}\n")
