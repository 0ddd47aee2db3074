"""Cards in int8."""

import cards
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cards_jax import card, forms, pack, quantize, size
from cards_jax.pack import CardFile
from cards_jax.tree import flatten, prunable

META = {"config": {"augment": "gaussian"}, "result": {"test_accuracy": 0.5}}


def file(spec=cards.NORMALISED, sparsity: float | None = None) -> CardFile:
    """A dense card, or a sparse one with floats."""
    c = cards.fresh(spec) if sparsity is None else cards.sampled(spec, sparsity, False)
    return CardFile(c, spec, META)


@pytest.mark.parametrize("sparsity", [None, 0.8])
def test_steps_of_a_scale_per_channel(sparsity):
    before = file(sparsity=sparsity)
    after = quantize.quantized(before, "dense")
    weights, found = (flatten(card.weights(x.card)) for x in (before, after))
    for path, w in weights.items():
        w, x = np.asarray(w), np.asarray(found[path])
        if not prunable(path):
            np.testing.assert_array_equal(x, w)
            continue
        scale = np.abs(w).reshape(-1, w.shape[-1]).max(0) / 127
        assert (np.abs(x - w) <= scale * (0.5 + 1e-4)).all()
        steps = x / np.where(scale > 0, scale, 1)
        assert np.abs(steps - np.round(steps)).max() < 0.01 and np.abs(steps).max() < 127.01
        assert (x[w == 0] == 0).all()
    assert "result" not in after.meta and after.meta["quantized"]["of"] == "dense"
    assert after.meta["config"] == META["config"]


def test_the_file_is_small_and_reads_back_bit_for_bit():
    content = quantize.encoded(file(), "dense")
    whole = pack.encode(file().card, cards.NORMALISED, META)
    total, before = size.table(content).total, size.table(whole).total
    assert total.paper * 4 == before.paper and total.true == len(content) < 0.45 * len(whole)
    once = quantize.quantized(file(), "dense")
    # What was read is written as it was, also where nobody says that it is int8.
    again = pack.encode(once.card, once.spec, once.meta)
    assert again == content
    twice = quantize.quantized(once, "dense")
    jax.tree.map(np.testing.assert_array_equal, twice.card.params, once.card.params)


MOST = float(np.float32(1e30))


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.floats(-MOST, MOST, width=32), min_size=1, max_size=40),
    st.integers(1, 5),
)
def test_any_finite_values(values, channels):
    """Encoding what was decoded changes no bit, and every value is within half a step."""
    values = np.float32(values)
    places = np.arange(len(values))
    decoded = lambda x: forms.decode(
        forms.encode(x, "int8", None, places, channels), "int8", len(x), None, places, channels
    )
    found = decoded(values)
    assert decoded(found).tobytes() == found.tobytes()
    for k in range(channels):
        mine = slice(k, None, channels)
        bound = np.abs(values[mine]).max(initial=0) * np.float64(1 + 2.0**-15) / 254 + 1e-42
        assert (np.abs(values[mine].astype(float) - found[mine]) <= bound).all()


def test_what_is_not_finite_is_refused():
    c = cards.fresh(cards.SMALL)
    broken = c.replace(params=jax.tree.map(lambda x: np.where(x == x.max(), np.inf, x), c.params))
    with pytest.raises(ValueError, match=r"params/.*: its weights are not all finite"):
        quantize.quantized(CardFile(broken, cards.SMALL, META))


def test_the_command(tmp_path, capsys):
    pack.save(tmp_path / "a.card", cards.fresh(cards.SMALL), cards.SMALL, META)
    assert quantize.main([str(tmp_path / "a.card"), f"--save={tmp_path / 'out'}"]) == 0
    found = pack.load(tmp_path / "out" / "a_int8.card")
    assert found.meta["quantized"]["of"] == "a" and "true bytes" in capsys.readouterr().out
    assert quantize.main([str(tmp_path / "none"), f"--save={tmp_path / 'out'}"]) == 2
