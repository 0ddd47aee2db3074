"""Fields: what they may hold, how a run is told from another one, snapshots."""

import math
import re
from pathlib import Path

import pytest
import small
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from cards_jax import config, validation
from cards_jax.config import ConfigError, Point

STANDARD = config.flat(config.defaults())
NUMBERS = [f for f in STANDARD if re.search("number", config.kind(f))]


def outside(low: float, high: float, whole: bool) -> list[float]:
    """Values just outside of [low, high) and, where fractions are allowed, the ones that are no numbers."""
    below = [low - 1] if low == int(low) else [0.0, -1.0]
    above = [high] if high < config.HUGE else []
    return below + above + ([] if whole else [math.nan, math.inf, -math.inf])


def cases():
    for field, (low, high, text) in {**validation.RANGES, **validation.OPTIONAL_RANGES}.items():
        whole = config.kind(field).startswith("a whole")
        for value in outside(low, high, whole):
            yield field, (int(value) if whole else float(value)), text
    for field, (low, high, text) in validation.AXIS_RANGES.items():
        for value in (*outside(low, high, field == "seeds"), "x", None, True, 10**400, (1,)):
            yield field, (value,), text


@pytest.mark.parametrize(("field", "value", "text"), list(cases()))
def test_out_of_range(field, value, text):
    c = config.defaults()
    config.assign(c, field, value)
    shown = value[0] if isinstance(value, tuple) else value
    with pytest.raises(ConfigError) as caught:
        validation.validate(c)
    assert str(caught.value) == f"{field}={shown!r}: allowed is {text}"


def test_every_number_has_a_range():
    ranged = {**validation.RANGES, **validation.OPTIONAL_RANGES}
    assert set(NUMBERS) == set(ranged)


@pytest.mark.parametrize("field", sorted({**validation.RANGES, **validation.OPTIONAL_RANGES}))
def test_the_lowest_value_of_a_range_is_allowed(field):
    low, _, _ = {**validation.RANGES, **validation.OPTIONAL_RANGES}[field]
    c = config.defaults()
    config.assign(c, field, low)
    assert config.flat(validation.validate(c))[field] == low


@pytest.mark.parametrize("field", sorted(STANDARD))
def test_another_type(field):
    wrong = 1j if config.kind(field).startswith(("text", "one value")) else "x"
    with pytest.raises(ConfigError, match=f"^{field}=.*: must be {re.escape(config.kind(field))}$"):
        config.assign(config.defaults(), field, wrong)


@pytest.mark.parametrize("field", sorted(STANDARD))
def test_none_is_for_optional_fields(field):
    c = config.defaults()
    if config.optional(field):
        config.assign(c, field, None)
        assert config.flat(c)[field] is None
    else:
        with pytest.raises(ConfigError, match=f"^{field}=None: must be "):
            config.assign(c, field, None)


def test_axes_become_tuples_of_one_type():
    c = small.tiny(sparsity=(0,), learning_rate=(1, 0.5), seeds=(3,))
    assert (c.sparsity, c.learning_rate, c.seeds) == ((0.0,), (1.0, 0.5), (3,))
    kinds = {type(x) for x in (*c.sparsity, *c.learning_rate, *c.weight_decay)}
    assert kinds == {float} and type(c.seeds[0]) is int


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, r"seeds=\(\): needs at least one value"),
        ({"sparsity": (1,)}, "sparsity=1: allowed is the fraction removed, from 0 to below 1"),
        ({"seeds": (0.5,)}, "seeds=0.5: allowed is a whole number"),
        ({"method": "bpp"}, "method='bpp': allowed are bp, dense, .*; did you mean 'bp'"),
        ({"scope": "globel"}, "scope='globel': .*did you mean 'global'"),
        ({"augment": "standart"}, "augment='standart': .*did you mean 'standard'"),
        ({"model.name": "resnet8"}, "model.name='resnet8': .*did you mean 'resnet18'"),
        ({"data.name": "cifar"}, "data.name='cifar': .*did you mean 'cifar10'"),
        ({"combine": "both"}, "combine='both': allowed are product, zip"),
        ({"schedule.kind": "linear"}, "schedule.kind='linear': allowed are cosine, step, constant"),
        ({"schedule.per": "day"}, "schedule.per='day': allowed are step, epoch"),
        ({"schedule.drops": (-1,)}, "schedule.drops=-1: allowed is epochs"),
        ({"schedule.warmup_epochs": 5.0}, "warmup_epochs=5.0: allowed is up to epochs=4"),
        ({"compute.dtype": "float16"}, "compute.dtype='float16': allowed are float32, bfloat16"),
        ({"compute.convolution": "fft"}, "compute.convolution='fft': allowed are "),
        ({"compute.selection": "sort"}, "compute.selection='sort': allowed are "),
        ({"model.gamma": "zeros"}, "model.gamma='zeros': allowed are ones, uniform"),
        ({"popup.ties": "none"}, "popup.ties='none': allowed are index, strict"),
        ({"popup.weight_init": "zeros"}, "popup.weight_init='zeros': allowed are "),
        ({"popup.weight_scale": "half"}, "popup.weight_scale='half': allowed are "),
        ({"popup.weight_init": ""}, "popup.weight_init='': allowed are "),
        ({"popup.weight_scale": ""}, "popup.weight_scale='': allowed are "),
        ({"scope": "global"}, "popup.progressive_epochs=10: allowed with epochs=4"),
        ({"method": "dense"}, r"sparsity=\(0.5,\): method 'dense' keeps every weight"),
        ({"name": "a/b"}, "name='a/b': allowed are letters"),
        ({"name": ".."}, "name='..': allowed are letters"),
        ({"workdir": ""}, "workdir='': must name a folder"),
        ({"data.subset": 1, "data.subset_per_class": 1}, "only one of them"),
        (
            {"seeds": (0, 1), "sparsity": (0.5, 0.6, 0.7), "combine": "zip"},
            "combine='zip': .*'seeds': 2",
        ),
        ({"seeds": (0, 1, 1)}, r"realization once; Point\(seed=1, .* occurs twice"),
        ({"sparsity": (0.5, 0.50)}, r"realization once; Point\(seed=0, sparsity=0.5"),
    ],
)
def test_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        small.tiny(**{k.replace(".", "__"): v for k, v in changes.items()})


