"""Clean and corruption accuracy of any classifier, in the manner of RobustBench."""

import dataclasses
import difflib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from cards_jax import data as data_sources
from cards_jax import published, robust_summary, scores, tabular
from cards_jax.config import ConfigError
from cards_jax.corruptions import BENCHMARK, SEVERITIES
from cards_jax.data import corrupted
from cards_jax.data.corrupted import Clean, Source
from cards_jax.marks import CLEAN, Marks

FORMS = ("uint8", "float")
ROUNDED = 1e-2  # what probabilities in half precision may miss a sum of 1 by
OUTPUTS = ("auto", "logits", "probabilities")
Predict = Callable[[np.ndarray], Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Standing:
    """Where a classifier stands. Accuracies are fractions; `str()` is a table.

    source: what the images are, in words. clean: accuracy on clean images. corrupted: mean over the 15 corruptions x 5
    severities, None where not all were measured. means: of extras, of bar, of families. accuracies, calibration_errors:
    {corruption: one for each severity}. published: {entry of RobustBench: its mean}, where the images are CIFAR-10-C.
    """

    source: str
    images: int
    clean: float
    corrupted: float | None
    means: dict[str, float]
    accuracies: dict[str, tuple[float, ...]]
    calibration_errors: dict[str, tuple[float, ...]]
    published: dict[str, float]

    def rows(self) -> list[dict[str, Any]]:
        """One for each corruption: its mean and each severity, fractions."""
        return [
            {"corruption": name, "mean": float(np.mean(row))}
            | {f"severity {s}": x for s, x in zip(SEVERITIES, row, strict=True)}
            for name, row in self.accuracies.items()
        ]

    def __str__(self) -> str:
        percent = lambda row: {
            k: v if isinstance(v, str) else f"{100 * v:.2f}" for k, v in row.items()
        }
        rows = [percent(row) for row in self.rows()]
        lines = [f"{self.source}; {self.images:,} images; accuracies in percent", ""]
        lines += [tabular.markdown_table(rows, list(rows[0]))] if rows else []
        lines += [f"clean {100 * self.clean:.2f}"]
        if self.corrupted is not None:
            cells = f"{len(BENCHMARK)} x {len(SEVERITIES)}"
            lines += [f"corrupted {100 * self.corrupted:.2f} (mean over {cells})"]
        lines += [f"{k.replace('_', ' ')} {100 * v:.2f}" for k, v in self.means.items()]
        lines += [f"RobustBench {k} {100 * v:.2f}" for k, v in self.published.items()]
        return "\n".join(lines)


def benchmark(
    predict: Predict,
    data: str = "cifar10",
    data_dir: str | None = None,
    corruptions: Sequence[str] | str = "benchmark",
    corruptions_dir: str | None = None,
    *,
    title: str | None = None,
    images: int = 0,
    image_size: int | None = None,
    batch_size: int = 500,
    form: str = "uint8",
    channels_first: bool = False,
    outputs: str = "auto",
    seed: int = 0,
    download: bool = False,
    cache_dir: str | None = None,
    progress: bool = True,
) -> Standing:
    """Measure any classifier on clean and corrupted images.

    Args:
      predict: numpy images (B, H, W, C) to anything that becomes a numpy array (B, K): logits or probabilities.
      data, data_dir, image_size: the clean test set, as the config fields `data.*`.
      corruptions: sets "benchmark", "extra", "bar", or names of corruptions.
      corruptions_dir: CIFAR-10-C as a folder, a .tar, a tfds folder or "published"; None makes corruptions of the clean
        images with `seed`, and the result says so.
      title: name for people of the data, where its source has none ("folder").
      images: the first so many of each severity, 0 is all.
      form, channels_first: what predict gets: "uint8", or "float" in [0, 1]; (B, C, H, W) instead.
      outputs: "logits" or "probabilities"; "auto" looks whether the first batch's rows are non-negative and
        add up to 1.
      download, cache_dir: whether published data may be fetched, and where it is kept.

    Raises ConfigError for data or corruptions that are not there, ValueError for a predict of another shape.
    """
    _one_of("form", form, FORMS)
    _one_of("outputs", outputs, OUTPUTS)
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: allowed is 1 or more")
    if data not in data_sources.names():
        near = difflib.get_close_matches(data, data_sources.names(), 1, 0)[0]
        allowed = ", ".join(data_sources.names())
        raise ConfigError(f"data={data!r}: the nearest is {near!r}, allowed are {allowed}")
    place = dict(download=download, cache_dir=cache_dir)
    title = corrupted.title_of(data, title)
    clean_images, labels = data_sources.load(data, "test", data_dir, image_size=image_size, **place)
    clean = Clean(clean_images, labels, data, title)
    wanted = [corruptions] if isinstance(corruptions, str) else corruptions
    source = corrupted.find(clean, wanted, corruptions_dir, images, seed, **place)
    ask = _Ask(predict, form, channels_first, outputs, batch_size)
    return _standing(source, _measured(ask, source, clean, progress))


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r}: allowed are {', '.join(allowed)}")


