"""CIFAR-10-C-bar: ten corruptions chosen to be unlike those of CIFAR-10-C and usual augmentations.

Mintun, Kirillov and Xie, On Interaction Between Augmentations and Corruptions in Natural Corruption
Robustness, NeurIPS 2021; levels as in cifar10_c_bar.csv of facebookresearch/augmentation-corruption.
Lengths are in proportion to the side of the image; the levels were published for 32 pixels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cards_jax.corruptions import lines, matrices, spline
from cards_jax.corruptions.pixels import TIE, bilinear_on_black, floats, grid, truncated
from cards_jax.corruptions.severity import at
from cards_jax.draws import shaped

BLUE_NOISE_SAMPLE = (0.7, 1.4, 2.1, 3.5, 4.2)
BROWNISH_NOISE = (2.5, 4.0, 5.5, 6.5, 7.0)
CHECKERBOARD_CUTOUT = (1.0, 2.0, 3.0, 4.0, 5.0)
CIRCULAR_MOTION_BLUR = (2.8, 3.6, 4.4, 5.2, 6.0)
INVERSE_SPARKLES = (1.0, 1.5, 2.5, 4.5, 5.0)
LINES = (0.5, 1.0, 1.5, 2.0, 2.5)
PINCH_AND_TWIRL = (5.5, 6.0, 6.5, 8.5, 10.0)
RIPPLE = (5.5, 6.0, 6.5, 7.5, 8.0)
SPARKLES = (0.7, 3.5, 5.6, 6.3, 7.0)
TRANSVERSE_CHROMATIC_ABBERATION = (1.0, 2.0, 5.0, 9.0, 10.0)

TURN = 2 * np.pi
MOST_RAYS, SPARKLE_COUNT = 200, 5
MOST_CELLS = 40  # a checkerboard's, along each axis
TURNS = 21  # of which circular motion blur is the mean
TURNED = "circular_motion_blur"
LARGEST_TURNED = 64  # circular motion blur is one (side^2, side^2) matrix


# --- noise with a colour: random phases, amplitudes by frequency


def draw_blue_noise_sample(key: Array, severity: int | Array, shape: tuple[int, ...]) -> Array:
    """Phases (H, W)."""
    del severity
    return _phases(key, shape[0])


def apply_blue_noise_sample(image: Array, severity: int | Array, draws: Array) -> Array:
    """Pixels go black, evenly spread."""
    threshold = 0.3 * at(BLUE_NOISE_SAMPLE, severity) - 2.5
    noise = _coloured(draws, _radius(len(image)))
    return jnp.where(noise[..., None] > threshold, image, 0).astype(jnp.uint8)


def draw_brownish_noise(key: Array, severity: int | Array, shape: tuple[int, ...]) -> Array:
    """Phases (3, H, W)."""
    del severity
    return jax.vmap(lambda k: _phases(k, shape[0]))(jax.random.split(key, 3))


def apply_brownish_noise(image: Array, severity: int | Array, draws: Array) -> Array:
    """Coarse noise in every channel."""
    strength = 6.4 * at(BROWNISH_NOISE, severity)
    power = 1 / (_radius(len(image)) ** 2 + 1)
    noise = jax.vmap(lambda phases: _coloured(phases, power))(draws)
    return truncated(floats(image) + strength * jnp.moveaxis(noise, 0, -1))


def _phases(key: Array, size: int) -> Array:
    """Phases (size, size) whose halves mirror each other, with an own middle column where the side is odd."""
    half = shaped(jax.random.uniform, key, (size, size // 2), maxval=TURN)
    if size % 2 == 0:
        return jnp.concatenate([half, half[::-1, ::-1]], 1)
    middle = jax.random.uniform(jax.random.fold_in(key, 1), (size // 2, 1), maxval=TURN)
    middle = jnp.concatenate([middle, jnp.zeros((1, 1)), middle[::-1]], 0)
    return jnp.concatenate([half, middle, half[::-1, ::-1]], 1)


def _coloured(phases: Array, power: Array) -> Array:
    """Noise (H, W) of standard deviation 1 with these phases and amplitudes, frequency 0 in the middle."""
    half = len(phases) // 2
    spectrum = jnp.roll(power * jnp.exp(1j * phases), (half, half), (0, 1))
    noise = jnp.real(jnp.fft.ifft2(spectrum))
    return noise / jnp.std(noise)


def _radius(size: int) -> Array:
    y, x = grid(size)
    return jnp.hypot(y - size / 2, x - size / 2)


# --- things in front of the image


def draw_checkerboard_cutout(
    key: Array, severity: int | Array, shape: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    """(angle, side of a cell in pixels, uniform values (40, 40) of cells)."""
    del severity
    turn, scale, cells = jax.random.split(key, 3)
    side = jax.random.uniform(scale, minval=0.1, maxval=0.25) * shape[0]
    uniform = shaped(jax.random.uniform, cells, (MOST_CELLS, MOST_CELLS))
    return jax.random.uniform(turn, maxval=TURN), jnp.maximum(side, 1), uniform


def apply_checkerboard_cutout(
    image: Array, severity: int | Array, draws: tuple[Array, Array, Array]
) -> Array:
    """Some black fields of a turned checkerboard, in grey."""
    angle, side, uniform = draws
    chosen = uniform < at(CHECKERBOARD_CUTOUT, severity) / 10
    y, x = grid(len(image))
    down = (jnp.cos(angle) * y + jnp.sin(angle) * x) / side
    right = (jnp.cos(angle) * x - jnp.sin(angle) * y) / side
    number = (4 * len(image) // side).astype(jnp.int32)  # negative cells count from this end
    cell = lambda position: jnp.trunc(position).astype(jnp.int32) % number
    odd = lambda position: jnp.floor(position).astype(jnp.int32) & 1
    hidden = (odd(down) == odd(right)) & chosen[cell(down), cell(right)]
    return jnp.where(hidden[..., None], 128, image).astype(jnp.uint8)


def draw_lines(
    key: Array, severity: int | Array, shape: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    """(angle, how much it varies, uniform values (lines, 3) for row, column and angle of each)."""
    del severity
    turn, vary, each = jax.random.split(key, 3)
    variation = jax.random.uniform(vary, minval=0.1, maxval=1.0)
    uniform = shaped(jax.random.uniform, each, (_line_counts(shape[0])[-1], 3))
    return jax.random.uniform(turn, maxval=TURN), variation, uniform


def apply_lines(image: Array, severity: int | Array, draws: tuple[Array, Array, Array]) -> Array:
    """Grey lines across the image, one over another."""
    angle, variation, uniform = draws
    size = len(image)
    count = at(_line_counts(size), severity)

    def draw(image, number):
        row, column, turn = uniform[number]
        turn = angle + TURN * variation * (turn - 0.5)
        middle = jnp.stack([row, column]) * size
        reach = jnp.stack([jnp.cos(turn), jnp.sin(turn)]) * size
        whole = lambda point: jnp.trunc(point).astype(jnp.int32)
        cover = lines.cover(whole(middle - reach), whole(middle + reach), size)[..., None]
        drawn = truncated((1 - cover) * floats(image) + cover * 128)
        return jnp.where(number < count, drawn, image), None

    return lax.scan(draw, image, jnp.arange(len(uniform)))[0]


def _line_counts(size: int) -> tuple[int, ...]:
    return tuple(int(level / 10 * size) for level in LINES)


def draw_sparkles(
    key: Array, severity: int | Array, shape: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    """(centres (5, 2) in pixels, numbers of rays (5,), standard normal lengths of rays (5, 200))."""
    del severity
    where, number, lengths = jax.random.split(key, 3)
    centres = shaped(jax.random.uniform, where, (SPARKLE_COUNT, 2)) * shape[0]
    rays = jax.random.randint(number, (SPARKLE_COUNT,), 50, MOST_RAYS)
    return centres, rays, shaped(jax.random.normal, lengths, (SPARKLE_COUNT, MOST_RAYS))


def apply_sparkles(image: Array, severity: int | Array, draws: tuple[Array, Array, Array]) -> Array:
    """Five small stars of white light."""
    radius = 0.01 * at(SPARKLES, severity) * len(image)
    lit = floats(image)
    for centre, rays, lengths in zip(*draws, strict=True):
        lengths = jnp.maximum(1, radius + 0.25 * radius * lengths)
        light = _star(len(image), centre, rays, lengths, 1.0)[..., None]
        lit = lit + light * (255 - lit)
    return truncated(lit)


def draw_inverse_sparkles(
    key: Array, severity: int | Array, shape: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    """(centre (2,) in pixels, number of rays, standard normal lengths of rays (200,))."""
    del severity
    where, number, lengths = jax.random.split(key, 3)
    centre = jax.random.uniform(where, (2,), minval=0.25, maxval=0.75) * shape[0]
    rays = jax.random.randint(number, (), 50, MOST_RAYS)
    return centre, rays, jax.random.normal(lengths, (MOST_RAYS,))


def apply_inverse_sparkles(
    image: Array, severity: int | Array, draws: tuple[Array, Array, Array]
) -> Array:
    """Only a star of the image is seen, the rest is white."""
    centre, rays, lengths = draws
    radius = 0.25 * len(image)
    sharpness = 6.5 * at(INVERSE_SPARKLES, severity) / 50
    seen = _star(len(image), centre, rays, radius + 0.25 * radius * lengths, sharpness)[..., None]
    return truncated(255 + seen * (floats(image) - 255))


def _star(size: int, centre: Array, rays: Array, lengths: Array, sharpness: float | Array) -> Array:
    """Light from 0 to 1 (size, size): brighter towards the centre and along the middle of each ray."""
    y, x = grid(size)
    down, right = y - centre[0], x - centre[1]
    turn = (jnp.arctan2(right, down) + np.pi) / TURN * rays
    ray = jnp.floor(turn).astype(jnp.int32)
    aside = turn - ray
    first, second = lengths[ray % rays], lengths[(ray + 1) % rays]
    reach = (first + aside * (second - first)) ** 2 / (down**2 + right**2 + 1e-4)
    return jnp.clip((1 - (aside - 0.5) ** 2) * reach**sharpness, 0, 1)


# --- the image bent


def draw_ripple(key: Array, severity: int | Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """(wavelengths (2,) in pixels, phases (2,)) of rows and columns."""
    del severity
    length, phase = jax.random.split(key)
    wavelengths = jax.random.uniform(length, (2,), minval=0.1, maxval=0.3) * shape[0]
    return wavelengths, jax.random.uniform(phase, (2,), maxval=TURN)


def apply_ripple(image: Array, severity: int | Array, draws: tuple[Array, Array]) -> Array:
    """Rows and columns displaced by waves."""
    wavelengths, phases = draws
    amplitude = 0.0025 * at(RIPPLE, severity) * len(image)
    wave = lambda line, axis: (
        line + amplitude * jnp.sin(TURN * line / wavelengths[axis] + phases[axis])
    )
    y, x = grid(len(image))
    return truncated(bilinear_on_black(floats(image), wave(y, 0), wave(x, 1)))


def draw_pinch_and_twirl(key: Array, severity: int | Array, shape: tuple[int, ...]) -> Array:
    """Directions, 1 or -1, of the cells (columns, rows)."""
    del severity
    cells = _cells(shape[0])
    return jax.random.rademacher(key, (cells, cells), jnp.float32)


def apply_pinch_and_twirl(image: Array, severity: int | Array, draws: Array) -> Array:
    """The image is cut into cells, and in each a disc pinched and twirled."""
    size, cells, level = len(image), len(draws), at(PINCH_AND_TWIRL, severity)
    cell = size // cells
    radius = cell / 2
    y, x = grid(size)
    row, column = jnp.floor(y / cell), jnp.floor(x / cell)
    middle_y, middle_x = row * cell + radius, column * cell + radius
    down, right = y - middle_y, x - middle_x
    away = jnp.hypot(down, right) / radius
    inside = (away <= 1) & (away > 0) & (row < cells) & (column < cells)
    direction = draws[
        jnp.minimum(column, cells - 1).astype(int), jnp.minimum(row, cells - 1).astype(int)
    ]
    turn = direction * level * (np.pi / 20) * (1 - away) ** 2
    away = jnp.where(inside, away, 1)
    pinch = jnp.sin(np.pi / 2 * away) ** -(0.04 * level + 0.1)
    source_y = middle_y + pinch * (down * jnp.cos(turn) - right * jnp.sin(turn))
    source_x = middle_x + pinch * (down * jnp.sin(turn) + right * jnp.cos(turn))
    source_y, source_x = jnp.where(inside, source_y, y), jnp.where(inside, source_x, x)
    return truncated(bilinear_on_black(floats(image), source_y, source_x))


def _cells(size: int) -> int:
    return 5 if size >= 224 else 3


def draw_transverse_chromatic_abberation(
    key: Array, severity: int | Array, shape: tuple[int, ...]
) -> Array:
    """Which of three enlargements each channel gets, int32 (3,)."""
    del severity, shape
    return jax.random.permutation(key, 3)


def apply_transverse_chromatic_abberation(
    image: Array, severity: int | Array, draws: Array
) -> Array:
    """The channels are enlarged differently, by splines that also smooth them."""
    zooms = at(_spline_zooms(len(image)), severity)[draws]
    exact = lax.Precision.HIGHEST
    half = jnp.einsum("cyi,ijc->cyj", zooms, floats(image), precision=exact)
    zoomed = jnp.einsum("cxj,cyj->yxc", zooms, half, precision=exact)
    return truncated(zoomed + 0.5)


@functools.cache
def _spline_zooms(size: int) -> np.ndarray:
    """Matrices (5, 3, size, size): the middle of a line enlarged 1, 1 + s / 2 and 1 + s times, s = level / 20."""
    enlarged = lambda level: [_spline_zoom(size, 1 + part * level / 20) for part in (0, 0.5, 1)]
    return np.stack([enlarged(level) for level in TRANSVERSE_CHROMATIC_ABBERATION])


def _spline_zoom(size: int, factor: float) -> np.ndarray:
    large = int(round(size * factor))
    positions = np.arange(large) * ((size - 1) / (large - 1))
    trim = (large - size) // 2
    return spline.weights(positions[trim : trim + size], size)


def apply_circular_motion_blur(image: Array, severity: int | Array) -> Array:
    """The camera turned about its axis: a weighted mean of turned images, black outside of them."""
    size, exact = len(image), lax.Precision.HIGHEST
    if size > LARGEST_TURNED:
        raise ValueError(
            f"{TURNED}: images of {size} pixels a side; allowed are up to {LARGEST_TURNED}"
        )
    smooth = matrices.both_sides(jnp.asarray(spline.through_pixels(size)), floats(image))
    turned = _turned(size, 1.5 * at(CIRCULAR_MOTION_BLUR, severity))
    flat = smooth.reshape(size * size, -1)
    return truncated(jnp.dot(turned, flat, precision=exact).reshape(image.shape) + TIE)


def _turned(size: int, degrees: Array) -> Array:
    """Matrix (size^2, size^2) from spline coefficients to the mean over turns up to some degrees both ways."""
    part = jnp.linspace(-1.0, 1.0, TURNS)
    share = jnp.exp(-2 * part**2)
    angle = jnp.deg2rad(part * degrees).reshape(TURNS, 1, 1)
    y, x = grid(size)
    middle = (size - 1) / 2
    y, x = (y - middle)[None], (x - middle)[None]
    line = lambda positions: spline.weights(positions.reshape(TURNS, -1), size)
    rows = line(middle + jnp.cos(angle) * y + jnp.sin(angle) * x)
    columns = line(middle + jnp.cos(angle) * x - jnp.sin(angle) * y)
    rows = rows * (share / jnp.sum(share)).reshape(TURNS, 1, 1)
    mean = jnp.einsum("tpi,tpj->pij", rows, columns, precision=lax.Precision.HIGHEST)
    return mean.reshape(size * size, size * size)
