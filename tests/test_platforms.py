"""Programs for a GPU and a TPU, lowered on a machine that has neither: what these cannot take shows here."""

import re

import decks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from cards_jax import config, deck_program, hand, realizations
from cards_jax.corruptions import catalog, program
from cards_jax.evaluate import fourier
from cards_jax.realizations import Layout
from cards_jax.trainer import Trainer

BACKENDS = {"gpu": "cuda", "tpu": "tpu"}
R = 3


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    """Code that asks for the backend is told this one."""
    monkeypatch.setattr(jax, "default_backend", lambda: request.param)
    jax.clear_caches()  # what was traced for another one
    yield request.param
    jax.clear_caches()


def lowered(jitted, backend: str, *args) -> str:
    return jitted.trace(*args).lower(lowering_platforms=(BACKENDS[backend],)).as_text()


@pytest.fixture
def texts(backend, monkeypatch) -> list[str]:
    """Of programs over realizations and of decks, which are lowered for the backend instead of being run: they give
    zeros."""
    found = []

    class Program:
        def __init__(self, jitted):
            self.jitted = jitted

        def lower(self, *args):
            found.append(lowered(self.jitted, backend, *args))
            return self

        def compile(self):
            return lambda *args: jax.tree.map(
                lambda x: jnp.zeros(x.shape, x.dtype), self.jitted.eval_shape(*args)
            )

        def __call__(self, *args):
            return self.lower(*args).compile()(*args)

    def instead(owner, name: str) -> None:
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, **kwargs: Program(real(*args, **kwargs)))

    deck_program.program.cache_clear()
    instead(Layout, "map")
    instead(deck_program, "program")
    return found


def groups(text: str) -> list[int]:
    """Of all convolutions: one, or as many as there are realizations where vmap has grouped them."""
    return [int(n) for n in re.findall(r"feature_group_count = (\d+)", text)]


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "bp", "augment": "augmix", "popup__progressive_epochs": 0},
        pytest.param({"method": "gmp", "pruning__every": 2}, marks=pytest.mark.slow),
        pytest.param({"method": "lrr", "augment": "prime"}, marks=pytest.mark.slow),
        pytest.param(
            {"method": "ep", "scope": "global", "popup__progressive_epochs": 0},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda fields: fields["method"],
)
def test_training_is_lowered_as_that_backend_is_fast(fields, backend, texts):
    """Networks side by side; on a GPU, where grouped convolutions are slow, one convolution for each."""
    c = small.tiny(seeds=tuple(range(R)), sparsity=(0.2,), **fields)
    points = config.points(c)
    layout = realizations.layout(R, 1, c.batch_size, 1, mapping="vmap")
    t = Trainer(c, small.data(), layout)
    group = t.group(points)
    state = t.deal(group)
    for index in range(len(group.phases)):
        state = t.enter(state, group, index)
        state, _ = t.chunk(state, group, index, 0, 1, True)
        t.evaluate(state, group, index, 1)
        t.finish(state, group, index)
    assert len(texts) >= 5
    assert not [text for text in texts if "f64" in text]  # TPUs have none
    chunk = max(texts, key=lambda text: len(groups(text)))
    assert (max(groups(chunk)) > 1) == (backend == "tpu")


@pytest.mark.slow
def test_a_deck_and_its_gate_are_lowered(texts):
    deck, images = decks.small(), np.zeros((40, 8, 8, 3), np.uint8)
    deck.predict(images, adaptive=False)
    deck.predict(images, adaptive=True)
    assert len(texts) == 2 and len(texts[1]) > len(texts[0])
    assert not [text for text in texts if "f64" in text]


@pytest.mark.slow
def test_a_heatmap_is_lowered(texts):
    one = hand.stacked([decks.file(), decks.file()])
    images, labels = np.zeros((2, 8, 8, 3), np.uint8), np.zeros(2, np.int32)
    fourier.sweep(one, images, labels, fourier.Settings((4.0,), 2))
    assert texts and not [text for text in texts if "f64" in text]


@pytest.mark.slow
@pytest.mark.parametrize("name", catalog.names())
def test_corruptions_are_lowered(name, backend):
    images = np.zeros((2, 32, 32, 3), np.uint8)
    args = (jax.random.key(0), images, np.int32(3), 0, name, None)
    text = lowered(program._corrupted, backend, *args)
    assert "ui8" in text and "f64" not in text
