"""Exported predict functions: reloaded in another process, refused where damaged."""

import dataclasses
import os
import subprocess
import sys

import decks
import numpy as np
import pytest

from cards_jax import export, models, pack
from cards_jax.card import Card
from cards_jax.deck import Deck
from cards_jax.models import shapes
from cards_jax.tree import map_leaves, only_prunable

READ = """
import sys
import numpy as np
from cards_jax import export
path, images, out = sys.argv[1:]
np.save(out, export.load(path)(np.load(images)))
"""
ALONE = """
import sys
import jax
import numpy as np
path, images, out = sys.argv[1:]
exported = jax.export.deserialize(bytearray(open(path, "rb").read()))
assert exported.platforms == ("cpu", "cuda", "tpu"), exported.platforms
assert "cards_jax" not in sys.modules
np.save(out, exported.call(np.load(images)))
"""


def card_of(spec: models.Spec) -> Card:
    """Random arrays: numpy's, which need no compiling."""
    rng = np.random.default_rng(0)
    deviation = lambda x: (2 / max(1, np.prod(x.shape[:-1]))) ** 0.5 if x.ndim > 1 else 0.3
    params = map_leaves(lambda x: np.float32(rng.normal(0, deviation(x), x.shape)), shapes(spec)[0])
    stats = map_leaves(lambda x: np.float32(rng.uniform(0.5, 1.5, x.shape)), shapes(spec)[1])
    mask = map_leaves(lambda w: None if w is None else abs(w) > 0.05, only_prunable(params))
    return Card(params, map_leaves(lambda _: None, params), mask, stats)


@pytest.fixture(scope="module")
def small():
    """(card, spec, images): a network with BatchNorm, convolutions at stride 2 and a normalisation."""
    pytest.importorskip("flatbuffers")
    spec = models.Spec(
        "resnet20", 4, 5, (16, 16, 3), affine=True, bias=True, mean=(0.4, 0.5, 0.6), std=(0.2,) * 3
    )
    images = np.random.default_rng(0).random((3, 16, 16, 3), dtype=np.float32)
    return card_of(spec), spec, images


@pytest.fixture(scope="module")
def path(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "card.jax"
    export.save(path, *small[:2])
    return path


def run(code: str, *args) -> subprocess.CompletedProcess:
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.slow
@pytest.mark.parametrize("code", [READ, ALONE])
def test_another_process_gives_the_same_bits(small, path, tmp_path, code):
    """By this package, and by JAX alone."""
    _, _, images = small
    np.save(tmp_path / "images.npy", images)
    ended = run(code, path, tmp_path / "images.npy", tmp_path / "logits.npy")
    assert ended.returncode == 0, ended.stderr
    here = np.asarray(export.load(path)(images))
    assert np.load(tmp_path / "logits.npy").tobytes() == here.tobytes()


def test_logits_are_the_cards(small, path):
    card, spec, images = small
    logits = export.load(path)
    theirs = np.asarray(pack.logits(card, images, spec))
    assert theirs.std() > 1e-3
    for n in (1, 2, 3):
        close(logits(images[:n]), theirs[:n])
    close(logits(images.astype(np.float64)), theirs)
    bytes_ = np.round(images * 255).astype(np.uint8)
    close(logits(bytes_), np.asarray(pack.logits(card, bytes_, spec)))


def test_pruned_weights_are_zeros_in_the_file(small, path):
    """The weights are in the file as they are, so that it needs no other."""
    card, _, _ = small
    kernel = np.where(card.mask["fc"]["kernel"], card.params["fc"]["kernel"], 0)
    assert (kernel == 0).any() and kernel.tobytes() in path.read_bytes()


def test_networks_that_flatten(tmp_path):
    pytest.importorskip("flatbuffers")
    spec = models.Spec("conv2", 4, 3, (8, 8, 3))
    card, images = card_of(spec), np.full((2, 8, 8, 3), 0.5, np.float32)
    export.save(tmp_path / "card.jax", card, spec, platforms=("cpu",))
    close(export.load(tmp_path / "card.jax")(images), pack.logits(card, images, spec))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 32, 32, 3), np.float32), r"got shape \(2, 32, 32, 3\), expected \(N, 16, 16"),
        (np.zeros((16, 16, 3), np.float32), r"got shape \(16, 16, 3\)"),
        (np.zeros((0, 16, 16, 3), np.float32), "with N >= 1"),
        (np.zeros((2, 16, 16, 3), np.int64), "got dtype int64, expected uint8 or floats"),
    ],
)
def test_images_that_do_not_fit(path, images, message):
    with pytest.raises(ValueError, match=message):
        export.load(path)(images)


def test_damage_is_refused(path, tmp_path):
    whole, bad = path.read_bytes(), tmp_path / "bad.jax"
    rng = np.random.default_rng(0)
    for at in [*rng.integers(0, len(whole), 40), len(whole) - 1, len(whole) - 40]:
        changed = bytearray(whole)
        changed[at] ^= 1 << int(rng.integers(8))
        bad.write_bytes(changed)
        with pytest.raises(ValueError, match=r"bad\.jax: (damaged|cut short)"):
            export.load(bad)
    for end in (0, 1, 20, len(whole) // 2, len(whole) - 1):
        bad.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"bad\.jax: cut short, or not an exported card"):
            export.load(bad)
    with pytest.raises(OSError):
        export.load(tmp_path / "absent.jax")


def test_a_card_in_training_is_refused(small, tmp_path):
    card, spec, _ = small
    with pytest.raises(ValueError, match="popup scores"):
        export.save(tmp_path / "card.jax", card.replace(frozen=card.params), spec)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_missing_flatbuffers_is_named(tmp_path):
    code = "import sys; sys.modules['flatbuffers'] = None\n" + READ
    ended = run(code, tmp_path / "card.jax", "-", "-")
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: exported cards need the package flatbuffers: pip install")


def test_a_deck_with_its_gate(tmp_path):
    """One choice for all images of a call; a deck that cannot choose asks all cards."""
    pytest.importorskip("flatbuffers")
    deck = decks.small(("plain", "gaussian", "plain"))
    export.save_deck(tmp_path / "deck.jax", deck, platforms=("cpu",))
    found, images = export.load(tmp_path / "deck.jax"), decks.smooth(20)
    for some in (images, decks.noisy(images)):
        close(found(some), np.asarray(deck.predict(some)))
    chosen = [deck.choose(x).weights.argmax() for x in (images, decks.noisy(images))]
    assert chosen == [0, 1]
    images[3] = 99  # has no say
    close(found(images), np.asarray(deck.predict(images)))
    assert deck.choose(images).weights.argmax() == 0 and not deck.choose(images).agnostic.any()
    images[:] = 99
    close(found(images), np.asarray(deck.predict(images, adaptive=False)))


def test_a_gate_for_single_images_is_refused(tmp_path):
    """A file makes one choice for a call. Needs no flatbuffers: nothing is exported."""
    deck = decks.small(("plain", "gaussian"))
    settings = dataclasses.replace(deck.gate.settings, per_image=True)
    single = Deck(deck.members, dataclasses.replace(deck.gate, settings=settings))
    with pytest.raises(ValueError, match="per_image=True chooses for each image; allowed is"):
        export.save_deck(tmp_path / "deck.jax", single)
    assert not list(tmp_path.iterdir())
