"""What a run is: fields and their defaults, points, identity. What values are allowed is in validation.py."""

import dataclasses
import difflib
import functools
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from cards_jax import augment, files

AXES = ("seeds", "sparsity", "learning_rate", "weight_decay")
WORDS = ("evaluate.corruptions", "model.unpruned")  # fields that hold several words


class ConfigError(ValueError):
    """A user's mistake in a config or flag; its message is one line naming field, value and what is allowed."""


def defaults() -> ConfigDict:
    """Every field with its default: biprop on the embedded digits. Configs are short diffs on this."""
    c = ConfigDict()
    c.name = "run"
    c.workdir = "runs"

    c.method = "bp"  # a module of cards_jax/methods
    c.scope = "layerwise"  # or "global": whether weights compete within or across layers
    c.seeds = (0,)
    c.sparsity = (0.5,)  # fraction removed
    c.learning_rate = (0.1,)
    c.weight_decay = (1e-4,)
    c.combine = "product"  # of the four axes above, or "zip"
    c.batch_size = 128
    c.epochs = 100
    c.augment = "standard"  # a module of cards_jax/augment
    c.label_smoothing = 0.0
    c.holdout = 0  # training images, never trained on, for whatever is tuned or chosen
    c.baseline = placeholder(str)  # "auto" (train or reuse the matching dense run) or a run folder

    c.data = ConfigDict()
    c.data.name = "digits"  # a module of cards_jax/data
    c.data.dir = placeholder(str)
    c.data.title = placeholder(
        str
    )  # name for people, as "CIFAR-10 (JPEG)"; None is the source's own
    c.data.download = False
    c.data.cache_dir = placeholder(str)
    c.data.image_size = placeholder(int)
    c.data.subset = 0  # first n training images, 0 is all
    c.data.subset_per_class = 0  # first n of every class

    for name in augment.names():  # c.gaussian.sigma, c.augmix.severity, ...: see its module
        if augment.settings(name):
            c[name] = ConfigDict(augment.settings(name))

    c.model = ConfigDict()
    c.model.name = "conv4"  # a variant named in cards_jax/models
    c.model.width = placeholder(int)  # channels of the first stage; None is the architecture's own
    c.model.num_classes = placeholder(int)  # None is the data's
    c.model.affine = placeholder(bool)  # learnable BatchNorm; None is the method's custom
    c.model.bias = placeholder(bool)  # of the last layer; None follows `affine`
    c.model.gamma = "ones"  # initial BatchNorm scale: "ones" or "uniform"
    c.model.unpruned = ()  # layers that are never pruned, by name or pattern, as ("fc", "layer1_*")
    c.model.weights = placeholder(str)  # card file that every realization begins with; None: random
    c.model.weights_hash = placeholder(str)  # of that file, filled in by the run

    c.popup = ConfigDict()
    c.popup.weight_init = placeholder(str)  # None: signed_constant for ep, kaiming_normal for bp
    c.popup.weight_scale = placeholder(str)  # None: inv_keep if layerwise and without BatchNorm
    c.popup.progressive_epochs = 10  # of global scope: cubic from 0.5 to the final sparsity
    c.popup.ties = "index"  # exactly k survive; "strict" is the originals' global rule

    c.pruning = ConfigDict()
    c.pruning.rate = 0.2  # of lth, lrr: share of the remaining weights that a level removes
    c.pruning.targets = "levels"  # or "exact": sparsities between levels, by a partial last level
    c.pruning.rewind_steps = placeholder(int)  # step K; None is 1000 for lth, 0 for lrr
    c.pruning.cycles = 3  # of dense_cyclic
    c.pruning.begin = 0.1  # of gmp: shares of the training
    c.pruning.end = 0.75  # of gmp, rigl, set
    c.pruning.every = 100  # steps; fewer in short trainings
    c.pruning.exchange = 0.3  # of rigl, set: share of the kept weights, at the first update
    c.pruning.distribution = "uniform"  # over layers, or "erk": of ft, random, snip, rigl, set
    c.pruning.rescale = False  # of random, snip, rigl, set: larger initial weights
    c.pruning.saliency_batches = 1  # of snip, rigl
    c.pruning.block = 4  # M of nm

    c.finetune = ConfigDict()  # of ft
    c.finetune.epochs = 40
    c.finetune.rate = 0.01  # factor on the learning rate

    c.ticket = ConfigDict()  # of method "ticket"
    c.ticket.source = placeholder(str)  # folder of the run that found the masks
    c.ticket.shuffle = False  # positions within each layer
    c.ticket.weights = "original"  # of the same seed, or "fresh"

    c.optimizer = ConfigDict()
    c.optimizer.name = "sgd"  # or "adam", as in PyTorch: decay joins the gradient
    c.optimizer.momentum = 0.9  # of adam the first beta, of which the second is 0.999
    c.optimizer.nesterov = False

    c.schedule = ConfigDict()
    c.schedule.kind = "cosine"  # or "step", "constant"
    c.schedule.per = "step"  # or "epoch", as the originals of ep and bp step it
    c.schedule.warmup_epochs = 0.0
    c.schedule.drops = (80, 120)  # epochs, of kind "step"
    c.schedule.drop_factor = 0.1

    c.compute = ConfigDict()
    c.compute.dtype = "float32"  # of activations; "bfloat16" pays on accelerators only
    c.compute.convolution = placeholder(str)  # models/convolution.py; None is measured per backend
    c.compute.selection = placeholder(str)  # select.py; None is measured per backend
    c.compute.mapping = placeholder(
        str
    )  # "loop" or "vmap" over a device's realizations; None likewise
    c.compute.group_size = 0  # realizations at a time; 0 is what fits the memory
    c.compute.batch_split = 0  # devices that share one batch; 0 is automatic
    c.compute.devices = 0  # 0 is all; on a CPU one per core
    c.compute.deterministic = False  # of a GPU: bit-equal reruns, slower

    c.evaluate = ConfigDict()
    c.evaluate.every_epochs = 1
    c.evaluate.batch_size = 500
    c.evaluate.recalibrate = (
        0  # training images that finished BatchNorm averages are estimated on anew
    )
    c.evaluate.corruptions = ()  # after training: sets "benchmark", "extra", "bar", or names
    c.evaluate.corruption_images = 0  # of the test set; 0 is all
    c.evaluate.corruptions_dir = placeholder(str)  # of CIFAR-10-C; None is made from the test set
    c.evaluate.frost = placeholder(str)  # folder of its textures, or an .npz of them; None is found

    c.evaluate.heatmap = ()  # after training: norms of Fourier noise, as (3.0, 4.0, 6.0)
    c.evaluate.heatmap_images = 1000  # the first so many of the test set

    c.checkpoint = ConfigDict()
    c.checkpoint.every_minutes = 5.0
    c.checkpoint.keep = 2

    c.log = ConfigDict()
    c.log.tensorboard = False

    c.dense = ConfigDict()  # of the baseline "auto", beside its method; None keeps this run's value
    c.dense.learning_rate = placeholder(float)
    c.dense.weight_decay = placeholder(float)
    c.dense.epochs = placeholder(int)
    return c


