"""Runs of the paper's methods and of their controls, on any network, at any scale: shared by all experiments.

Dense networks, ft, gmp, lth, lrr and every control of these have one recipe (batches, schedule, initialisation), so
that a seed is the same network on the same batches in all of them, and differences can be paired by seed.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cards_jax import levels, models
from cards_jax.config import ConfigError
from lab import estimate
from lab.plan import CONTROL, MAIN, TUNE, Fields, Place, Run, base, resolved
from lab.scales import Scale

POPUP = ("ep", "bp")
ITERATIVE = ("lth", "lrr")
LABELS = {
    "dense": "dense",
    "ft": "FT",
    "gmp": "GMP",
    "lth": "LTH",
    "lrr": "LRR",
    "ep_layerwise": "EP (layerwise)",
    "ep_global": "EP (global)",
    "bp_layerwise": "BP (layerwise)",
    "bp_global": "BP (global)",
}
COMPRESSED = tuple(LABELS)[1:]  # the paper's methods


def file_of(method: str, network: str) -> str:
    """The config that holds the recipe of a method's kind for a network."""
    stem = method if method in (*POPUP, "ft", "gmp", "lth") else "lrr"
    conv = network.startswith("conv")
    return f"configs/{stem}_conv.py:{network}" if conv else f"configs/{stem}_resnet18.py"


def epochs_of(method: str, network: str, scale: Scale) -> int:
    """Epochs of one training."""
    return whole("epochs", scale) or base(file_of(method, network)).epochs


def width_of(network: str, scale: Scale) -> int:
    """Channels of a network's first stage, where an experiment does not say another."""
    return whole("model.width", scale) or models.width(network)


def whole(field: str, scale: Scale) -> int | None:
    """A whole number that a scale or the command line gives to a field, None where neither does; ConfigError for any
    other value."""
    own = {**scale.common, **scale.given}.get(field)
    try:
        return None if own is None else int(own)
    except ValueError:
        raise ConfigError(f"config.{field}={own}: allowed is a whole number") from None


def rate_of(scale: Scale) -> float:
    """What a level of lth and lrr removes of the remaining weights."""
    return scale.iterative.get("pruning.rate", 0.2)


def levels_to(sparsity: float, scale: Scale) -> int:
    """Levels that lth and lrr need to a sparsity, a partial one included."""
    named = levels.level_of(sparsity, rate_of(scale))
    return levels.level_below(sparsity, rate_of(scale)) + 1 if named is None else named


def fields_of(kind: str, network: str, scale: Scale) -> dict[str, Any]:
    """What a method at this scale needs beside its config."""
    method, _, scope = kind.partition("_")
    own = {
        "ft": scale.finetune,
        "gmp": scale.gradual,
        **dict.fromkeys(POPUP, scale.popup),
        **dict.fromkeys(ITERATIVE, scale.iterative),
    }
    fields = {
        "method": method,
        "model.name": network,
        "scope": scope or ("layerwise" if method == "dense" else "global"),
        **scale.common,
        **own.get(method, {}),
    }
    exact = method in ITERATIVE and any(
        levels.level_of(s, rate_of(scale)) is None for s in (*scale.sparsities, scale.middle)
    )
    return fields | ({"pruning.targets": "exact"} if exact else {})


def family(
    kind: str,
    network: str,
    scale: Scale,
    sparsities: Sequence[float] | None = None,
    seeds: Sequence[int] | None = None,
    augment: str | None = None,
    more: Fields | None = None,
    tag: str = "",
    label: str = "",
    tuned: bool = True,
) -> list[Run]:
    """The runs of one method on one network: the grid on holdout images, then the cards that are asked for.

    kind: a method, with its scope after an underscore. more: fields that differ, which `tag` names. The grid is the
    same run for every augmentation, on the images as all other experiments augment them.
    """
    method = kind.partition("_")[0]
    dense = method == "dense"
    named = lambda *words: "_".join(word for word in (kind, network, *words) if word)
    name, method_name = named(augment, tag), named(tag)
    fields = fields_of(kind, network, scale) | dict(more or {})
    own = tuple(sparsities or scale.sparsities)
    file = file_of(method, network)
    grid = Run(
        f"tune_{method_name}",
        f"tuning of {method_name}",
        file,
        fields
        | {
            "seeds": scale.tune_seeds,
            "sparsity": (0.0,) if dense else (scale.tune_sparsity,),
            "learning_rate": scale.learning_rates,
            "weight_decay": scale.weight_decays,
            "holdout": scale.holdout,
        },
        TUNE,
    )
    cards = Run(
        name,
        label or LABELS.get(kind, kind),
        file,
        fields
        | ({"augment": augment} if augment else {})
        | {
            "seeds": tuple(seeds or scale.seeds),
            "sparsity": (0.0,) if dense else own,
            "holdout": scale.kept,
        },
        MAIN,
        tuned_by=grid.name if tuned else None,
    )
    return [grid, cards] if tuned else [cards]


