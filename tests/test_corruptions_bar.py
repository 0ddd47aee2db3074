"""CIFAR-10-C-bar beside straightforward NumPy and SciPy, with the same draws."""

import jax
import numpy as np
import pytest
from photographs import photographs
from scipy import ndimage

from cards_jax import corruptions
from cards_jax.corruptions import bar, lines

SIZE = 32
ROW, COLUMN = np.mgrid[:SIZE, :SIZE]


def drawn(name, count, severity=3):
    """Draws of this package, stacked over images, as numpy arrays."""
    draw = corruptions.find(name).draw
    keys = jax.random.split(jax.random.key(7), count)
    stacked = jax.vmap(lambda key: draw(key, severity, (SIZE, SIZE, 3)))(keys)
    return jax.tree.map(np.asarray, stacked)


def check(name, recipe, equal, largest, severities=(1, 5)):
    """Whether `recipe(image, level, *draws of it)` agrees with the corruption."""
    images, corruption = photographs(SIZE, 4), corruptions.find(name)
    for severity in severities:
        level = getattr(bar, name.upper())[severity - 1]
        if corruption.draw is None:
            mine = jax.jit(jax.vmap(corruption.apply, (0, None)))(images, severity)
            each = [()] * len(images)
        else:
            draws = drawn(name, len(images), severity)
            mine = jax.jit(jax.vmap(corruption.apply, (0, None, 0)))(images, severity, draws)
            draws = draws if isinstance(draws, tuple) else (draws,)
            each = list(zip(*draws, strict=True))
        theirs = [recipe(image, level, *d) for image, d in zip(images, each, strict=True)]
        difference = np.abs(np.asarray(mine).astype(int) - np.stack(theirs))
        assert (difference == 0).mean() >= equal and difference.max() <= largest, severity


def cut(values):
    return np.clip(values, 0, 255).astype(np.uint8)


