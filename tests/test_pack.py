"""Card files: what was packed comes back, as small as it should be, and damage is refused with a reason."""

import dataclasses
import functools
import hashlib
import json
import time
import tracemalloc
from pathlib import Path

import cards
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st

import cards_jax
from cards_jax import card as card_module
from cards_jax import container, encoding, layout, models, pack, size, train
from cards_jax.pack import Origin
from cards_jax.tree import flatten, map_leaves, only_prunable, prunable, unflatten

SPECS = {
    "plain": cards.SMALL,
    "batchnorm": cards.NORMALISED,
    "affine": dataclasses.replace(cards.NORMALISED, affine=True, bias=True),
}
META = {"result": {"sparsity": 0.8, "test_accuracy": None}, "classes": ["ä", "b", "c"], "x": 0.1}
LOSSLESS = [(b, w) for b in (True, False) for w in ("auto", "key", "float32", *["signs"] * b)]


def same(a, b) -> bool:
    """Trees of equal bits; None only where the other has None."""
    a, b = flatten(a), flatten(b)
    return a.keys() == b.keys() and all(
        np.asarray(a[k]).dtype == np.asarray(b[k]).dtype
        and np.asarray(a[k]).tobytes() == np.asarray(b[k]).tobytes()
        for k in a
    )


def check_equal(file: pack.CardFile, card, spec) -> None:
    """Effective weights, masks, averages and logits are those of the card."""
    assert file.spec == spec
    assert same(card_module.weights(file.card), card_module.weights(card))
    assert same(file.card.mask, card.mask) and same(file.card.stats, card.stats)
    assert not jax.tree.leaves(file.card.frozen)
    images = cards.images(spec)
    wanted = np.asarray(pack.logits(card, images, spec))
    np.testing.assert_array_equal(np.asarray(file.logits(images)), wanted)
    assert np.isfinite(wanted).all() and np.ptp(wanted) > 0


@pytest.fixture
def file(tmp_path) -> Path:
    """A small binary card, whose signs come from a key."""
    path = tmp_path / "a.card"
    pack.save(path, cards.sampled(cards.SMALL, 0.8, True), cards.SMALL, META, origin=cards.origin())
    return path


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("binary, weights", LOSSLESS)
def test_every_form_gives_back_every_bit(tmp_path, name, weights, binary):
    card, path = cards.sampled(SPECS[name], 0.5, binary), tmp_path / "a.card"
    pack.save(path, card, SPECS[name], META, weights, cards.origin())
    file = cards_jax.load(path)
    check_equal(file, card, SPECS[name])
    assert file.meta == pack.meta(path) == META and file.origin == cards.origin()


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.999, 1.0])
def test_any_sparsity(sparsity):
    for binary in (True, False):
        card = cards.sampled(cards.SMALL, sparsity, binary)
        content = pack.encode(card, cards.SMALL, META)
        assert same(decoded(content).card.params, card.params)


def decoded(content: bytes) -> pack.CardFile:
    """What pack.load reads, without a disk."""
    return pack.CardFile(*encoding.decode(content))


def test_a_dense_card_has_no_mask():
    card = cards.sampled(cards.SMALL, 0.0, False)
    card = card.replace(mask=map_leaves(lambda _: None, card.params))
    file = decoded(pack.encode(card, cards.SMALL, META))
    check_equal(file, card, cards.SMALL)
    assert jax.tree.leaves(file.card.mask) == []


def test_one_layer_without_a_mask():
    card = cards.sampled(cards.SMALL, 0.8, False)
    mask = {**card.mask, "conv1": {"kernel": None}}
    card = card.replace(mask=mask)
    check_equal(decoded(pack.encode(card, cards.SMALL, META)), card, cards.SMALL)


