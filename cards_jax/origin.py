"""Where random weights came from: the key of a popup card, from which any of them are drawn again, bit for bit.

JAX's counter-based generator gives weight i of a layer from the layer's key and i alone. Here it is in numpy, so that
only the weights that stay are drawn, no program is compiled, and signs need nothing but integers, which no version of
JAX and no device rounds.
"""

import dataclasses
import functools
from typing import Self

import jax
import numpy as np
from jax import Array, lax

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
BLOCK = 2**16  # weights that are drawn at once: they stay in a core's cache
Words = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Origin:
    """What `popup.start` was given: the two words of its key, and the kind of its weights.

    Their magnitude is no part of it: files hold one number per layer for that.
    """

    key: Words
    weight_init: str

    @classmethod
    def of(cls, key: Array, weight_init: str) -> Self | None:
        """The origin of `popup.start(card, key, ..., weight_init, ...)`.

        None where JAX is set to a generator that is not drawn again here.
        """
        ours = str(jax.random.key_impl(key)) == "threefry2x32"
        if not (ours and jax.config.jax_threefry_partitionable):
            return None
        return cls(tuple(int(x) for x in jax.random.key_data(key)), weight_init)

    @classmethod
    def read(cls, key: list, weight_init: str) -> Self:
        """From JSON; ValueError for what is no key."""
        if len(key) != 2 or not all(type(x) is int and 0 <= x < 2**32 for x in key):
            raise ValueError(f"no key has the words {key}")
        return cls((key[0], key[1]), str(weight_init))

    def layer(self, index: int) -> "Draw":
        """The weights of a prunable layer, by its place in the tree's order."""
        return Draw(_child(_child(self.key, index), 0), self.weight_init)


@dataclasses.dataclass(frozen=True)
class Draw:
    """The random weights of one layer, by their places (flat indices, C order)."""

    key: Words
    weight_init: str

    def negative(self, places: np.ndarray) -> np.ndarray:
        """Which of them are below zero, bool (n,)."""
        high = _bits(self.key, places) >= 2**31
        # rademacher asks whether a uniform number is below one half, normal takes its quantile.
        return high if self.weight_init == "signed_constant" else ~high

    def units(self, places: np.ndarray) -> np.ndarray:
        """Weights before their layer's scale, float32 (n,): +-1, or normal ones.

        Their product with one number is what `popup.start` gives. Last bits of normal ones are this machine's: verify
        them.
        """
        if self.weight_init == "signed_constant":
            return np.where(self.negative(places), np.float32(-1), np.float32(1))
        fraction = (_bits(self.key, places) >> 9 | 0x3F800000).view(np.float32) - np.float32(1)
        low = np.nextafter(np.float32(-1), np.float32(0))
        uniform = np.maximum(low, fraction * (np.float32(1) - low) + low)
        return np.float32(np.sqrt(2)) * _erf_inv(uniform)


def _erf_inv(x: np.ndarray) -> np.ndarray:
    """In blocks of one shape, so that it compiles once; on the CPU, whose results a laptop's resemble most."""
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # this process was given other devices only
        device = None
    blocks = np.pad(x, (0, -len(x) % BLOCK)).reshape(-1, BLOCK)
    with jax.default_device(device):
        out = [np.asarray(_quantiles()(block)) for block in blocks]
    return np.concatenate([np.zeros(0, np.float32), *out])[: len(x)]


@functools.cache
def _quantiles():
    return jax.jit(lax.erf_inv)


def _child(key: Words, number: int) -> Words:
    """jax.random.fold_in(key, number), and jax.random.split(key)[number]."""
    a, b = _threefry(key, np.zeros(1, np.uint32), np.array([number], np.uint32))
    return int(a[0]), int(b[0])


def _bits(key: Words, places: np.ndarray) -> np.ndarray:
    """The random bits at these places of jax.random.bits(key, shape), uint32 (n,)."""
    out = np.empty(len(places), np.uint32)
    for i in range(0, len(places), BLOCK):
        low = places[i : i + BLOCK].astype(np.uint32)
        a, b = _threefry(key, np.zeros_like(low), low)
        out[i : i + BLOCK] = a ^ b
    return out


def _threefry(key: Words, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011) of the counters (a, b), which are uint32 arrays."""
    words = *key, key[0] ^ key[1] ^ PARITY
    add = lambda x, word: x + np.uint32(word % 2**32)
    a, b = add(a, words[0]), add(b, words[1])
    for i in range(5):
        for r in ROTATIONS[i % 2]:
            a = a + b
            b = (b << np.uint32(r) | b >> np.uint32(32 - r)) ^ a
        a, b = add(a, words[(i + 1) % 3]), add(b, words[(i + 2) % 3] + i + 1)
    return a, b
