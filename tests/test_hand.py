"""Cards from files, stacked and measured together."""

import cards
import jax.numpy as jnp
import numpy as np
import pytest

from cards_jax import hand, pack
from cards_jax.config import ConfigError


def written(folder, spec, sparsity, name):
    path = folder / f"{name}.card"
    pack.save(path, cards.sampled(spec, sparsity, binary=True), spec, {"seed": 0})
    return path


def test_every_card_predicts_as_it_does_alone(tmp_path):
    paths = [written(tmp_path, cards.SMALL, s, s) for s in (0.2, 0.5, 0.8)]
    paths.append(written(tmp_path, cards.NORMALISED, 0.5, "zz"))
    small, normalised = hand.load([tmp_path])
    assert (len(small), len(normalised)) == (3, 1)
    images = cards.images(cards.SMALL)
    logits = small.map(lambda predict, images: {"logits": predict(images)}, 1)(images)["logits"]
    assert logits.shape == (3, 4, 3)
    for path, mine in zip(small.paths, logits, strict=True):
        np.testing.assert_allclose(mine, pack.load(path).logits(jnp.asarray(images)), rtol=1e-5)
    assert set(paths) == {*small.paths, *normalised.paths}


def test_cards_are_found_once_and_in_order(tmp_path):
    (tmp_path / "cards").mkdir()
    path = written(tmp_path / "cards", cards.SMALL, 0.5, "a")
    assert hand.find([path, tmp_path]) == [path]


def test_a_place_without_cards_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such card"):
        hand.load([tmp_path])
