"""What values the fields of a config may have: all that can be known before any data are read."""

import collections
import importlib.util
from pathlib import Path

from ml_collections import ConfigDict

from cards_jax import augment, corruptions, data, methods, models, pretrained, realizations
from cards_jax.config import (
    AXES,
    HUGE,
    TINY,
    WORDS,
    ConfigError,
    assign,
    flat,
    in_range,
    one_of,
    points,
)
from cards_jax.models import convolution

AXIS_RANGES = {
    "seeds": (0, 2**32, "a whole number from 0 to 4294967295"),
    "sparsity": (0, 1, "the fraction removed, from 0 to below 1"),
    "learning_rate": (TINY, HUGE, "a number above 0 and below 1e30"),
    "weight_decay": (0, HUGE, "a number from 0 to below 1e30"),
}
MIXTURE_RANGES = {
    "width": (1, 17, "1 to 16"),
    "depth": (0, 17, "0 (one to three) to 16"),
    "alpha": (1e-3, HUGE, "0.001 or more"),
    "consistency": (0, HUGE, "0 (one view) or more"),
}
RANGES = {
    **{f"{a}.{k}": r for a in ("augmix", "prime") for k, r in MIXTURE_RANGES.items()},
    "gaussian.sigma": (0, HUGE, "0 or more"),
    "gaussian.p": (0, 1 + 1e-9, "0 to 1"),
    "augmix.severity": (0.1, 10 + 1e-9, "0.1 to 10"),
    "prime.deformation": (0, 1 + 1e-9, "0 to 1"),
    "prime.temperature": (0, HUGE, "0 or more"),
    "prime.sigma": (0, HUGE, "0 or more"),
    "batch_size": (1, HUGE, "1 or more"),
    "epochs": (1, 10**6 + 1, "1 to 1000000, or 0 of method ft with model.weights"),
    "label_smoothing": (0, 1, "from 0 to below 1"),
    "holdout": (0, HUGE, "0 or more"),
    "data.subset": (0, HUGE, "0 (all) or more"),
    "data.subset_per_class": (0, HUGE, "0 (all) or more"),
    "optimizer.momentum": (0, 1, "from 0 to below 1"),
    "schedule.warmup_epochs": (0, HUGE, "0 or more"),
    "schedule.drop_factor": (TINY, 1 + 1e-9, "above 0, up to 1"),
    "popup.progressive_epochs": (0, HUGE, "0 or more"),
    "pruning.rate": (0.01, 0.9 + 1e-9, "from 0.01 to 0.9"),
    "pruning.cycles": (0, 200, "0 to 199"),
    "pruning.begin": (0, 1, "from 0 to below 1"),
    "pruning.end": (0, 1 + 1e-9, "from 0 to 1"),
    "pruning.every": (1, HUGE, "1 or more"),
    "pruning.exchange": (0, 1, "from 0 to below 1"),
    "pruning.saliency_batches": (1, HUGE, "1 or more"),
    "pruning.block": (2, 65, "2 to 64"),
    "finetune.epochs": (1, 10**6 + 1, "1 to 1000000"),
    "finetune.rate": (TINY, HUGE, "a number above 0"),
    "evaluate.recalibrate": (0, HUGE, "0 (off) or more"),
    "evaluate.corruption_images": (0, HUGE, "0 (all) or more"),
    "compute.group_size": (0, HUGE, "0 (automatic) or more"),
    "compute.batch_split": (0, HUGE, "0 (automatic) or more"),
    "compute.devices": (0, 2**10 + 1, "0 (all) to 1024"),
    "evaluate.every_epochs": (1, HUGE, "1 or more"),
    "evaluate.batch_size": (1, HUGE, "1 or more"),
    "evaluate.heatmap_images": (1, HUGE, "1 or more"),
    "checkpoint.every_minutes": (0, HUGE, "0 (after every chunk) or more"),
    "checkpoint.keep": (1, HUGE, "1 or more"),
}
OPTIONAL_RANGES = {
    "data.image_size": (1, 1025, "1 to 1024 pixels"),
    "model.width": (1, 10**4 + 1, "1 to 10000"),
    "model.num_classes": (2, 10**6 + 1, "2 to 1000000"),
    "pruning.rewind_steps": (0, HUGE, "0 or more"),
    "dense.learning_rate": (TINY, HUGE, "a number above 0 and below 1e30"),
    "dense.weight_decay": (0, HUGE, "a number from 0 to below 1e30"),
    "dense.epochs": (1, 10**6 + 1, "1 to 1000000"),
}


PLACES = {  # {field: values that are no places}
    "data.dir": (),
    "data.cache_dir": (),
    "evaluate.corruptions_dir": ("published",),
    "evaluate.frost": (),
    "baseline": ("auto",),
}