# Fields that change where and how fast a run computes, or which realizations it holds, but not what a realization is.
NOT_IDENTITY = (
    *("name", "workdir", "baseline", "dense", "checkpoint", "log", "combine", *AXES),
    *("data.dir", "data.download", "data.cache_dir", "data.title", "evaluate.batch_size"),
    "model.weights",  # known by its hash
    *("evaluate.corruptions", "evaluate.corruption_images", "evaluate.corruptions_dir"),
    "evaluate.frost",
    *("compute.group_size", "compute.batch_split", "compute.devices", "compute.deterministic"),
    *("evaluate.heatmap", "evaluate.heatmap_images"),
)


@dataclasses.dataclass(frozen=True)
class Point:
    """The scalars of one realization."""

    seed: int
    sparsity: float
    learning_rate: float
    weight_decay: float


def points(c: ConfigDict) -> list[Point]:
    """The realizations that a config asks for: product (seeds slowest) or zip of its four axes."""
    axes = [getattr(c, axis) for axis in AXES]
    if c.combine == "zip":
        length = max(len(a) for a in axes)
        axes = [a * length if len(a) == 1 else a for a in axes]
        return [Point(*values) for values in zip(*axes, strict=True)]
    return [Point(*values) for values in itertools.product(*axes)]


def flat(c: ConfigDict) -> dict[str, Any]:
    """{dotted field: value}."""
    out = {}
    for name in sorted(c.keys()):
        value = c[name]
        if isinstance(value, ConfigDict):
            out.update({f"{name}.{k}": v for k, v in flat(value).items()})
        else:
            out[name] = value
    return out


def changes(c: ConfigDict) -> dict[str, Any]:
    """The fields that differ from `defaults()`: adding a field later does not rename older runs."""
    standard = flat(defaults())
    return {k: v for k, v in flat(c).items() if v != standard.get(k)}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def shared_changes(c: ConfigDict) -> dict[str, Any]:
    """The non-default fields that all realizations of a run share and that make them what they are."""
    hidden = lambda k: any(k == x or k.startswith(x + ".") for x in NOT_IDENTITY)
    return {k: v for k, v in changes(c).items() if not hidden(k)}