def coloured(phases, power):
    """Real noise by an explicit sum over waves."""
    wave = np.exp(2j * np.pi * np.outer(np.arange(SIZE), np.arange(SIZE) - SIZE // 2) / SIZE)
    noise = np.real(wave @ (power * np.exp(1j * phases.astype(float))) @ wave.T)
    return noise / noise.std()


RADIUS = np.hypot(ROW - SIZE / 2, COLUMN - SIZE / 2)


def test_blue_noise_sample():
    def recipe(image, level, phases):
        return image * (coloured(phases, RADIUS) > 0.3 * level - 2.5)[..., None]

    check("blue_noise_sample", recipe, 0.999, 255)


def test_brownish_noise():
    def recipe(image, level, phases):
        noise = [coloured(p, 1 / (RADIUS**2 + 1)) for p in phases]
        return cut(image + 6.4 * level * np.stack(noise, -1))

    check("brownish_noise", recipe, 0.999, 1)


def test_phases_of_an_odd_side_make_real_noise():
    phases = np.asarray(bar._phases(jax.random.key(0), 27))
    np.testing.assert_array_equal(phases[:, :13], phases[::-1, ::-1][:, :13])
    assert phases[13, 13] == 0


def test_checkerboard_cutout():
    def recipe(image, level, angle, side, uniform):
        number = int(4 * SIZE // side)
        out = image.copy()
        for y in range(SIZE):
            for x in range(SIZE):
                down = (np.cos(angle) * y + np.sin(angle) * x) / side
                right = (np.cos(angle) * x - np.sin(angle) * y) / side
                grid = uniform[:number, :number] < level / 10
                if int(down % 2) == int(right % 2) and grid[int(down), int(right)]:
                    out[y, x] = 128
        return out

    check("checkerboard_cutout", recipe, 0.999, 255)


def zingl(r0, c0, r1, c1):
    """(row, column) -> cover, as the rasterising algorithm visits the pixels."""
    dc, dr = abs(c1 - c0), abs(r1 - r0)
    sc, sr = (1 if c0 < c1 else -1), (1 if r0 < r1 else -1)
    length = max(np.hypot(dc, dr), 1)
    error, r, c, seen = dc - dr, r0, c0, {}
    while True:
        seen[r, c] = 1 - abs(error - dc + dr) / length
        before, column = error, c
        if 2 * before >= -dc:
            if c == c1:
                return seen
            if before + dr < length:
                seen[r + sr, c] = 1 - abs(before + dr) / length
            error, c = error - dr, c + sc
        if 2 * before <= dr:
            if r == r1:
                return seen
            if dc - before < length:
                seen[r, column + sc] = 1 - abs(dc - before) / length
            error, r = error + dc, r + sr


def test_cover_of_a_line_is_what_the_algorithm_visits():
    rng = np.random.default_rng(0)
    ends = rng.integers(-20, 40, (300, 2, 2))
    ends[:20, 1] = ends[:20, 0] + rng.integers(-1, 2, (20, 2)) * rng.integers(0, 30, (20, 1))
    mine = jax.jit(jax.vmap(lambda e: lines.cover(e[0], e[1], SIZE)))(ends)
    for (start, end), cover in zip(ends.tolist(), mine, strict=True):
        theirs = np.zeros((SIZE, SIZE))
        for (row, column), value in zingl(*start, *end).items():
            if 0 <= row < SIZE and 0 <= column < SIZE:
                theirs[row, column] = value
        np.testing.assert_allclose(cover, theirs, atol=1e-5)


def test_lines():
    def recipe(image, level, angle, variation, uniform):
        out = image.copy()
        for row, column, turn in uniform[: int(level / 10 * SIZE)]:
            turn = angle + 2 * np.pi * variation * (turn - 0.5)
            down, right = np.cos(turn) * SIZE, np.sin(turn) * SIZE
            row, column = row * SIZE, column * SIZE
            ends = (row - down, column - right, row + down, column + right)
            for (y, x), cover in zingl(*map(int, ends)).items():
                if 0 <= y < SIZE and 0 <= x < SIZE:
                    out[y, x] = (1 - cover) * out[y, x] + cover * 128
        return out

    check("lines", recipe, 0.995, 1)


def star(centre, rays, lengths, sharpness):
    light = np.zeros((SIZE, SIZE))
    for y in range(SIZE):
        for x in range(SIZE):
            down, right = y - centre[0], x - centre[1]
            turn = (np.arctan2(right, down) + np.pi) / (2 * np.pi) * rays
            ray, part = int(turn), turn - int(turn)
            first, second = lengths[ray % rays], lengths[(ray + 1) % rays]
            reach = (first + part * (second - first)) ** 2 / (down**2 + right**2 + 1e-4)
            light[y, x] = np.clip((1 - (part - 0.5) ** 2) * reach**sharpness, 0, 1)
    return light[..., None]


def test_sparkles():
    def recipe(image, level, centres, rays, lengths):
        radius, out = 0.01 * level * SIZE, image.astype(float)
        for centre, count, each in zip(centres, rays, lengths, strict=True):
            light = star(centre, count, np.maximum(1, radius * (1 + 0.25 * each)), 1)
            out += light * (255 - out)
        return cut(out)

    check("sparkles", recipe, 0.995, 1)


def test_inverse_sparkles():
    def recipe(image, level, centre, rays, lengths):
        seen = star(centre, rays, 0.25 * SIZE * (1 + 0.25 * lengths), 0.13 * level)
        return cut(255 + seen * (image - 255.0))

    check("inverse_sparkles", recipe, 0.995, 1)


def sampled(image, rows, columns):
    """Bilinear, black beyond the border."""
    at = lambda c: ndimage.map_coordinates(c, (rows, columns), order=1, mode="grid-constant")
    return cut(np.stack([at(c) for c in np.moveaxis(image.astype(float), -1, 0)], -1))


def test_ripple():
    def recipe(image, level, wavelengths, phases):
        lengths, phases = wavelengths.astype(float), phases.astype(float)
        wave = lambda line, i: (
            line + 0.0025 * level * SIZE * np.sin(2 * np.pi * line / lengths[i] + phases[i])
        )
        return sampled(image, wave(ROW, 0), wave(COLUMN, 1))

    check("ripple", recipe, 0.998, 1)


def test_pinch_and_twirl():
    def recipe(image, level, directions):
        rows, columns = ROW.astype(float), COLUMN.astype(float)
        for i, j in np.ndindex(3, 3):
            middle = np.array([10 * j + 5, 10 * i + 5])
            for y, x in np.ndindex(10, 10):
                place = np.array([10 * j + y, 10 * i + x])
                away = np.linalg.norm(place - middle) / 5
                if 0 < away <= 1:
                    turn = directions[i, j] * level * np.pi / 20 * (1 - away) ** 2
                    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
                    pinch = np.sin(np.pi / 2 * away) ** -(0.04 * level + 0.1)
                    source = middle + pinch * (turned @ (place - middle))
                    rows[tuple(place)], columns[tuple(place)] = source
        return sampled(image, rows, columns)

    check("pinch_and_twirl", recipe, 0.998, 1)


def test_transverse_chromatic_abberation_is_scipy():
    def recipe(image, level, order):
        out = image.copy()
        for channel, part in enumerate(np.array([0, 0.5, 1])[order]):
            zoomed = ndimage.zoom(image[..., channel], 1 + part * level / 20, prefilter=False)
            first = (len(zoomed) - SIZE) // 2
            out[..., channel] = zoomed[first : first + SIZE, first : first + SIZE]
        return out

    check("transverse_chromatic_abberation", recipe, 0.98, 1, corruptions.SEVERITIES)


def test_circular_motion_blur_is_scipy():
    def recipe(image, level):
        total, weights = 0, 0
        for part in np.linspace(-1, 1, 21):
            weight = np.exp(-2 * part**2)
            turned = ndimage.rotate(image / 255, part * 1.5 * level, reshape=False)
            total, weights = total + weight * turned, weights + weight
        return cut(total / weights * 255)

    check("circular_motion_blur", recipe, 0.999, 1)


@pytest.mark.parametrize("name", corruptions.BAR)
def test_stronger_changes_more(name):
    images = photographs(SIZE, 8)
    change = [
        np.abs(
            np.asarray(corruptions.corrupt(jax.random.key(0), images, name, s)).astype(int) - images
        ).mean()
        for s in (1, 5)
    ]
    assert 0 < change[0] < change[1]
