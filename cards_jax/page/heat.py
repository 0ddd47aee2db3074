"""Fourier heatmaps: small maps that need no script, and one with values under pointer and arrow keys."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from cards_jax.heat import Heat
from cards_jax.page import tables
from cards_jax.page.html import Html, Section, data, join, picker, section, tag
from cards_jax.page.outcome import Heats
from cards_jax.page.switch import switched, under

BUDGET = (
    450_000  # bytes of all single maps; where they are more, only means over seeds are embedded
)
FINE = 65535  # steps from 0 to 1 of means
# Light is little error; the ends and the middle of both scales are far apart for colour-blind readers as well.
ERROR = ("#fdf6d3", "#f8d37c", "#f0a14e", "#dc6a44", "#b83a52", "#822a62", "#4b1d5e", "#1d1147")
CHANGE = ("#0b3c7d", "#3579b8", "#8fbbdc", "#f4f4f2", "#f3b184", "#cf6a2c", "#7d2f08")


def colours(stops: Sequence[str]) -> np.ndarray:
    """uint8 (256, 3): the scale between these colours."""
    rgb = np.array([[int(s[i : i + 2], 16) for i in (1, 3, 5)] for s in stops], np.float64)
    at = np.linspace(0, len(stops) - 1, 256)
    return (
        np.stack([np.interp(at, range(len(stops)), c) for c in rgb.T], -1).round().astype(np.uint8)
    )


def picture(values: np.ndarray, low: float, high: float, stops: Sequence[str]) -> str:
    """A map (H, W) as the address of a PNG that holds it, one pixel a cell."""
    from PIL import Image

    level = np.clip((values - low) / ((high - low) or 1.0), 0, 1)
    content = io.BytesIO()
    image = Image.fromarray((255 * level).round().astype(np.uint8), "P")
    image.putpalette(colours(stops).tobytes())
    image.save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def packed(maps: Sequence[np.ndarray], images: int) -> dict[str, Any]:
    """Maps of errors, fractions (E, H, W), as text.

    They are whole numbers of `images`, none of which is rounded, where they are such; otherwise steps of 1/65535.
    """
    whole = np.stack(maps)
    counts = whole * images
    exact = images <= FINE and np.abs(counts - counts.round()).max() < 1e-6 * images
    steps = images if exact else FINE
    kind = np.dtype("u1") if steps < 256 else np.dtype("<u2")
    content = np.round(whole * steps).astype(kind)
    return {
        "steps": steps,
        "exact": bool(exact),
        "bytes": kind.itemsize,
        "maps": [base64.b64encode(one.tobytes()).decode() for one in content],
    }


def spectra(parts: Sequence[tuple[str, Heats, Sequence[tables.Table]]]) -> Section | None:
    """The section on heatmaps of (name, heatmaps, tables) of runs; None where there are none, as of diverged cards."""
    parts = [part for part in parts if part[1].groups]
    share = BUDGET // max(1, len(parts))
    shown = {part[0]: _of_run(*part[1:], i, share) for i, part in enumerate(parts)}
    many = len(shown) > 1
    content = switched("heatmaps-view", "Run", under(shown)) if many else list(shown.values())
    return section("heatmaps", "Fourier heatmaps", content) if shown else None


def _of_run(heats: Heats, found: Sequence[tables.Table], number: int, budget: int) -> Html:
    about, groups = heats.settings, heats.groups
    eps, images = about["eps"], int(about["images"])
    mean = lambda members: np.mean([h.errors for h in members], 0)
    maps = [mean(members) for _, _, members in groups]
    most = max(0.01, *(float(m.max()) for m in maps))
    identity = f"h{number}"
    H, W = maps[0].shape[1:]
    text = (
        "Error under noise of one spatial frequency and of L2 norm eps in each channel, mean over seeds; "
        f"{about['data']}, {images:,} test images. Frequencies are cycles per image, low ones in the "
        "centre; the cell of frequency 0, 0 is a change of brightness."
    )
    return join(
        tag("p", text),
        tag(
            "div",
            _explorer(identity, heats, groups, most, (H, W), eps, images, budget),
            _small(groups, maps, eps, most),
            class_="heats",
        ),
        [
            tables.render(t, "Error by ring of frequencies", f"{identity}-ring{i}")
            for i, t in enumerate(found)
        ],
    )


def _small(groups, maps: Sequence[np.ndarray], eps: Sequence[float], most: float) -> Html:
    """All means side by side, rows are cards and columns norms."""
    figures = [
        tag(
            "figure",
            tag(
                "img",
                src=picture(one[e], 0, most, ERROR),
                alt=f"Heatmap of {label} at eps {value:g}: mean error {100 * one[e].mean():.2f}%, "
                f"largest {100 * one[e].max():.2f}%",
                width=one.shape[2] * 4,
                height=one.shape[1] * 4,
            ),
            tag("figcaption", f"{label}, eps {value:g}"),
        )
        for (label, _, _), one in zip(groups, maps, strict=True)
        for e, value in enumerate(eps)
    ]
    text = f"All means on one scale, from 0 (light) to {100 * most:.1f}% (dark)."
    return tag("div", tag("p", text, class_="note"), figures, class_="maps")


def _explorer(
    identity: str, heats: Heats, groups, most: float, side, eps, images: int, budget: int
) -> Html:
    """The map with controls and readout; single cards where their maps take no more bytes than `budget`."""
    H, W = side
    single = 2 * np.prod([len(heats.cards), len(eps), H, W]) <= budget
    cards, members = [], []
    for _, _, group in groups:
        members.append(list(range(len(cards), len(cards) + len(group))) if single else [len(cards)])
        cards += [h.errors for h in group] if single else [np.mean([h.errors for h in group], 0)]
    held = packed(cards, images if single else FINE)
    known = {
        **held,
        "H": H,
        "W": W,
        "eps": list(eps),
        "images": images,
        "most": most,
        "groups": [
            {
                "label": label,
                "dense": dense,
                "members": places,
                "n": len(group),
                "names": _names(group),
            }
            for (label, dense, group), places in zip(groups, members, strict=True)
        ],
        "single": bool(single),
        "error": list(ERROR),
        "change": list(CHANGE),
    }
    precision = (
        f"exact: counts of {images:,} images"
        if held["exact"] and single
        else f"kept in steps of 1/{held['steps']}"
    )
    seeds = [f"card {i + 1}" for i in range(max(len(group) for *_, group in groups))]
    dense = any(d for _, d, _ in groups) and any(not d for _, d, _ in groups)
    first = next((i for i, (_, d, _) in enumerate(groups) if not d), 0)
    controls = tag(
        "div",
        picker(f"{identity}-card", "Cards", [label for label, _, _ in groups]),
        picker(
            f"{identity}-one",
            "Realization",
            ["mean", *seeds] if single and len(seeds) > 1 else ["mean"],
        ),
        picker(f"{identity}-eps", "Norm", [f"eps {value:g}" for value in eps]),
        picker(
            f"{identity}-show", "Show", ["error", "difference to dense"] if dense else ["error"]
        ),
        class_="controls",
    )
    help_ = "Arrow keys move one frequency, Page Up and Page Down four rows, Home to the centre."
    area = tag(
        "div",
        tag("canvas", width=W, height=H, aria_hidden="true"),
        tag("div", class_="cell", hidden=True),
        class_="map",
        tabindex=0,
        role="application",
        aria_roledescription="heatmap",
        aria_label="Fourier heatmap",
        aria_describedby=f"{identity}-help",
    )
    axes = [tag("span", text) for text in (-(W // 2), 0, (W - 1) // 2)]
    return tag(
        "div",
        controls,
        area,
        tag("div", axes, class_="axis-x", aria_hidden="true"),
        tag(
            "div",
            tag("span", class_="low"),
            tag("canvas", width=256, height=1),
            tag("span", class_="high"),
            class_="key",
        ),
        tag("p", class_="readout", aria_live="polite", aria_atomic="true"),
        tag("p", f"{help_} Values are {precision}.", class_="note", id=f"{identity}-help"),
        data(f"{identity}-data", known),
        class_="heat script",
        id=identity,
        data_first=first,
    )


def _names(group: Sequence[Heat]) -> list[str]:
    """How single cards of a group are told apart."""
    seeds = [h.meta.get("result", {}).get("seed") for h in group]
    known = None not in seeds and len(set(seeds)) == len(seeds)
    return [f"seed {s}" if known else h.path.stem for s, h in zip(seeds, group, strict=True)]
