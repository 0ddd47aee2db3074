"""Scalars and rows as files hold them."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def plain(value: Any) -> str | int | float | bool | None:
    """One scalar as strict JSON can hold it: NaN and infinities become None.

    A float32 (or narrower) number becomes the float with the fewest digits that casts back to it,
    so files say 0.1 and not 0.10000000149011612. Raises ValueError for anything but a scalar.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    scalar = np.asarray(value)[()]
    if isinstance(scalar, np.bool_ | np.integer | np.str_):
        return scalar.item()
    try:
        number = float(str(scalar))
    except ValueError:
        raise ValueError(f"expected one number, string or None, got {value!r}") from None
    return number if math.isfinite(number) else None


def csv_text(table: Sequence[Sequence[Any]]) -> str:
    """Rows as CSV text with unix line ends; None is an empty cell, floats keep every digit."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()