def test_points_are_a_product_or_a_zip():
    c = small.tiny(seeds=(0, 1), sparsity=(0.5, 0.8))
    assert [(p.seed, p.sparsity) for p in config.points(c)] == [
        (0, 0.5),
        (0, 0.8),
        (1, 0.5),
        (1, 0.8),
    ]
    c = small.tiny(seeds=(0, 1), sparsity=(0.5, 0.8), combine="zip")
    assert config.points(c) == [Point(0, 0.5, 0.1, 1e-4), Point(1, 0.8, 0.1, 1e-4)]


def test_identity_is_of_what_a_realization_is():
    c = small.tiny()
    shared, point = config.shared_identity(c), config.points(c)[0]
    for changes in (
        {"seeds": (7, 8)},
        {"sparsity": (0.9,)},
        {"name": "other"},
        {"workdir": "elsewhere"},
        {"baseline": "auto"},
        {"compute__devices": 3},
        {"data__dir": "elsewhere"},
        {"checkpoint__keep": 5},
    ):
        assert config.shared_identity(small.tiny(**changes)) == shared
    for changes in ({"epochs": 5}, {"model__width": 8}, {"data__subset": 10}, {"holdout": 10}):
        assert config.shared_identity(small.tiny(**changes)) != shared
    others = [Point(1, 0.5, 0.1, 1e-4), Point(0, 0.6, 0.1, 1e-4), Point(0, 0.5, 0.2, 1e-4)]
    assert len({config.identity(c, p) for p in (point, *others)}) == 4


def test_places_are_absolute_and_words_are_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    c = small.tiny(data__dir="pets", baseline="auto", evaluate__corruptions_dir="published")
    assert (c.data.dir, c.data.cache_dir) == (str(tmp_path / "pets"), None)
    assert (c.baseline, c.evaluate.corruptions_dir) == ("auto", "published")
    c = small.tiny(baseline="dense", data__cache_dir="~/x")
    assert c.baseline == str(tmp_path / "dense") and c.data.cache_dir == str(Path.home() / "x")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"model__affine": True}, "model.affine=True: model.name='conv2' has no BatchNorm"),
        ({"model__bias": True}, "model.bias=True: model.name='conv2' has no BatchNorm"),
        ({"method": "nm", "scope": "global"}, "scope='global': method 'nm' allows 'layerwise'"),
    ],
)
def test_what_would_change_a_name_and_nothing_else_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        small.tiny(**{"sparsity": (0.5,), **fields})


def test_a_snapshot_is_read_back():
    c = small.tiny(seeds=(0, 1), baseline="auto", model__affine=False, dense__learning_rate=0.5)
    again = config.from_json(config.to_json(c))
    assert config.flat(again) == config.flat(c)
    assert again.is_locked
    assert config.flat(validation.validate(again)) == config.flat(c)


def test_a_snapshot_without_a_field_gets_its_default():
    assert config.flat(config.from_json("{}")) == STANDARD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"epoch": 3}', "'epoch' is no field; the nearest is 'epochs'"),
        ('{"data": 3}', "'data' is no field"),
        ('{"epochs": "3"}', "epochs='3': must be a whole number"),
        ('{"seeds": 3}', "seeds=3: must be one value or several"),
        ('{"epochs": null}', "epochs=None: must be a whole number"),
        ("[]", "an object with fields expected, got list"),
        ("{", "Expecting property name"),
    ],
)
def test_a_damaged_snapshot(text, message):
    with pytest.raises(ValueError, match=message):
        config.from_json(text)


def test_completed_takes_what_a_config_file_may_return():
    c = config.completed(config.flat(ConfigDict({"epochs": 3, "model": {"width": 4}})))
    assert config.changes(c) == {"epochs": 3, "model.width": 4}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@settings(max_examples=300, deadline=None)
@example({"augment": {"__init__": None}})  # a group of fields in the place of one
@given(st.dictionaries(st.sampled_from(sorted(STANDARD)), JSON, max_size=2))
def test_any_value_is_taken_or_refused_in_words(fields):
    try:
        c = validation.validate(config.completed(fields))
    except ConfigError as error:
        assert str(error)
    else:
        assert config.points(c)


@pytest.mark.parametrize("method", ["ep", "bp", "dense", "dense_cyclic"])
def test_methods_without_a_distribution_over_layers_refuse_one(method):
    c = config.defaults()
    c.method, c.pruning.distribution = method, "erk"
    c.sparsity = (0.0,) if method.startswith("dense") else (0.5,)
    with pytest.raises(
        ConfigError, match=f"distribution='erk': method '{method}' allows 'uniform'"
    ):
        validation.validate(c)