def _check_axes(c: ConfigDict) -> None:
    for axis, (low, high, text) in AXIS_RANGES.items():
        values = getattr(c, axis)
        if not values:
            raise ConfigError(f"{axis}=(): needs at least one value")
        for value in values:
            in_range(axis, value, low, high, text)
            if axis == "seeds" and not isinstance(value, int):
                raise ConfigError(f"seeds={value!r}: allowed is {text}")
        kind = int if axis == "seeds" else float
        with c.unlocked():
            c[axis] = tuple(kind(value) for value in values)
    one_of(c, "combine", ("product", "zip"))
    lengths = {axis: len(getattr(c, axis)) for axis in AXES}
    if c.combine == "zip" and len({n for n in lengths.values() if n > 1}) > 1:
        raise ConfigError(f"combine='zip': axes must have one length or length 1, got {lengths}")
    twice = [point for point, n in collections.Counter(points(c)).items() if n > 1]
    if twice:
        axes = ", ".join(AXES)
        raise ConfigError(f"{axes}: allowed is every realization once; {twice[0]} occurs twice")


def _make_absolute(c: ConfigDict) -> None:
    """Places on the disk, so that a resume finds them from anywhere."""
    assign(c, "workdir", str(Path(c.workdir).expanduser()))
    if Path(c.workdir).is_file():
        raise ConfigError(f"workdir={c.workdir!r}: is a file; allowed is a folder")
    if c.baseline is not None and c.baseline.lower() in ("", "none", "null", "false", "off"):
        raise ConfigError(
            f"baseline={c.baseline!r}: allowed are 'auto', None (no baseline), the folder of a finished dense run"
        )
    for field, words in PLACES.items():
        if (value := flat(c)[field]) and value not in words:
            assign(c, field, str(Path(value).expanduser().absolute()))


def validate(c: ConfigDict) -> ConfigDict:
    """Check everything that can be known without data; axis fields become tuples of int and float.

    Raises ConfigError with one line that names the field, its value and what is allowed.
    """
    _check_axes(c)
    one_of(c, "method", methods.names())
    one_of(c, "scope", ("layerwise", "global"))
    one_of(c, "augment", augment.names())
    for name in augment.names():
        if "first" in augment.settings(name):
            one_of(c, f"{name}.first", ("standard", "crop", "plain"))
    one_of(c, "data.name", data.names())
    one_of(c, "model.name", list(models.families()))
    one_of(c, "model.gamma", ("ones", "uniform"))
    one_of(c, "optimizer.name", ("sgd", "adam"))
    one_of(c, "schedule.kind", ("cosine", "step", "constant"))
    one_of(c, "schedule.per", ("step", "epoch"))
    one_of(c, "compute.dtype", ("float32", "bfloat16"))
    if c.compute.convolution is not None:
        one_of(c, "compute.convolution", convolution.FORMULATIONS)
    if c.compute.selection is not None:
        one_of(c, "compute.selection", ("histogram", "bisection"))
    if c.compute.mapping is not None:
        one_of(c, "compute.mapping", realizations.MAPPINGS)
    values = flat(c)
    pruned_at_once = c.method == "ft" and c.model.weights is not None
    for field, (low, high, text) in RANGES.items():
        least = 0 if field == "epochs" and pruned_at_once else low
        in_range(field, values[field], least, high, text)
    for field, (low, high, text) in OPTIONAL_RANGES.items():
        if values[field] is not None:
            in_range(field, values[field], low, high, text)
    for field in WORDS:
        if not all(isinstance(word, str) and word for word in values[field]):
            raise ConfigError(f"{field}={values[field]}: allowed are words, separated by commas")
    corruptions.expand(c.evaluate.corruptions)
    if c.data.subset and c.data.subset_per_class:
        raise ConfigError("data.subset, data.subset_per_class: only one of them can be set")
    if not c.name or not all(x.isalnum() or x in "._-" for x in c.name) or c.name[0] == ".":
        raise ConfigError(f"name={c.name!r}: allowed are letters, digits, '.', '_' and '-'")
    if not c.workdir:
        raise ConfigError("workdir='': must name a folder")
    if c.log.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise ConfigError(
            'log.tensorboard=True: needs tensorboardX: pip install "cards_jax[tensorboard]"'
        )
    for eps in c.evaluate.heatmap:
        in_range("evaluate.heatmap", eps, TINY, HUGE, "norms above 0, each once")
    if len(set(c.evaluate.heatmap)) < len(c.evaluate.heatmap):
        raise ConfigError(
            f"evaluate.heatmap={c.evaluate.heatmap}: allowed are norms above 0, each once"
        )
    for drop in c.schedule.drops:
        in_range("schedule.drops", drop, 0, HUGE, "epochs, 0 or more")
    if c.schedule.warmup_epochs > c.epochs:
        raise ConfigError(
            f"schedule.warmup_epochs={c.schedule.warmup_epochs}: allowed is up to epochs={c.epochs}"
        )
    for field in ("model.affine", "model.bias"):
        if values[field] and not models.family(c.model.name).NORMALISED:
            raise ConfigError(
                f"{field}=True: model.name={c.model.name!r} has no BatchNorm and no biases; allowed is None or False"
            )
    _make_absolute(c)
    pretrained.check(c)
    method = methods.method(c.method)
    if hasattr(method, "check"):
        method.check(c)
    return c
