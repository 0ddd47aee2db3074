"""Masks as bytes: Golomb's code of the gaps between kept weights, without a loop over bits.

A gap g is written as its quotient g // m in unary and its remainder g % m in truncated binary. With the best m this
costs within 5% of the entropy of the layer's density, at any density, where the kept weights follow no pattern (a mask
of every n-th weight may take up to 11% more); m = 1 is the mask itself, bit for bit. Three streams, each with fields of
one width, take the place of codewords of many widths:

  quotients   for every gap so many zeros and a one
  heads       all but the last bit of every remainder
  tails       the last bit of those remainders that need one
"""

import math
from typing import NamedTuple, Self

import numpy as np

LARGEST = 2**32  # weights of one layer


class Code(NamedTuple):
    """What the streams of one mask mean.

    marked: weights that the gaps lead to: the kept ones, or the pruned ones where these are fewer (`inverted`).
    divisor: Golomb's m. quotients, tails: bits of these streams.
    """

    marked: int
    inverted: int
    divisor: int
    quotients: int
    tails: int

    @classmethod
    def checked(cls, fields: list, size: int) -> Self:
        """A code of a mask of `size` weights, read from a file; ValueError where it cannot be one."""
        code = cls(*fields)
        if not all(type(x) is int and 0 <= x <= LARGEST for x in code) or size > LARGEST:
            raise ValueError(f"no mask has the code {list(code)}")
        most = code.marked + (size - code.marked) // max(code.divisor, 1)
        fits = 2 * code.marked <= size and code.inverted <= 1 and 1 <= code.divisor <= max(size, 1)
        if not (fits and code.marked <= code.quotients <= most and code.tails <= code.marked):
            raise ValueError(f"no mask of {size:,} weights has the code {list(code)}")
        return code

    @property
    def width(self) -> int:
        """Bits of a head."""
        return max((self.divisor - 1).bit_length() - 1, 0)

    @property
    def bytes(self) -> tuple[int, int, int]:
        """Length of each of the three streams."""
        bits = self.quotients, self.marked * self.width, self.tails
        return tuple(-(-n // 8) for n in bits)

    def kept(self, size: int) -> int:
        """Weights that stay, of so many."""
        return size - self.marked if self.inverted else self.marked


def entropy(kept: int, size: int) -> float:
    """Bits that a mask of this density costs at least, when nothing else is known of it."""
    parts = [n for n in (kept, size - kept) if n]
    return sum(n * math.log2(size / n) for n in parts)


def best_divisor(marked: int, size: int) -> int:
    """Golomb's m for geometric gaps (Gallager and van Voorhis 1975): the least with q^m + q^(m + 1) <= 1."""
    if not 0 < marked < size:
        return 1
    q = 1 - marked / size
    return min(max(1, math.ceil(-math.log1p(q) / math.log(q))), size)


def encode(mask: np.ndarray) -> tuple[Code, bytes]:
    """A boolean array of any shape as (code, bytes)."""
    flat = np.ascontiguousarray(mask, bool).ravel()
    kept = int(np.count_nonzero(flat))
    inverted = 2 * kept > flat.size
    places = np.flatnonzero(~flat if inverted else flat)
    m = best_divisor(len(places), flat.size)
    quotients, rest = np.divmod(np.diff(places, prepend=-1) - 1, m)
    ends = np.cumsum(quotients + 1)
    unary = np.zeros(ends[-1] if len(ends) else 0, bool)
    unary[ends - 1] = True
    heads, tails = _split(rest, m)
    code = Code(len(places), int(inverted), m, len(unary), len(tails))
    return code, b"".join(x.tobytes() for x in _packed(unary, heads, tails, code.width))


def decode(code: Code, content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The mask of a checked code; ValueError where its bytes are not what `encode` writes."""
    size = math.prod(shape)
    first, second, third = np.cumsum(code.bytes)
    if len(content) != third:
        raise ValueError(f"{len(content):,} bytes instead of {third:,}")
    raw = np.frombuffer(content, np.uint8)
    unary = np.unpackbits(raw[:first], count=code.quotients)
    heads = _fields(raw[first:second], code.marked, code.width)
    tails = np.unpackbits(raw[second:], count=code.tails)
    ends = np.flatnonzero(unary)
    if len(ends) != code.marked or not (unary[-1:] == 1).all():
        raise ValueError("quotients and their number disagree")
    quotients = np.diff(ends, prepend=-1) - 1
    places = np.cumsum(quotients * code.divisor + _joined(heads, tails, code.divisor) + 1) - 1
    if len(places) and places[-1] >= size:
        raise ValueError("gaps lead out of the layer")
    mask = np.full(size, bool(code.inverted))
    mask[places] = not code.inverted
    return mask.reshape(shape)


def _cutoff(m: int) -> int:
    """How many of the remainders 0 to m - 1 are short: of a head alone."""
    return (1 << (m - 1).bit_length()) - m if m > 1 else 1


def _split(rest: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Heads of all remainders, tails of the long ones."""
    long = rest >= _cutoff(m)
    shifted = rest + _cutoff(m)
    return np.where(long, shifted >> 1, rest), (shifted[long] & 1).astype(bool)


def _joined(heads: np.ndarray, tails: np.ndarray, m: int) -> np.ndarray:
    """The inverse of `_split`."""
    long = heads >= _cutoff(m)
    if np.count_nonzero(long) != len(tails):
        raise ValueError("remainders and their number disagree")
    rest = heads.copy()
    rest[long] = 2 * heads[long] + tails - _cutoff(m)
    return rest


def _packed(unary, heads, tails, width: int) -> list[np.ndarray]:
    places = np.arange(width - 1, -1, -1)
    bits = (heads.astype(np.uint32)[:, None] >> places.astype(np.uint32)) & 1
    return [np.packbits(x) for x in (unary, bits.astype(bool), tails)]


def _fields(raw: np.ndarray, count: int, width: int) -> np.ndarray:
    """`count` big-endian numbers of `width` bits, int64."""
    bits = np.unpackbits(raw, count=count * width).reshape(count, width)
    values = np.zeros(count, np.int64)
    for i in range(width):
        values = 2 * values + bits[:, i]
    return values
