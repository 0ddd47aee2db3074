"""Numbers keep every digit that they had, in as few as that takes."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cards_jax.plain import plain


@given(st.floats(width=64))
def test_plain_keeps_every_float64(value):
    written = json.loads(json.dumps(plain(np.float64(value)), allow_nan=False))
    if math.isfinite(value):
        assert written == value and math.copysign(1, written) == math.copysign(1, value)
    else:
        assert written is None


@given(st.floats(width=32))
def test_plain_keeps_every_float32(value):
    written = json.loads(json.dumps(plain(np.float32(value)), allow_nan=False))
    if math.isfinite(value):
        assert np.float32(written).tobytes() == np.float32(value).tobytes()
    else:
        assert written is None


def test_plain_writes_few_digits():
    assert repr(plain(np.float32(0.1))) == "0.1"
    assert plain(np.array(3, np.int32)) == 3
    assert plain(np.bool_(True)) is True


@pytest.mark.parametrize("value", [[1.0], np.ones(1), {}, 1j, b"x"])
def test_plain_refuses_what_is_no_scalar(value):
    with pytest.raises(ValueError, match="expected one number"):
        plain(value)
