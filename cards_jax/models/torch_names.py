"""Module names that residual networks share in PyTorch."""

import re


def place(path: str) -> tuple[int, int, str] | None:
    """`layer2_0/conv1` is at (2, 0, "conv1"): stage, block, layer; None outside the stages."""
    found = re.fullmatch(r"layer(\d+)_(\d+)/(\w+)", path)
    return found and (int(found[1]), int(found[2]), found[3])


def within(layer: str, projection: str) -> str:
    """A layer's name in its block; the projection's are `downsample.0` and `.1`, or whatever it is called."""
    names = {"shortcut_conv": f"{projection}.0", "shortcut_bn": f"{projection}.1"}
    return names.get(layer, layer)


def residual(path: str, projection: str) -> str:
    """`layer2_0/shortcut_conv` is `layer2.0.downsample.0` where the projection is called downsample."""
    if not (at := place(path)):
        return path
    stage, block, layer = at
    return f"layer{stage}.{block}.{within(layer, projection)}"
