"""The benchmark compares with code that does the same thing: it equals the authors' golden arrays."""

import sys
from pathlib import Path

import numpy as np
import pytest
from corruption_replay import ORDER
from test_corruptions_parity import MODERN, agreement

from cards_jax import corruptions
from cards_jax.corruptions import frost
from cards_jax.corruptions.severity import SEVERITIES

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is not installed


def test_table_sums_up_the_fifteen():
    from benchmarks.corruptions import COLUMNS, markdown

    rows = [
        dict(zip(COLUMNS, (name, 5000, 50, 100.0, 90.0, 110.0, 50.0), strict=True))
        for name in corruptions.BENCHMARK
    ]
    text = markdown(rows, 32)
    assert "| fog | 5000 | 50 | 100.0 (90.0 to 110.0) | 50.0 |" in text
    assert "All 15 x 5 of 1,000 images: 15.0 s; peers 1500 s on one core." in text
    assert "All 15" not in markdown(rows[1:], 32)


@pytest.mark.parametrize("name", ORDER)
def test_peers_are_the_originals(name, fixtures_dir):
    pytest.importorskip("cv2", reason="peers need opencv-python-headless")
    pytest.importorskip("skimage", reason="peers need scikit-image")
    from benchmarks import corruption_peers

    frost.use(fixtures_dir / "frost_textures.npz")
    try:
        with np.load(fixtures_dir / "corruptions_golden.npz") as golden:
            images = golden["clean"]
            theirs = golden[f"{name}__modern" if name in MODERN else name]
        for severity in SEVERITIES:
            rng = np.random.RandomState(1000 + 10 * ORDER.index(name) + severity)
            made = [corruption_peers.find(name)(image, severity, rng) for image in images]
            equal, largest = agreement(np.stack(made), theirs[severity - 1])
            assert equal > 0.9999 and largest <= 1
    finally:
        frost.use(None)