def test_what_lies_under_a_mask_is_not_kept():
    """Magnitude pruning leaves weights where they are; a card's file holds what predicts."""
    card = cards.sampled(cards.SMALL, 0.8, False)
    filled = card.replace(params=jax.tree.map(lambda w: w + 1, card.params))
    file = decoded(pack.encode(filled, cards.SMALL, META))
    check_equal(file, filled, cards.SMALL)
    for w, m in zip(jax.tree.leaves(file.card.params), jax.tree.leaves(card.mask), strict=True):
        assert not w[~np.asarray(m)].any()


def test_every_float_survives():
    card = cards.sampled(cards.SMALL, 0.5, False)
    flat = {k: np.array(w) for k, w in flatten(card.params).items()}
    odd = np.float32([np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-45, 3.4e38])
    kept = np.flatnonzero(np.asarray(card.mask["conv1"]["kernel"]))[: len(odd)]
    flat["conv1/kernel"].reshape(-1)[kept] = odd
    card = card.replace(params=unflatten(flat))
    for weights in ("auto", "float32"):
        file = decoded(pack.encode(card, cards.SMALL, META, weights))
        assert same(card_module.weights(file.card), card_module.weights(card))


@pytest.mark.parametrize("magnitude", [0.0, np.nan, np.inf, 0.3])
def test_signs_survive_any_magnitude(magnitude):
    card = cards.sampled(cards.SMALL, 0.5, True)
    odd = lambda w: np.where(w == 0, w, np.copysign(np.float32(magnitude), w))
    card = card.replace(params=jax.tree.map(odd, card.params))
    for weights in ("signs", "key"):
        content = pack.encode(card, cards.SMALL, META, weights, cards.origin())
        assert same(card_module.weights(decoded(content).card), card_module.weights(card))


def test_half_precision_is_as_close_as_stated(tmp_path):
    card, path = cards.sampled(cards.NORMALISED, 0.8, False), tmp_path / "a.card"
    pack.save(path, card, cards.NORMALISED, META, "float16")
    file = pack.load(path)
    for a, b in zip(jax.tree.leaves(card.params), jax.tree.leaves(file.card.params), strict=True):
        a = np.asarray(a)
        assert b.dtype == np.float32
        assert (np.abs(a - b) <= 2.0**-11 * np.abs(a) + 2.0**-25).all()
    images = cards.images(cards.NORMALISED)
    exact = np.asarray(pack.logits(card, images, cards.NORMALISED))
    difference = np.abs(np.asarray(file.logits(images)) - exact)
    assert 0 < difference.max() < 5e-3 * np.abs(exact).max()


def test_half_precision_keeps_batchnorm_whole():
    spec = SPECS["affine"]
    card = cards.sampled(spec, 0.8, False)
    file = decoded(pack.encode(card, spec, META, "float16"))
    assert same(file.card.stats, card.stats)
    plain = lambda tree: {k: x for k, x in flatten(tree).items() if not prunable(k)}
    assert same(plain(file.card.params), plain(card.params))


def test_auto_takes_the_smallest():
    sizes = {}
    for binary in (True, False):
        card = cards.sampled(cards.NORMALISED, 0.8, binary)
        for weights in ("auto", "float32", "key", *["signs"] * binary):
            content = pack.encode(card, cards.NORMALISED, META, weights, cards.origin())
            sizes[binary, weights] = len(content)
    assert sizes[True, "auto"] == sizes[True, "key"] < sizes[True, "signs"]
    assert sizes[True, "signs"] < sizes[True, "float32"]
    # Floats that are drawn again need a machine of the same arithmetic: only who asks gets them.
    assert sizes[False, "key"] < sizes[False, "auto"] == sizes[False, "float32"]


def test_auto_without_an_origin_takes_signs():
    card = cards.sampled(cards.SMALL, 0.8, True)
    assert pack.encode(card, cards.SMALL, META) == pack.encode(card, cards.SMALL, META, "signs")
    other = Origin.of(jax.random.key(8), "kaiming_normal")
    lengths = [len(pack.encode(card, cards.SMALL, META, o, other)) for o in ("auto", "signs")]
    assert lengths[0] == lengths[1]


