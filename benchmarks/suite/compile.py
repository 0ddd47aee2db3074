"""How long compiling takes, cold and from the cache."""

import tempfile
import time

from benchmarks.steps import Case, steps, trainer_of, use_devices
from benchmarks.suite import Options, Table, measured
from benchmarks.train import BATCH_SIZE

QUICK = (("conv4", "ep", 2),)
FULL = (("conv4", "ep", 4), ("resnet20", "ep", 4), ("resnet18", "ep", 4), ("wrn18_2", "ep", 2))


def start(case: Case, cache: str) -> dict[str, float]:
    """Seconds until the first step is done, and those of compiling, or of loading from the cache."""
    began = time.perf_counter()
    use_devices()
    import jax

    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    trainer, points = trainer_of(case)
    steps(trainer, points)(1)
    return {"compile": trainer.compile_seconds, "first step": time.perf_counter() - began}


def run(options: Options) -> list[Table]:
    """A row for each program."""
    rows, notes = [], []
    for network, method, count in QUICK if options.quick else FULL:
        case, row = Case(network, method, BATCH_SIZE[network], count), {}
        with tempfile.TemporaryDirectory() as cache:
            for how in ("cold", "cached"):
                what = f"compiling {network}, {case.name}, {how}"
                found, reason = measured(options, what, start, case=case, cache=cache)
                notes += [reason] * bool(reason)
                row |= {f"{k}, {how}, s": v for k, v in (found or {}).items()}
        rows.append({"program": f"{network}, {case.name}", **row})
    notes.insert(
        0,
        "Of all programs up to the first step (dealing, entering, training), tracing included, each in a new process.",
    )
    return [Table("Compilation", rows, notes)]
