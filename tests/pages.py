"""Finished runs as their folders are, made without training: cards, metrics, tables, heatmaps."""

import json
from pathlib import Path

import cards
import corrupted_files as fake
import numpy as np

from cards_jax import (
    config,
    files,
    heat_report,
    models,
    pack,
    report,
    robust_summary,
    robust_tables,
    size,
    summary,
)
from cards_jax.corruptions import BENCHMARK
from cards_jax.data.corrupted import Source
from cards_jax.evaluate.fourier import Settings
from cards_jax.heat import Heat
from cards_jax.marks import CLEAN, Marks
from cards_jax.scores import Score

NASTY = "<script>window.injected=1</script>\"'><img src=x onerror=window.injected=1>&amp;"
COUNT, SIDE, EPOCHS = 40, 8, 4
EPS = (2.0, 4.0)


def result(seed: int, sparsity: float, method: str = "bp") -> dict:
    """As results.json holds it."""
    rng = np.random.default_rng([seed, int(100 * sparsity)])
    point = dict(method=method, scope="layerwise", model="conv2", width=4, data="digits")
    point |= dict(sparsity=sparsity, learning_rate=0.1, weight_decay=1e-4)
    found = dict(
        zip(("test_accuracy", "train_accuracy"), rng.uniform(0.7, 1, 2).tolist(), strict=True)
    )
    about = {
        "id": f"{method}{int(100 * sparsity):02d}{seed}",
        "seed": seed,
        "realised_sparsity": sparsity,
    }
    return about | point | found | {"steps": 44, "parameters": 1000, "diverged_at": None}


def metrics(results: list[dict]) -> list[dict]:
    """A row for each epoch and split."""
    return [
        {
            "realization": r["id"],
            **{k: r[k] for k in ("seed", "sparsity", "learning_rate", "weight_decay")},
        }
        | {
            "phase": "train",
            "epoch": float(epoch),
            "step": 11 * epoch,
            "split": split,
            "alive": True,
        }
        | {
            "accuracy": r[f"{split}_accuracy"] * (1 - 0.5**epoch),
            "loss": 0.5**epoch + 0.01 * r["seed"],
        }
        for r in results
        for epoch in range(1, EPOCHS + 1)
        for split in ("train", "test")
    ]


def score(r: dict) -> Score:
    """Marks of a card on clean images and on two corruptions."""
    rng, labels = np.random.default_rng([r["seed"], int(100 * r["sparsity"])]), fake.labels(COUNT)

    def marks(severities: int, level: float) -> Marks:
        right = rng.random((severities, COUNT)) < level
        predicted = np.where(right, labels, (labels + 1) % fake.CLASSES)
        return Marks.of(predicted, np.full(right.shape, 0.9), np.where(right, 0.1, 2.0), labels)

    found = {CLEAN: marks(1, 0.9)} | {
        name: marks(5, 0.9 - 0.1 * i) for i, name in enumerate(BENCHMARK[:3])
    }
    return Score(Path(f"{r['id']}.card"), r, found)


def heats(results: list[dict], images: int = 20) -> list[Heat]:
    """Errors that are whole numbers of images."""
    counts = [
        np.random.default_rng([r["seed"], int(100 * r["sparsity"])]).integers(
            0, images, (len(EPS), SIDE, SIDE)
        )
        for r in results
    ]
    pairs = zip(results, counts, strict=True)
    return [Heat(Path(f"{r['id']}.card"), {"result": r}, found / images) for r, found in pairs]


def leave(
    path: Path,
    name: str = "tiny",
    title: str = "digits",
    robust: bool = True,
    method: str = "bp",
    spec: models.Spec = cards.SMALL,
) -> Path:
    """A finished run of four cards beside two dense ones."""
    for part in ("cards", "tables"):
        (path / part).mkdir(parents=True)
    c = config.defaults()
    c.seeds, c.sparsity, c.epochs = (0, 1), (0.5, 0.8), EPOCHS
    c.data.title = c.evaluate.corruptions_dir = title
    (path / "config.json").write_text(config.to_json(c))
    (path / "versions.json").write_text(json.dumps({"jax": "0", "platform": title}))
    (path / "commands.txt").write_text(f"python -m cards_jax.main --config.data.title={title}\n")
    results = [result(seed, sparsity, method) for seed in (0, 1) for sparsity in (0.5, 0.8)]
    dense = [result(seed, 0.0, "dense") for seed in (0, 1)]
    for r in results:
        file = path / "cards" / f"seed{r['seed']}_{r['id']}.card"
        card = cards.sampled(spec, r["sparsity"], True)
        pack.save(file, card, spec, {"result": r}, origin=cards.origin())
        total = size.table(file).total
        r |= {"paper_bytes": total.paper, "true_bytes": total.true}
    rows, base = summary.summarise(results, dense), summary.summarise(dense)
    payload = {"name": name, "config": {}, "versions": {}, "results": results}
    report.write_results(path, payload | {"summary": rows, "baseline": base})
    report.write_tables(path, [*base, *rows], [*dense, *results])
    lines = [json.dumps(row) for row in metrics(results)]
    (path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    if robust:
        _measure(path, title, results, dense)
    return path


def _measure(path: Path, title: str, results: list[dict], dense: list[dict]) -> None:
    source = Source(
        f"{title}, corrupted", "files", "x", BENCHMARK[:3], fake.labels(COUNT), (8, 8, 3), None
    )
    summary = robust_summary.summarise(
        source, title, *([score(r) for r in part] for part in (results, dense))
    )
    for name, text in robust_tables.texts(summary).items():
        (path / "tables" / name).write_text(text)
    found, base = heats(results), heats(dense)
    every = [*found, *base]
    about = {"eps": EPS, "images": 20, "data": title, "dense": len(base), "clip": True}
    files.deliver_arrays(
        path / "tables" / "heatmap.npz",
        errors=np.stack([h.errors for h in every]),
        cards=np.array([h.path.name for h in every]),
        results=np.array([json.dumps(h.meta["result"]) for h in every]),
        settings=np.array(json.dumps(about)),
    )
    s = Settings(EPS, 20)
    records = heat_report.table(heat_report.rows(found), heat_report.rows(base, True)[0], s)
    (path / "tables" / "heatmap.md").write_text(heat_report.markdown(records, s, title, 20))