@pytest.mark.parametrize("kind", ["signed_constant", "kaiming_normal"])
def test_an_origin_draws_what_jax_draws(kind):
    """Every weight of popup.start, pruned ones too, from nothing but its key."""
    card = cards.scored(cards.SMALL, kind)
    flat = flatten(card.frozen)
    for i, (path, w) in enumerate(flat.items()):
        w = np.asarray(w).ravel()
        draw = cards.origin(kind).layer(i)
        places = np.arange(w.size)
        np.testing.assert_array_equal(draw.negative(places), np.signbit(w), path)
        np.testing.assert_array_equal(np.signbit(draw.units(places)), np.signbit(w), path)
        scale = (2 / np.prod(flat[path].shape[:-1])) ** 0.5
        np.testing.assert_allclose(draw.units(places) * scale, w, rtol=1e-6)
        some = places[:: max(w.size // 7, 1)]
        np.testing.assert_array_equal(draw.units(some), draw.units(places)[some])


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1])
def test_an_origin_of_any_seed(seed):
    key = train.stream(np.uint32(seed), train.METHOD)
    bits = jax.random.normal(jax.random.split(jax.random.fold_in(key, 4))[0], (3, 7, 5))
    origin = Origin.of(key, "kaiming_normal")
    np.testing.assert_array_equal(
        origin.layer(4).negative(np.arange(105)), np.signbit(bits).ravel()
    )


def test_other_generators_have_no_origin():
    assert Origin.of(jax.random.key(0, impl="rbg"), "kaiming_normal") is None
    with jax.threefry_partitionable(False):
        assert Origin.of(jax.random.key(0), "kaiming_normal") is None


@pytest.mark.parametrize("method", ["ep", "bp"])
@pytest.mark.parametrize("scale", ["none", "inv_keep"])
def test_cards_of_the_trainer_are_drawn_again(method, scale):
    """As training compiles them, several at once: also floats of a normal distribution, to the last bit."""
    c = small.tiny(
        method=method,
        seeds=(3, 4),
        sparsity=(0.8,),
        popup__weight_init="kaiming_normal",
        popup__weight_scale=scale,
    )
    trainer, group, state = small.trainer(c)
    stacked = trainer.finish(state, group, 0)
    for i, point in enumerate(group.points):
        card = jax.tree.map(lambda x, i=i: x[i], stacked)
        origin = Origin.of(train.stream(np.uint32(point.seed), train.METHOD), "kaiming_normal")
        content = pack.encode(card, trainer.spec, {}, "key", origin)
        check_equal(decoded(content), card, trainer.spec)
        forms = {entry.form for entry in layout.read(content)[0].params.values()}
        assert forms == ({"key_signs"} if method == "bp" else {"key_floats"})


def test_the_same_card_gives_the_same_bytes(file):
    card = cards.sampled(cards.SMALL, 0.8, True)
    again = pack.encode(card, cards.SMALL, META, origin=cards.origin())
    assert file.read_bytes() == again
    loaded = pack.load(file)
    assert again == pack.encode(loaded.card, loaded.spec, loaded.meta, origin=loaded.origin)


def test_predict_gives_probabilities_and_refuses_other_images(file):
    card = pack.load(file)
    floats = cards.images(cards.SMALL)
    bytes_ = (255 * floats).astype(np.uint8)
    for images in (floats, bytes_):
        probabilities = np.asarray(card.predict(images))
        assert probabilities.shape == (4, 3)
        np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    scaled = card.predict(bytes_ / np.float32(255))
    np.testing.assert_allclose(card.predict(bytes_), scaled, rtol=1e-5)
    for wrong, message in {
        r"got shape \(8, 8, 3\), expected \(N, 8, 8, 3\)": floats[0],
        "got dtype int32": floats.astype(np.int32),
        r"got dtype int16": bytes_.astype(np.int16),
        r"floats must lie in \[0, 1\], got 0.* to 1.9": 2 * floats,
    }.items():
        with pytest.raises(ValueError, match=wrong):
            card.predict(message)
        with pytest.raises(ValueError, match=wrong):
            card.logits(message)


