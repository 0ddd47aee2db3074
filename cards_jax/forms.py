"""Forms in which a layer's kept weights are bytes: floats, signs with one gain, or what a key draws again.

float32      every bit
float16      half as many; |difference| <= 2^-11 |w| + 2^-25
int8         whole steps from -127 to 127 of a scale in float32 for each output channel; |difference| <= scale / 2
signs        +-gain: the gain in float32, one bit for each weight
key_signs    +-gain: the gain; the signs are those of the origin's draw
key_floats   the layer's scale in float32, times the origin's draw
"""

import numpy as np

from cards_jax.origin import Draw

FORMS = ("float32", "float16", "int8", "signs", "key_signs", "key_floats")
KEYED = ("key_signs", "key_floats")
LOSSY = ("float16", "int8")
STEPS = 127  # of int8, to either side
SIGN = np.uint32(2**31)
NEAR = 3  # steps between neighbouring floats by which a quotient of two rounded weights can be off


def paper_bits(form: str) -> int:
    """Bits per weight as the paper counts them: 1 of a binary network, else those of a float (or of int8)."""
    return {"signs": 1, "key_signs": 1, "float16": 16, "int8": 8}.get(form, 32)


def gain_bytes(form: str, channels: int) -> int:
    """What a layer's gain or scales take."""
    return 0 if form.startswith("float") else 4 * channels if form == "int8" else 4


def value_bytes(form: str, count: int) -> int:
    """What so many weights take beside it."""
    each = {"float32": 4 * count, "float16": 2 * count, "int8": count, "signs": -(-count // 8)}
    return each.get(form, 0)


def binary(values: np.ndarray) -> bool:
    """Whether all float32 values have one magnitude, to the last bit."""
    bits = values.view(np.uint32) & ~SIGN
    return bool((bits == bits[:1]).all())


def lossless(
    values: np.ndarray, draw: Draw | None, places: np.ndarray | None, channels: int = 1
) -> str:
    """The smallest form that gives back every bit on every machine.

    Floats from a key do not: their last bits depend on a device's arithmetic.
    """
    if binary(values):
        drawn = draw is not None and (draw.negative(places) == np.signbit(values)).all()
        return "key_signs" if drawn else "signs"
    small = value_bytes("int8", len(values)) + gain_bytes("int8", channels)
    if small < value_bytes("float32", len(values)) and np.isfinite(values).all():
        content = encode(values, "int8", None, places, channels)
        same = decode(content, "int8", len(values), None, places, channels)
        if same.tobytes() == values.tobytes():
            return "int8"
    return "float32"


def encode(
    values: np.ndarray,
    form: str,
    draw: Draw | None = None,
    places: np.ndarray | None = None,
    channels: int = 1,
) -> bytes:
    """float32 values (n,) as bytes.

    The forms with a key take the layer's draw, and the places of the values in it; int8 takes these, and the number of
    output channels, the layer's last axis. Raises ValueError where the values do not have that form, except that
    key_signs is taken from who asked `lossless`.
    """
    if form == "float32":
        return values.astype("<f4").tobytes()
    if form == "float16":
        return _halved(values).astype("<f2").tobytes()
    if form == "int8":
        scales, steps = _quantised(values, places % channels, channels)
        return scales.astype("<f4").tobytes() + steps.tobytes()
    if form == "key_floats":
        return _scale(values, draw.units(places)).astype("<f4").tobytes()
    if not binary(values):
        raise ValueError("its kept weights have more than one magnitude")
    gain = np.abs(values[:1]) if len(values) else np.zeros(1, np.float32)
    if form == "signs":
        return gain.astype("<f4").tobytes() + np.packbits(np.signbit(values)).tobytes()
    return gain.astype("<f4").tobytes()


def decode(
    content: bytes,
    form: str,
    count: int,
    draw: Draw | None = None,
    places: np.ndarray | None = None,
    channels: int = 1,
) -> np.ndarray:
    """What `encode` was given, float32 (count,); `content` has gain_bytes and value_bytes of its form."""
    if form.startswith("float"):
        return np.frombuffer(content, {"float32": "<f4", "float16": "<f2"}[form]).astype(np.float32)
    if form == "int8":
        scales = np.frombuffer(content[: 4 * channels], "<f4").astype(np.float32)
        steps = np.frombuffer(content[4 * channels :], np.int8).astype(np.float32)
        return steps * scales[places % channels]
    gain = np.frombuffer(content[:4], "<f4")
    if form == "key_floats":
        return draw.units(places) * gain
    if form == "signs":
        signs = np.unpackbits(np.frombuffer(content[4:], np.uint8), count=count)
    else:
        signs = draw.negative(places)
    return (gain.view("<u4") | signs * SIGN).astype(np.uint32).view(np.float32)


def near(values: np.ndarray, found: np.ndarray, form: str) -> bool:
    """Whether an array, pruned weights as zeros, is another in a lossy form, within the stated tolerance."""
    if form == "float16":
        allowed = 2.0**-11 * np.abs(values) + 2.0**-25
    else:  # the scale is the largest / STEPS, at most 2^-16 of it more; the last bits are those of the subtraction
        largest = np.abs(values).reshape(-1, values.shape[-1]).max(0, initial=0)
        allowed = largest.astype(np.float64) * (1 + 2.0**-15) / (2 * STEPS) + 2.0**-140
    return bool((np.abs(values.astype(np.float64) - found) <= allowed).all())


def _quantised(
    values: np.ndarray, columns: np.ndarray, channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """(scales (channels,) float32, steps (n,) int8).

    A scale is rounded up to 17 bits, so that its multiples are exact: what was read is written as it was.
    """
    if not np.isfinite(values).all():
        raise ValueError("its weights are not all finite")
    largest = np.zeros(channels, np.float32)
    np.maximum.at(largest, columns, np.abs(values))
    scales = (((largest / np.float32(STEPS)).view(np.uint32) + 127) & ~np.uint32(127)).view(
        np.float32
    )
    divisors = np.where(scales > 0, scales, np.float32(1))[columns]
    return scales, np.rint(values / divisors).astype(np.int8)


def _halved(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise ValueError("its weights do not lie in float16's range, -65504 to 65504")
    return half


def _scale(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """The float32 (1,) that units are multiplied by to give the values, bit for bit."""
    if not len(values):
        return np.zeros(1, np.float32)
    largest = np.argmax(np.abs(units))
    guess = np.float32(np.abs(values[largest].astype(float) / units[largest]))
    candidates = guess.view(np.uint32) + np.arange(-NEAR, NEAR + 1).astype(np.uint32)
    for bits in candidates:
        scale = bits.reshape(1).view(np.float32)
        if all((units[part] * scale == values[part]).all() for part in (slice(64), slice(None))):
            return scale
    raise ValueError("its weights are not what its origin draws, times one number")
