"""Peak memory of training, of this trainer and the peers."""

import resource

from benchmarks.steps import Case, steps, trainer_of, use_devices
from benchmarks.suite import Options, Table, measured
from benchmarks.suite.train import PEERS, of_peer
from benchmarks.train import BATCH_SIZE, peer_contestant

MIB = 2**20
QUICK = (("conv4", 4),)
FULL = (("conv4", 4), ("resnet20", 4), ("resnet18", 4), ("wrn18_2", 2))


def resident() -> float:
    """The largest this process has been, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB


def ours(case: Case, cached: bool) -> dict[str, float]:
    """Peak of the process in training, and what the compiler planned for the step."""
    use_devices()
    import jax

    jax.config.update("jax_enable_compilation_cache", cached)
    trainer, points = trainer_of(case)
    steps(trainer, points)(2)
    peak = resident()
    (step,) = [p for key, p in trainer._programs.items() if key[0].startswith("chunk")]
    plan = step.memory_analysis()
    return {
        "process peak MiB": peak,
        "step's state MiB per device": plan.argument_size_in_bytes / MIB,
        "step's temporaries MiB per device": plan.temp_size_in_bytes / MIB,
    }


def theirs(arguments: dict) -> dict[str, float]:
    """The same of a peer."""
    peer_contestant(**arguments)(2)
    return {"process peak MiB": resident()}


def run(options: Options) -> list[Table]:
    """A row for each network, R and peer."""
    rows, notes = [], []
    for network, count in QUICK if options.quick else FULL:
        size = BATCH_SIZE[network]
        case = Case(network, "ep", size, count)
        jobs = [(case.name, ours, {"case": case, "cached": options.quick})]
        wanted = ("tuned",) if options.quick else ("original", "tuned", "functional")
        for name, (peer, method) in PEERS.items():
            if peer in wanted and method == "ep":
                jobs.append(
                    (name, theirs, {"arguments": of_peer(name, network, size, count).arguments})
                )
        for name, task, arguments in jobs:
            found, reason = measured(options, f"memory of {network}, {name}", task, **arguments)
            notes += [reason] * bool(reason)
            if found:
                who = name if task is ours else f"{name} R={arguments['arguments']['realizations']}"
                rows.append({"training": f"{network}, batch {size}, {who}", **found})
    how = "loads or compiles" if options.quick else "compiles"
    what = (
        f"Largest resident size of a process that {how} and trains two steps, libraries included."
    )
    notes.insert(0, what)
    return [Table("Peak memory", rows, notes)]