@pytest.mark.parametrize("count", [0, 1, 4, 7, 9])
def test_many_images_are_answered_a_few_at_a_time(file, count, monkeypatch):
    """So that a whole test set fits into memory; whatever fills up the last ones is cut off."""
    card = pack.load(file)
    images = np.concatenate([cards.images(cards.SMALL)] * 3)[:count]
    whole, asked = np.asarray(card.logits(images)), []
    real = pack.logits
    monkeypatch.setitem(pack.PIECE, "cpu", 4)
    monkeypatch.setattr(pack, "logits", lambda c, x: asked.append(len(x)) or real(c, x))
    np.testing.assert_allclose(card.logits(images), whole, rtol=1e-5, atol=1e-6)
    assert card.predict(images).shape == (count, 3)
    assert set(asked) <= ({count} if count <= 4 else {4})


def test_logits_have_gradients_by_images(file):
    card, images = pack.load(file), jnp.asarray(cards.images(cards.SMALL))
    found = jax.grad(lambda x: card.logits(x)[:, 0].sum())(images)
    assert found.shape == images.shape and np.abs(found).max() > 0


def changed(card, path: str, change):
    """The card with another array at a path like params/conv1/kernel."""
    part, path = path.split("/", 1)
    flat = flatten(getattr(card, part))
    return card.replace(**{part: unflatten({**flat, path: change(flat.get(path))})})