@dataclasses.dataclass
class _Ask:
    """Predict, in batches, in the form that it takes; what its first batch looks like, all are."""

    predict: Predict
    form: str
    channels_first: bool
    outputs: str
    batch_size: int

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """`predicted`, `confidence` and `loss`, each (N,)."""
        found = [
            self._batch(images[i : i + self.batch_size])
            for i in range(0, len(images), self.batch_size)
        ]
        p = np.concatenate(found)
        if labels.max() >= p.shape[1]:
            raise ValueError(f"predict: gives {p.shape[1]} classes, a label is {labels.max()}")
        with np.errstate(divide="ignore"):
            loss = -np.log(p[np.arange(len(p)), labels])
        return {"predicted": p.argmax(1), "confidence": p.max(1), "loss": loss}

    def _batch(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (B, K), float64."""
        given = images if self.form == "uint8" else images.astype(np.float32) / np.float32(255)
        given = np.ascontiguousarray(given.transpose(0, 3, 1, 2)) if self.channels_first else given
        out = np.asarray(self.predict(given), np.float64)
        if out.ndim != 2 or len(out) != len(images):
            raise ValueError(f"predict: got shape {out.shape}, expected ({len(images)}, classes)")
        if not np.isfinite(out).all():
            raise ValueError("predict: gives numbers that are not finite")
        sums = (out.min() >= 0) and np.allclose(out.sum(1), 1, atol=ROUNDED)
        if self.outputs == "probabilities" and not sums:
            raise ValueError("predict: rows are not probabilities; say outputs='logits'")
        if self.outputs == "auto":
            self.outputs = "probabilities" if sums else "logits"
        if self.outputs == "probabilities":
            return out
        e = np.exp(out - out.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)


def _measured(ask: _Ask, source: Source, clean: Clean, progress: bool) -> dict[str, Marks]:
    count, severities = len(source.labels), len(SEVERITIES)
    total = len(clean.labels[:count]) + severities * count * len(source.names)
    with tqdm(total=total, unit="image", disable=None if progress else True) as bar:
        bar.set_description(CLEAN)
        found = ask(clean.images[:count], clean.labels[:count])
        marks = {CLEAN: Marks.of(*(x[None] for x in found.values()), clean.labels[:count])}
        bar.update(len(clean.labels[:count]))
        for name in source.names:
            bar.set_description(name)
            marks[name] = _on(ask, source, name)
            bar.update(severities * count)
    return marks


def _on(ask: _Ask, source: Source, name: str) -> Marks:
    size, tables = scores.piece_size(source), None
    for first in scores.starts(source):
        pieces = source.read(name, first, size)
        labels = source.labels[first : first + size]
        # No batch holds two severities: a deck looks at its batch.
        for i, images in enumerate(pieces):
            found = ask(images, labels)
            if tables is None:
                shape = (len(SEVERITIES), len(source.labels))
                tables = {k: np.empty(shape, x.dtype) for k, x in found.items()}
            for k, x in found.items():
                tables[k][i, first : first + size] = x
    return Marks.of(*tables.values(), source.labels)


def _standing(source: Source, marks: dict[str, Marks]) -> Standing:
    mean = lambda names: float(np.mean([marks[n].accuracy for n in names]))
    means = {k: mean(names) for k, names in robust_summary.subsets(source.names).items()}
    each = lambda f: {n: tuple(float(x) for x in f(marks[n])) for n in source.names}
    return Standing(
        source=source.name,
        images=len(source.labels),
        clean=means.pop(CLEAN),
        corrupted=means.pop("benchmark", None),
        means=means,
        accuracies=each(lambda m: m.accuracy),
        calibration_errors={CLEAN: (float(marks[CLEAN].calibration_error[0]),)}
        | each(lambda m: m.calibration_error),
        published={k: published.mean(v) for k, v in published.of(source.benchmark).items()},
    )