def varied(run: Run, tag: str, label: str, fields: Fields, role: str = MAIN) -> Run:
    """The same run, tuned as that one was, with other fields."""
    return dataclasses.replace(
        run, name=f"{run.name}_{tag}", label=label, fields={**run.fields, **fields}, role=role
    )


def tuned_as(control: Run, method: Run) -> Run:
    """A control with the learning rate and weight decay that were chosen for a method, which may not be its own."""
    return dataclasses.replace(control, tuned_by=method.tuned_by)


def at_rate_of_gmp(dense: Run, gmp: Run) -> Run:
    """Dense with GMP's tuning: GMP is one training of dense's length from dense's start, so only the masks differ."""
    return tuned_as(varied(dense, "as_gmp", "dense, GMP's learning rate", {}, CONTROL), gmp)


def cycles_of(count: int, scale: Scale) -> dict[str, Any]:
    """A dense network with the learning-rate cycles of LRR to level `count`, each rewound as far as LRR's."""
    rewind = {k: v for k, v in scale.iterative.items() if k == "pruning.rewind_steps"}
    return {"method": "dense_cyclic", "pruning.cycles": count, **rewind}


def steps_of(run: Run, scale: Scale) -> tuple[int, int]:
    """Steps of one whole training of a run, and of an epoch, on the scale's data and with what is given."""
    fields = {k: v for k, v in run.fields.items() if k != "pruning.rewind_steps"}
    place = Place(Path("runs"), {"data.name": scale.data or "cifar10", **scale.given})
    c = resolved(Run(run.name, run.label, run.config, fields), place)
    epoch = estimate.training_images(c) // c.batch_size
    return c.epochs * epoch, epoch


def epochs_to(count: int, run: Run, scale: Scale) -> int:
    """Epochs of all trainings of LRR to level `count`, to the nearest: what follows the first is rewound, not whole."""
    steps, epoch = steps_of(run, scale)
    rewound = scale.iterative.get("pruning.rewind_steps", 0)
    return round(((count + 1) * steps - count * rewound) / epoch)


def controls(network: str, scale: Scale, runs: Sequence[Run]) -> list[Run]:
    """What the methods of Figure 1 have to be held against, at the highest sparsity, each with its method's tuning.

    dense for twice as long; the learning-rate cycles of lrr without pruning, with dense's tuning and with lrr's; dense
    at gmp's learning rate; ft that removes nothing; gmp and ft with lrr's total epochs, to the nearest; random masks,
    and those of lrr shuffled within their layers, for one training.
    """
    main = {run.name: run for run in runs}
    dense, gmp, ft, lrr = (main.get(f"{k}_{network}") for k in ("dense", "gmp", "ft", "lrr"))
    most, epochs = levels_to(scale.high, scale), epochs_of("lrr", network, scale)
    total, one = epochs_to(most, lrr, scale), {"sparsity": (scale.high,)}
    cycles = cycles_of(most, scale)
    longer = lambda n: {"epochs": n, **_stretched(network, scale, n / epochs)}
    found = [
        varied(dense, "twice", "dense, twice the epochs", longer(2 * epochs), CONTROL),
        varied(dense, "cyclic", "dense, LRR's cycles", cycles, CONTROL),
        tuned_as(
            varied(dense, "cyclic_as_lrr", "dense, LRR's cycles and rates", cycles, CONTROL), lrr
        ),
        at_rate_of_gmp(dense, gmp),
        varied(ft, "whole", "FT, nothing removed", {"sparsity": (0.0,)}, CONTROL),
        varied(gmp, "long", "GMP, LRR's epochs", {**longer(total), **one}, CONTROL),
        varied(ft, "long", "FT, LRR's epochs", {"finetune.epochs": total - epochs, **one}, CONTROL),
        varied(
            dense,
            "random",
            "random masks",
            {"method": "random", "scope": "global", **one},
            CONTROL,
        ),
        dataclasses.replace(
            varied(
                dense,
                "shuffled",
                "LRR's masks, shuffled",
                {"method": "ticket", "ticket.shuffle": True, "scope": "global", **one},
                CONTROL,
            ),
            source=lrr.name,
        ),
    ]
    return found


def _stretched(network: str, scale: Scale, times: float) -> dict[str, Any]:
    """The drops of a schedule in steps, for a training that is longer by a factor."""
    kind = scale.common.get("schedule.kind") or base(file_of("lrr", network)).schedule.kind
    if kind != "step":
        return {}
    drops = base(file_of("lrr", network)).schedule.drops
    return {"schedule.drops": tuple(round(times * x) for x in drops)}