def shared_identity(c: ConfigDict) -> str:
    """Hash of what all realizations of a run share; the run's folder is named by it.

    A run whose masks it takes counts by its name, which is a hash as well, and not by where it lies.
    """
    found = shared_changes(c)
    if source := found.get("ticket.source"):
        found["ticket.source"] = Path(source).name
    return _digest(found)


def identity(c: ConfigDict, point: Point) -> str:
    """Hash of one realization: its scalars and what it shares."""
    return _digest([shared_identity(c), dataclasses.asdict(point)])


def to_json(c: ConfigDict) -> str:
    """Snapshot of every field, readable by `from_json`."""
    return json.dumps(c.to_dict(), indent=2, sort_keys=True)


def from_json(text: str) -> ConfigDict:
    """The config of a snapshot; fields that it does not know keep their defaults. A hash in it has to fit.

    Raises ConfigError for fields that do not exist and for values of another type, ValueError for what is no snapshot.
    """
    try:
        snapshot = json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    if not isinstance(snapshot, dict):
        raise ValueError(f"an object with fields expected, got {type(snapshot).__name__}")
    return completed(_flat_dict(files.checked(snapshot)))


def completed(fields: dict[str, Any]) -> ConfigDict:
    """`defaults()` with these dotted fields, locked; ConfigError for unknown ones and for values of another type."""
    c = defaults()
    for field, value in fields.items():
        assign(c, field, tuple(value) if isinstance(value, list) else value)
    return c.lock()


def _flat_dict(d: dict, prefix: str = "") -> dict[str, Any]:
    out = {}
    for k, v in d.items():
        out.update(_flat_dict(v, f"{prefix}{k}.") if isinstance(v, dict) else {prefix + k: v})
    return out


SYNONYMS = {  # what other programs call them
    "lr": "learning_rate",
    "wd": "weight_decay",
    "bs": "batch_size",
    "arch": "model.name",
    "seed": "seeds",
    "prune_rate": "sparsity",
}
KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    tuple: "one value or several, separated by commas",
}


def check_name(field: str) -> None:
    """Raise ConfigError, with the nearest name, unless a dotted field exists."""
    known = flat(defaults())
    if field not in known:
        near = SYNONYMS.get(field) or difflib.get_close_matches(field, known, 1, 0)[0]
        raise ConfigError(f"{field!r} is no field; the nearest is {near!r}")


def optional(field: str) -> bool:
    """Whether a field may be None."""
    return flat(defaults())[field] is None


def words(text: str) -> tuple[str, ...]:
    """The words of a flag: `a`, `a,b` or `("a", "b")`."""
    bare = (word.strip().strip("\"'") for word in text.strip().strip("()[]").split(","))
    return tuple(word for word in bare if word)


def _node(c: ConfigDict, field: str) -> tuple[ConfigDict, str]:
    """Where a dotted field lives, and its name there."""
    *parents, last = field.split(".")
    return functools.reduce(lambda node, name: node[name], parents, c), last


def kind(field: str) -> str:
    """What a field holds, in words."""
    node, name = _node(defaults(), field)
    return KINDS[node.get_type(name)] + (", or None" if optional(field) else "")


def assign(c: ConfigDict, field: str, value: Any) -> None:
    """Set a dotted field; ConfigError for an unknown field or a value of another type."""
    check_name(field)
    node, name = _node(c, field)
    try:
        if isinstance(value, dict) or value is None and not optional(field):
            raise TypeError
        with node.unlocked():
            node[name] = value
    except (TypeError, ValueError):
        raise ConfigError(f"{field}={value!r}: must be {kind(field)}") from None


TINY = 5e-324  # the smallest number above zero
HUGE = 1e30  # stays finite in float32


def one_of(c: ConfigDict, field: str, allowed: tuple[str, ...] | list[str]) -> None:
    """Raise ConfigError unless the field's value is one of `allowed`."""
    value = flat(c)[field]
    if value not in allowed:
        near = difflib.get_close_matches(str(value), allowed, 1, 0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{field}={value!r}: allowed are {', '.join(allowed)}{hint}")


def in_range(field: str, value: Any, low: float, high: float, text: str) -> None:
    """Raise ConfigError unless value is a finite number in [low, high)."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value < min(high, HUGE):
        raise ConfigError(f"{field}={value!r}: allowed is {text}")
