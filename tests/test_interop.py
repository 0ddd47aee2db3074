"""state_dicts to cards and back: keys, layouts, what is read from the arrays, what is refused, real PyTorch modules."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import recipe

from cards_jax import card as card_module
from cards_jax import interop, models, torch_files, torch_keys
from cards_jax.card import Card
from cards_jax.models import Spec
from cards_jax.tree import flatten, map_leaves, only_prunable

NAMES = sorted(models.families())
DEEP = {f"resnet{n}" for n in (32, 34, 44, 50, 56, 110)} | {"vgg13", "vgg16", "vgg19", "wrn28_10"}
BINARY = "biprop_Conv2_global_k0.2"


def spec_for(name: str, **options) -> Spec:
    """A narrow network whose every number differs from the defaults."""
    normalised = models.family(name).NORMALISED
    return Spec(name, **{"width": 6, "num_classes": 7, "affine": normalised, **options})


def random_card(spec: Spec, seed: int = 0) -> Card:
    """Random arrays everywhere, half of the prunable weights pruned."""
    rng = np.random.default_rng(seed)
    params, stats = models.shapes(spec)
    draw = lambda x: rng.uniform(0.5, 1.5, x.shape).astype(np.float32)
    params = map_leaves(draw, params)
    mask = map_leaves(
        lambda w: None if w is None else rng.random(w.shape) < 0.5, only_prunable(params)
    )
    return Card(params, map_leaves(lambda _: None, params), mask, map_leaves(draw, stats))


def equal(a, b) -> None:
    """Two trees, or dictionaries of arrays, bit for bit."""
    a, b = flatten(a), flatten(b)
    assert a.keys() == b.keys()
    for path in a:
        x, y = np.asarray(a[path]), np.asarray(b[path])
        assert x.dtype == y.dtype and x.shape == y.shape, path
        assert x.tobytes() == y.tobytes(), path


def cases():
    """Every architecture in every dialect; those that tell least more than their shallow relatives are slow."""
    for name in NAMES:
        for dialect in models.family(name).TORCH:
            marks = [pytest.mark.slow] if name in DEEP else []
            yield pytest.param(name, dialect, marks=marks, id=f"{name}-{dialect}")


@pytest.mark.parametrize(("name", "dialect"), list(cases()))
def test_round_trip(name, dialect):
    """Card to arrays to card, and arrays to card to arrays, bit for bit; the spec is read from the arrays."""
    spec = spec_for(name)
    card = random_card(spec)
    arrays = interop.export_state_dict(card, spec, dialect, scores=card.mask)
    assert interop.spec_of(arrays, name) == spec
    again = interop.import_state_dict(arrays, name, mask="zeros").card
    scores = interop.import_scores(arrays, name)
    equal(again.params, card_module.weights(card))
    equal(again.mask, card.mask)
    equal(again.stats, card.stats)
    equal(scores, jax.tree.map(np.float32, card.mask))
    equal(interop.export_state_dict(again, spec, dialect, scores), arrays)


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "conv4", "vgg_small", "preact_wrn18_2"])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_spec_from_arrays(name, affine, bias):
    flags = {"affine": affine and models.family(name).NORMALISED, "bias": bias and name != "conv4"}
    spec = Spec(name, models.width(name), 100, **flags)
    arrays = {k: np.broadcast_to(np.float32(0), s) for k, s in shapes(spec).items()}
    assert interop.spec_of(arrays, name) == spec
    known = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2)}
    assert interop.spec_of(arrays, name, **known) == dataclasses.replace(spec, **known)


def shapes(spec: Spec) -> dict[str, tuple[int, ...]]:
    """{torch key: shape} of what is no popup score."""
    dialect = next(iter(models.family(spec.name).TORCH))
    places = torch_keys.table(spec, dialect).items()
    return {key: place.torch for key, place in places if place.part != "scores"}


def test_keys_and_shapes_of_the_originals(fixtures_dir):
    """Every network of the fixtures has the keys and shapes that our table says, and no others."""
    fixtures = json.loads((fixtures_dir / "originals.json").read_text())
    ours = {
        "lrr_resnet18_w16": ("resnet18", "robustbench"),
        "resnext29_4x32": ("resnext29_4x32", "robustbench"),
        "openlth_cifar_resnet_20": ("resnet20", "open_lth"),
        "openlth_cifar_vgg_16": ("vgg16", "open_lth"),
        "biprop_Conv2_layerwise_k0.2": ("conv2", "biprop"),
        "biprop_Conv4_layerwise_k0.2": ("conv4", "biprop"),
        "biprop_cResNet18_layerwise_k0.2": ("resnet18", "biprop"),
        "biprop_VGG_Small_layerwise_k0.2": ("vgg_small", "biprop"),
    }
    for fixture, (name, dialect) in ours.items():
        theirs = {key: tuple(shape) for key, shape in fixtures[fixture]["state_dict"]}
        arrays = {k: np.broadcast_to(np.float32(0), s) for k, s in theirs.items()}
        places = torch_keys.table(interop.spec_of(arrays, name), dialect)
        scored = any(key.endswith(".scores") for key in theirs)
        wanted = {k: p.torch for k, p in places.items() if scored or p.part != "scores"}
        assert theirs == wanted, fixture


def test_wrappers_and_constants_go():
    spec = spec_for("resnet18")
    card = random_card(spec)
    plain = interop.export_state_dict(card, spec)
    wrapped = {f"module.model.{key}": x for key, x in plain.items()}
    wrapped["module.model.bn1.num_batches_tracked"] = np.int64(3)
    wrapped["mu"], wrapped["sigma"] = (np.full((1, 3, 1, 1), x) for x in (0.5, 0.25))
    found, scores = (
        interop.import_state_dict(wrapped, "resnet18"),
        interop.import_scores(wrapped, "resnet18"),
    )
    again = found.card
    assert (found.spec.mean, found.spec.std) == ((0.5,) * 3, (0.25,) * 3)
    given = interop.import_state_dict(wrapped, "resnet18", mean=(0.1,) * 3, std=(1.0,) * 3).spec
    assert (given.mean, given.std) == ((0.1,) * 3, (1.0,) * 3)
    assert interop.import_state_dict(plain, "resnet18").spec.std == (1.0,) * 3
    with pytest.raises(ValueError, match="sigma: .*allowed are deviations above 0"):
        interop.import_state_dict(wrapped | {"sigma": np.zeros((1, 3, 1, 1))}, "resnet18")
    assert not scores and not jax.tree.leaves(again.mask)
    equal(again.params, card_module.weights(card))


@pytest.mark.parametrize("name", ["conv2", "vgg_small"])
def test_maps_that_are_not_square_keep_their_order(name):
    """The first linear kernel reads (H, W, C) here and (C, H, W) there."""
    spec = models.Spec(name, 2, 3, (8, 16, 3))
    card = random_card(spec)
    exported = interop.export_state_dict(card, spec)
    again = interop.import_state_dict(exported, spec).card
    equal(again.params, card_module.weights(card))
    ours = flatten(card_module.weights(card))
    place = torch_keys.table(spec, torch_keys.default_dialect(spec))
    key = next(k for k, p in place.items() if p.sides and len(p.ours) == 2 and p.part == "params")
    height, width, channels = models.family(name).flattened(spec)
    kernel = np.asarray(ours[place[key].path]).reshape(height, width, channels, -1)
    theirs = exported[key].reshape(-1, channels, height, width)
    np.testing.assert_array_equal(theirs, kernel.transpose(3, 2, 0, 1))
    assert place[key].sides == (height, width) and height != width


def test_a_prefix_in_the_middle_of_a_key_stays():
    """Cutting the first letters of any key that has the prefix somewhere is a known fault."""
    arrays = {"conv1.module.weight": np.zeros(3)}
    with pytest.raises(ValueError, match=r"^conv1\.weight: missing"):
        interop.import_state_dict(arrays, "resnet18")


def test_other_dtypes_and_linear_shapes():
    """Half and double precision become float32; linear weights may be stored as 1x1 convolutions or not."""
    spec = spec_for("resnet18")
    card = random_card(spec)
    arrays = interop.export_state_dict(card, spec, "biprop")
    arrays["fc.weight"] = arrays["fc.weight"][:, :, 0, 0].astype(np.float64)
    arrays["conv1.weight"] = arrays["conv1.weight"].astype(np.float16)
    again = interop.import_state_dict(arrays, spec).card
    assert {x.dtype for x in jax.tree.leaves(again.params)} == {np.dtype(np.float32)}
    equal(again.params["fc"], card_module.weights(card)["fc"])


def test_imported_arrays_are_copies():
    spec = spec_for("resnet18")
    arrays = interop.export_state_dict(random_card(spec), spec)
    card = interop.import_state_dict(arrays, spec).card
    before = np.array(card.params["bn1"]["bias"])
    arrays["bn1.bias"][:] = 0
    np.testing.assert_array_equal(card.params["bn1"]["bias"], before)


def damaged(change) -> dict[str, np.ndarray]:
    spec = spec_for("resnet18", bias=True)
    arrays = interop.export_state_dict(random_card(spec), spec)
    change(arrays)
    return arrays


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: a.pop("layer2.0.conv1.weight"),
            r"^layer2\.0\.conv1\.weight: missing, expected shape \(12, 6, 3, 3\) in resnet18",
        ),
        (
            lambda a: a.update({"layer1.0.conv3.weight": np.zeros(3)}),
            r"^layer1\.0\.conv3\.weight: not part of .*nearest key is layer1\.0\.conv[12]\.weight",
        ),
        (
            lambda a: a.update({"layer4.1.bn2.bias": np.zeros(5)}),
            r"^layer4\.1\.bn2\.bias: got shape \(5,\), expected \(48,\)",
        ),
        (
            lambda a: a.update({"fc.weight": np.zeros((7, 48, 2, 1))}),
            r"^fc\.weight: got shape \(7, 48, 2, 1\), expected \(7, 48\)",
        ),
        (
            lambda a: a.update({"bn1.bias": np.zeros(6, int)}),
            r"^bn1\.bias: got dtype int64, expected floats",
        ),
        (lambda a: a.clear(), "the state_dict is empty"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        interop.import_state_dict(damaged(change), "resnet18")


def test_another_network_is_refused():
    spec = spec_for("conv4")
    arrays = interop.export_state_dict(random_card(spec), spec)
    with pytest.raises(ValueError, match=r"missing, expected shape .* in resnet18"):
        interop.import_state_dict(arrays, "resnet18")
    with pytest.raises(ValueError, match="dialect: got 'keras', allowed for conv4 are biprop"):
        interop.export_state_dict(random_card(spec), spec, "keras")
    with pytest.raises(ValueError, match="no architecture 'conv5'"):
        interop.import_state_dict(arrays, "conv5")
    with pytest.raises(ValueError, match="conv1/kernel: the card has shape"):
        interop.export_state_dict(random_card(spec), dataclasses.replace(spec, width=5))
    with pytest.raises(ValueError, match="the card has none"):
        interop.export_state_dict(random_card(spec), spec_for("conv6"))


def test_masks():
    """Zeros, or a mapping as open_lth keeps it; weights that it leaves out are never pruned."""
    spec = spec_for("resnet20")
    card = random_card(spec)
    arrays, mask = interop.export_state_dict(card, spec), interop.export_mask(card, spec)
    assert mask.keys() == {k for k, x in arrays.items() if x.ndim > 1}
    assert {x.dtype for x in mask.values()} == {np.dtype(np.int32)}
    equal(interop.import_state_dict(arrays, spec, mask=mask).card.mask, card.mask)
    del mask["fc.weight"]
    again = interop.import_state_dict(arrays, spec, mask=mask).card
    assert again.mask["fc"]["kernel"] is None and again.mask["conv1"]["kernel"] is not None
    dense = map_leaves(lambda w: np.ones_like(w), card.params)
    arrays = interop.export_state_dict(card.replace(params=dense, mask=card.frozen), spec)
    again = interop.import_state_dict(arrays, spec, mask=mask).card
    assert float(card_module.weights(again)["conv1"]["kernel"].min()) == 0.0

    for key, x, message in [
        ("bn.weight", np.ones(6), "mask bn.weight: no weight that can be pruned"),
        ("conv.weight", np.ones(6), r"mask conv.weight: got shape \(6,\)"),
        ("conv.weight", np.full((6, 3, 3, 3), 2), "mask conv.weight: got values other than"),
    ]:
        with pytest.raises(ValueError, match=message):
            interop.import_state_dict(arrays, spec, mask={key: x})
    with pytest.raises(ValueError, match="mask: got 'ones'"):
        interop.import_state_dict(arrays, spec, mask="ones")
    with pytest.raises(ValueError, match="mask, sparsity: one of them"):
        interop.import_state_dict(arrays, spec, mask="zeros", sparsity=0.5)


def test_decks():
    spec = spec_for("preact_wrn18_2", affine=False)
    cards = [random_card(spec, seed) for seed in range(2)]
    arrays = interop.export_deck(cards, spec)
    arrays["mu"] = arrays["sigma"] = np.full((1, 3, 1, 1), 0.5, np.float32)
    found = interop.import_deck(arrays, "preact_wrn18_2", mask="zeros")
    assert [x.spec.std for x in found] == [(0.5,) * 3] * 2
    again = [x.card for x in found]
    for card, imported in zip(cards, again, strict=True):
        equal(imported.params, card_module.weights(card))
        equal(imported.mask, card.mask)
    gone = {k: x for k, x in arrays.items() if k != "models.1.fc.weight"}
    with pytest.raises(ValueError, match=r"^models\.1\.fc\.weight: missing"):
        interop.import_deck(gone, "preact_wrn18_2")
    with pytest.raises(ValueError, match=r"^conv1\.weight: not part of a deck"):
        interop.import_deck({"conv1.weight": np.zeros(3)}, "preact_wrn18_2")


def logits(card: Card, spec: Spec, images) -> np.ndarray:
    apply = jax.jit(lambda w, s, x: models.build(spec).apply(w, s, x, False)[0])
    return np.asarray(apply(card_module.weights(card), card.stats, images))


@pytest.mark.slow
def test_popup_scores_become_a_card(fixtures_dir):
    """biprop's published class on the same weights and scores gives these logits."""
    expected = recipe.fixture(fixtures_dir, BINARY)
    arrays = recipe.state_dict(expected["state_dict"])
    card = interop.import_state_dict(arrays, "conv2", sparsity=0.8, scope="global").card
    spec = interop.spec_of(arrays, "conv2")
    theirs = np.asarray(expected["logits"])
    np.testing.assert_allclose(
        logits(card, spec, recipe.images()), theirs, rtol=0, atol=1e-4 * np.abs(theirs).max()
    )
    kept = sum(int(m.sum()) for m in jax.tree.leaves(card.mask))
    assert kept == sum(layer["kept"] for layer in expected["alpha"].values())
    magnitudes = np.unique(np.abs(card.params["conv1"]["kernel"]))
    assert len(magnitudes) == 2 and magnitudes[0] == 0

    del arrays["convs.2.scores"]
    with pytest.raises(ValueError, match="conv2/kernel: no scores"):
        interop.import_state_dict(arrays, "conv2", sparsity=0.8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "width"), [("resnet18", 16), ("preact_wrn18_2", 8), ("conv4", 16)]
)
def test_torch_modules(name, width, tmp_path):
    """Files, keys and logits against modules of PyTorch, both ways."""
    torch = pytest.importorskip("torch")
    import torch_networks

    images = np.random.default_rng(0).random((4, 32, 32, 3), dtype=np.float32)
    theirs = torch_networks.random(name, width, 10)
    torch.save({"state_dict": theirs.state_dict(), "epoch": 3}, tmp_path / "theirs.pth.tar")
    arrays = torch_files.read(tmp_path / "theirs.pth.tar")
    spec = interop.spec_of(arrays, name)
    assert spec.width == width
    card = interop.import_state_dict(arrays, name).card
    same(logits(card, spec, images), torch_networks.logits(theirs, images))

    ours = random_card(spec)
    params = map_leaves(lambda w, v: w * v, ours.params, card.params)
    ours = ours.replace(params=params, stats=card.stats)
    exported = interop.export_state_dict(ours, spec)
    torch_files.write(tmp_path / "ours.pt", exported)
    network = torch_networks.NETWORKS[name](width, 10).eval()
    network.load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True), strict=True)
    pruned = sum(int((x == 0).sum()) for x in network.parameters() if x.ndim > 1)
    assert pruned == sum(int((~m).sum()) for m in jax.tree.leaves(ours.mask))
    same(logits(ours, spec, images), torch_networks.logits(network, images))


def same(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert np.abs(theirs).max() > 1e-4  # logits that say something
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