def test_cards_that_do_not_fit_are_refused_by_name(tmp_path):
    spec, card = cards.SMALL, cards.sampled(cards.SMALL, 0.8, False)
    refusals = {
        "popup scores: finish it first": (cards.scored(spec), {}),
        r"params/conv1/kernel has shape \[3, 3, 12\], not \[3, 3, 3, 4\]": (
            changed(card, "params/conv1/kernel", lambda w: w.reshape(3, 3, 12)),
            {},
        ),
        "params/conv1/kernel is float16, not float32": (
            changed(card, "params/conv1/kernel", lambda w: w.astype("float16")),
            {},
        ),
        "its network has no params/conv1/bias": (
            changed(card, "params/conv1/bias", lambda _: np.zeros(2, np.float32)),
            {},
        ),
        "its network lacks params/conv1/kernel": (
            card.replace(params={k: v for k, v in card.params.items() if k != "conv1"}),
            {},
        ),
        r"mask/conv1/kernel: bool\[3, 3\] is no mask": (
            changed(card, "mask/conv1/kernel", lambda m: m[:, :, 0, 0]),
            {},
        ),
        "weights='small': allowed are auto, signs, key, float32, float16, int8": (
            card,
            {"weights": "small"},
        ),
        "weights='key': needs the origin": (card, {"weights": "key"}),
        "params/conv1/kernel: its kept weights have more than one magnitude": (
            card,
            {"weights": "signs"},
        ),
        "params/conv1/kernel: its weights are not what its origin draws": (
            card,
            {"weights": "key", "origin": Origin.of(jax.random.key(8), "kaiming_normal")},
        ),
        "params/conv2/kernel: its weights do not lie in float16's range": (
            changed(card, "params/conv2/kernel", lambda w: w * 1e6),
            {"weights": "float16"},
        ),
    }
    for message, (wrong, options) in refusals.items():
        with pytest.raises(ValueError, match=message) as error:
            pack.save(tmp_path / "a.card", wrong, spec, META, **options)
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_meta_that_is_no_json_is_refused(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        pack.save(tmp_path / "a", cards.sampled(cards.SMALL, 0.8, True), cards.SMALL, {"x": 1j})
    assert list(tmp_path.iterdir()) == []


# Damage.


def refused(path: Path, content: bytes) -> str:
    """The reason why a file of this content is refused, one line that names it."""
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        pack.load(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 500
    return message


def test_a_flipped_bit_in_any_byte_is_refused(file):
    content = file.read_bytes()
    for i in range(len(content)):
        damaged = bytearray(content)
        damaged[i] ^= 1 << i % 8
        assert "damaged, or not a card file (" in refused(file, bytes(damaged))


def test_every_truncation_is_refused(file):
    content = file.read_bytes()
    for length in range(len(content)):
        refused(file, content[:length])
    assert "bytes instead of" in refused(file, content + b"\0")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_random_damage_is_refused(tmp_path_factory, data):
    content = large()
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, 8 * len(content) - 1))
        damaged[at // 8] ^= 1 << at % 8
    cut = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    damaged = bytes(damaged[:cut]) + data.draw(st.binary(max_size=4))
    if damaged != content:
        refused(tmp_path_factory.mktemp("damage") / "a.card", damaged)


@functools.cache
def small_content() -> bytes:
    return pack.encode(cards.sampled(cards.SMALL, 0.8, True), cards.SMALL, META, "signs")


@functools.cache
def large() -> bytes:
    card = cards.sampled(cards.NORMALISED, 0.9, False)
    return pack.encode(card, cards.NORMALISED, META)


def test_reasons(file):
    content = file.read_bytes()
    assert "does not begin as a card file does" in refused(file, b"")
    assert "does not begin as a card file does" in refused(file, b"\x93NUMPY" + content)
    assert "ends after 30 bytes" in refused(file, content[:30])
    assert "format 3, this version reads 2" in refused(file, content[:8] + b"\3" + content[9:])
    assert "does not fit its SHA-256" in refused(file, content[:-1] + bytes([content[-1] ^ 1]))
    assert f"{len(content) - 1:,} bytes instead of {len(content):,}" in refused(file, content[:-1])
    with pytest.raises(FileNotFoundError):
        pack.load(file.with_name("none"))
    with pytest.raises(IsADirectoryError):
        pack.load(file.parent)


def resealed(content: bytes, change) -> bytes:
    """The file with another header, and a hash that fits it."""
    header, payload = container.unwrap(content)
    header = json.loads(json.dumps(header))
    change(header)
    return container.wrap(header, bytes(payload))


def peak_of(f) -> int:
    """Most bytes that were allocated at once."""
    tracemalloc.start()
    try:
        f()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def leaves(node, path=()):
    """Every place in a JSON value."""
    yield path
    if isinstance(node, dict | list):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            yield from leaves(value, (*path, key))


HOSTILE = st.sampled_from(
    [None, True, -1, 0, 1, 7, 10**6, 2**32, 2**40, 2**70, 0.5, "", "signs", "resnet34", [], [3], {}]
)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_hostile_header_is_refused_or_harmless(tmp_path_factory, data):
    """It fits its hash: nothing but the checks stands between it and the memory."""
    content = small_content()
    places = [p for p in leaves(container.unwrap(content)[0]) if p and p[0] != "meta"]
    *parents, last = data.draw(st.sampled_from(places))
    value = data.draw(HOSTILE)

    def change(header):
        node = functools.reduce(lambda n, k: n[k], parents, header)
        node[last] = value

    path = tmp_path_factory.mktemp("hostile") / "a.card"
    path.write_bytes(resealed(content, change))

    def load():
        try:
            assert isinstance(pack.load(path), pack.CardFile)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")

    assert peak_of(load) < 2**25


def test_a_huge_claim_is_refused_without_allocating(file):
    content = file.read_bytes()

    header, _ = container.unwrap(content)
    wide = dataclasses.replace(cards.SMALL, width=2**12)
    emptied = lambda x: [list(x.shape), [0, 0, 1, 0, 0], "signs"]
    shapes = flatten(models.shapes(wide)[0])
    header["spec"]["width"] = wide.width
    header["params"] = {path: emptied(x) for path, x in shapes.items()}
    hostile = container.wrap(header, bytes(4 * len(shapes)))
    assert peak_of(lambda: refused(file, hostile)) < 2**22
    assert "bytes are too few for a card of" in refused(file, hostile)
    front = content[:8] + b"\2\0\0\0" + b"\xff" * 16
    assert peak_of(lambda: refused(file, front + content[28:])) < 2**22


def test_a_header_that_inflates_without_end_is_refused(file):
    bomb = container.wrap({"x": "0" * 2**22}, b"")
    lengths = list(container.LENGTHS.unpack(bomb[: container.LENGTHS.size]))
    lengths[3] = 100
    front = container.LENGTHS.pack(*lengths)
    digest = hashlib.sha256(front + bomb[container.FRONT :]).digest()
    hostile = front + digest + bomb[container.FRONT :]
    assert peak_of(lambda: refused(file, hostile)) < 2**20
    assert "header has another length than it says" in refused(file, hostile)


def test_weights_that_a_key_gives_otherwise_are_refused(file):
    """What another generator would do to the signs, another key does as well."""
    content = file.read_bytes()

    def other_key(header):
        header["origin"][0][1] ^= 1

    file.write_bytes(resealed(content, other_key))
    with pytest.raises(pack.OtherGenerator, match="cannot be drawn again from their key") as error:
        pack.load(file)
    assert str(error.value).startswith(f"{file}: ") and "\n" not in str(error.value)
    assert f"jax {jax.__version__}" in str(error.value) and "damaged" not in str(error.value)

    def no_hash(header):
        header["drawn"] = None

    assert "come from a key, which it does not have" in refused(file, resealed(content, no_hash))


# The format before this one.


def test_a_file_of_the_first_format_is_read(tmp_path):
    card, path = cards.sampled(cards.NORMALISED, 0.8, True), tmp_path / "a.npz"
    cards.write_npz(path, card, cards.NORMALISED, META)
    file = cards_jax.load(path)
    check_equal(file, card, cards.NORMALISED)
    assert file.meta == pack.meta(path) == META and file.origin is None
    pack.save(tmp_path / "a.card", file.card, file.spec, file.meta)
    check_equal(pack.load(tmp_path / "a.card"), card, cards.NORMALISED)


def test_a_damaged_file_of_the_first_format_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    cards.write_npz(path, cards.sampled(cards.SMALL, 0.8, True), cards.SMALL, META)
    content = path.read_bytes()
    for i in range(0, len(content), 97):
        refused(path, content[:i])
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 8
    refused(path, bytes(flipped))


# What it must reach.

RESNET = models.Spec("resnet18", 64, 10)


def cpu_seconds(f) -> float:
    """Of all threads: what it would take on one core."""
    began = time.process_time()
    f()
    return time.process_time() - began


@pytest.mark.slow
@pytest.mark.parametrize(
    "binary, weights, most",
    [(True, "signs", 0.0125), (True, "auto", 0.011), (False, "auto", 0.062), (False, "key", 0.011)],
)
def test_a_resnet18_is_as_small_and_as_fast_as_it_must_be(tmp_path, binary, weights, most):
    card, path = cards.popped(RESNET, 0.95, binary), tmp_path / "a.card"
    card = jax.tree.map(np.asarray, card)
    weighs = 4 * sum(x.size for x in jax.tree.leaves(only_prunable(card.params)))
    assert weighs == 44_657_408
    origin = None if weights == "signs" else cards.origin()
    save = lambda: pack.save(path, card, RESNET, META, weights, origin)
    assert cpu_seconds(save) < 3
    assert cpu_seconds(lambda: pack.load(path)) < 3
    assert path.stat().st_size <= most * weighs
    assert same(pack.load(path).card.params, card.params)
    if not binary:
        pack.save(path, card, RESNET, META, "float16")
        assert path.stat().st_size <= 0.037 * weighs


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["layerwise", "global"])
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.98])
def test_masks_of_a_resnet18_are_close_to_their_entropy(sparsity, scope):
    card = cards.popped(RESNET, sparsity, True, scope)
    table = size.table(pack.encode(card, RESNET, META))
    assert table.entropy <= 8 * table.total.mask < 1.05 * table.entropy
