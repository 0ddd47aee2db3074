"""Line charts as SVG: means in bands from the smallest to the largest; values for pointer and keyboard beside them."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from cards_jax.page.html import Html, data, tag

WIDTH, HEIGHT = 360, 228
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 38
COLOURS = 7  # --c0 ... of the style sheet; a scale where there are more
DASHES = (None, "7 2.5", "2 2", "7 2.5 2 2.5")  # as figures.DASHES


@dataclasses.dataclass(frozen=True)
class Line:
    """Values of one kind of card over x. colour: number out of `colours`."""

    label: str
    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    colour: int = 0
    colours: int = 1
    dash: int = 0

    @property
    def style(self) -> str:
        """The custom property that its marks are drawn with."""
        return f"--c:{colour(self.colour, self.colours)}"


def colour(number: int, count: int) -> str:
    """A colour that colour-blind readers can tell from its neighbours, in light and dark."""
    if count <= COLOURS:
        return f"var(--c{number})"
    return f"color-mix(in oklab,var(--s1) {100 * number / (count - 1):.0f}%,var(--s0))"


@dataclasses.dataclass(frozen=True)
class Chart:
    """What a chart shows. at: how an x is named for a reader. y: the range, None is that of the values."""

    identity: str
    title: str
    x_name: str
    lines: tuple[Line, ...]
    text: Callable[[float], str]
    at: Callable[[float], str]
    ticks: tuple[tuple[float, str], ...] | None = None
    y: tuple[float, float] | None = None
    logarithmic: bool = False
    marks: bool = False

    def xs(self) -> list[float]:
        """Every x of some line."""
        return sorted({x for line in self.lines for x in line.x})

    def values(self) -> dict[str, Any]:
        """What a reader is told at every x: its place, its name, and what each line has there."""
        xs, place = self.xs(), self._x()
        texts = [[self.value(line, x) for x in xs] for line in self.lines]
        return {
            "x": [round(place(x), 1) for x in xs],
            "at": [self.at(x) for x in xs],
            "labels": [line.label for line in self.lines],
            "texts": texts,
        }

    def value(self, line: Line, x: float) -> str:
        """What a line has there, as text; nothing where it has no such x."""
        if x not in line.x:
            return ""
        i = line.x.index(x)
        low, mean, high = (self.text(v[i]) for v in (line.low, line.mean, line.high))
        return mean if low == high else f"{mean} ({low} to {high})"

    def _x(self) -> Callable[[float], float]:
        xs = self.xs()
        low, high = xs[0], xs[-1]
        room = 0.04 * (high - low) if self.marks else 0.0
        low, high = low - room, high + room
        if low == high:
            low, high = low - 1, high + 1
        return lambda x: LEFT + (WIDTH - LEFT - RIGHT) * (x - low) / (high - low)

    def _y(self) -> tuple[Callable[[float], float], float, float]:
        low, high = self.y or (
            min(v for line in self.lines for v in line.low),
            max(v for line in self.lines for v in line.high),
        )
        if low == high:
            low, high = (low / 2, high * 2) if self.logarithmic else (low - 1, high + 1)
        f = math.log10 if self.logarithmic else float
        a, b = f(low), f(high)
        room = 0.04 * (b - a)
        a, b = a - room, b + room
        scale = lambda v: TOP + (HEIGHT - TOP - BOTTOM) * (b - f(max(v, 1e-300))) / (b - a)
        return (
            (
                scale
                if self.logarithmic
                else lambda v: TOP + (HEIGHT - TOP - BOTTOM) * (b - v) / (b - a)
            ),
            low,
            high,
        )

    def svg(self) -> Html:
        """The drawing; readable without a script."""
        fx, (fy, low, high) = self._x(), self._y()
        clip = f"{self.identity}-clip"
        box = dict(x=LEFT, y=TOP, width=WIDTH - LEFT - RIGHT, height=HEIGHT - TOP - BOTTOM)
        x_ticks = self.ticks or [(x, f"{x:g}") for x in ticks(self.xs()[0], self.xs()[-1], 5)]
        y_ticks = decades(low, high) if self.logarithmic else ticks(low, high, 5)
        return tag(
            "svg",
            tag("title", self.title),
            tag("clipPath", tag("rect", **box), id=clip),
            [_y_tick(fy(y), f"{y:g}") for y in y_ticks],
            [_x_tick(fx(x), text) for x, text in _spaced(x_ticks, fx)],
            tag("text", self.x_name, x=LEFT + box["width"] / 2, y=HEIGHT - 4, class_="axis"),
            tag("g", [self._line(line, fx, fy) for line in self.lines], clip_path=f"url(#{clip})"),
            tag("line", class_="cursor", y1=TOP, y2=HEIGHT - BOTTOM, visibility="hidden"),
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            role="img",
            aria_label=self.summary(),
        )

    def summary(self) -> str:
        """One sentence for who does not see it: where each line ends."""
        ends = [f"{line.label} {self.value(line, line.x[-1])}" for line in self.lines]
        return f"{self.title}; at the right end: {'; '.join(ends)}."

    def _line(self, line: Line, fx, fy) -> Html:
        points = lambda values: [
            f"{fx(x):.1f},{fy(v):.1f}" for x, v in zip(line.x, values, strict=True)
        ]
        band = [*points(line.high), *reversed(points(line.low))]
        marked = self.marks or len(line.x) == 1
        dots = [p.split(",") for p in points(line.mean)] if marked else []
        return tag(
            "g",
            tag("polygon", points=" ".join(band), class_="band") if line.low != line.high else None,
            tag("polyline", points=" ".join(points(line.mean)), stroke_dasharray=DASHES[line.dash]),
            [tag("circle", cx=x, cy=y, r=3) for x, y in dots],
            style=line.style,
            class_="line",
        )


def legend(lines: Sequence[Line]) -> Html:
    """What the lines are, with a piece of each."""
    entries = [
        tag(
            "li",
            tag(
                "svg",
                tag("line", x1=1, x2=27, y1=5, y2=5, stroke_dasharray=DASHES[line.dash]),
                viewBox="0 0 28 10",
                aria_hidden="true",
                style=line.style,
            ),
            line.label,
        )
        for line in lines
    ]
    return tag("ul", entries, class_="legend")


def figure(chart: Chart) -> Html:
    """A chart with its title, and the line that says the values under pointer or keys."""
    hint = "Point at the chart, or focus it and use the arrow keys, for values."
    return tag(
        "figure",
        tag("figcaption", chart.title, id=f"{chart.identity}-name"),
        tag("div", chart.svg(), class_="plot"),
        tag("p", hint, class_="readout script"),
        data(f"{chart.identity}-data", chart.values()),
        class_="chart",
        id=chart.identity,
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers between two others, about so many."""
    span = (high - low) or 1.0
    rough = span / count
    power = 10 ** math.floor(math.log10(rough))
    step = min((m * power for m in (1, 2, 5, 10) if m * power >= rough), default=rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two positive numbers, or powers alone where these are many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    found = [m * 10.0**e for e in range(first, last + 1) for m in factors]
    found = [x for x in found if low * 0.999 <= x <= high * 1.001]
    return found if len(found) > 1 else ticks(low, high, 4)  # within a decade there may be none


def _y_tick(y: float, text: str) -> Html:
    grid = tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid")
    return tag("g", grid, tag("text", text, x=LEFT - 6, y=f"{y + 4:.1f}", class_="y"))


def _x_tick(x: float, text: str) -> Html:
    return tag("text", text, x=f"{x:.1f}", y=HEIGHT - BOTTOM + 15, class_="x")


def _spaced(found: Sequence[tuple[float, str]], fx) -> list[tuple[float, str]]:
    """Those that leave room for their neighbours."""
    kept, last = [], -math.inf
    for x, text in found:
        half = 3.2 * len(text)
        if fx(x) - half > last:
            kept.append((x, text))
            last = fx(x) + half + 4
    return kept
