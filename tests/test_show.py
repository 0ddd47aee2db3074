"""What a card and a deck say of themselves."""

import cards
import decks
import pytest

import cards_jax
from cards_jax import pack, show, size

RESULT = {
    **{"method": "bp", "scope": "global", "seed": 3, "learning_rate": 0.1, "weight_decay": 1e-4},
    **{"sparsity": 0.5, "realised_sparsity": 0.4999, "steps": 1200, "data": "digits"},
    "train_images": 1037,
    **{
        "test_accuracy": 0.98611,
        "holdout_accuracy": 0.5,
        "train_accuracy": None,
        "diverged_at": None,
    },
}


@pytest.fixture
def card() -> pack.CardFile:
    found = decks.file(augment="gaussian", sigma=0.2)
    found.meta.update(result=RESULT, data_fingerprint="4ddbc8e4", holdout=200)
    found.meta["versions"] = {"cards_jax": "0.1.0", "commit": "abc", "jax": "1.2", "device": "cpu"}
    return found


def test_a_card_says_everything_that_it_knows(card, tmp_path):
    path = tmp_path / "a.card"
    pack.save(path, card.card, card.spec, card.meta, origin=card.origin)
    total = size.table(path).total
    assert cards_jax.describe(path).splitlines() == [
        str(path),
        "network   conv2 of width 4, images 8 x 8 x 3, 3 classes: class 0, class 1, class 2",
        "method    bp, global, seed 3, learning rate 0.1, weight decay 0.0001, 1,200 steps",
        "sparsity  49.99% removed, 50.00% asked for",
        "accuracy  98.61% of test images, 50.00% of holdout images",
        "data      digits (fingerprint 4ddbc8e4), trained on 1,037 images, 200 images held out",
        "config    augment=gaussian, gaussian.sigma=0.2",
        f"size      {total.true:,} true bytes, {total.paper:,.0f} paper bytes, "
        f"{total.kept:,} of {total.weights:,} weights",
        "versions  cards_jax 0.1.0 (commit abc), jax 1.2, cpu",
    ]
    read = cards_jax.load(path)
    assert cards_jax.describe(read) == "\n".join(cards_jax.describe(path).splitlines()[1:])


def test_what_a_card_does_not_know_is_left_out():
    spec = cards.NORMALISED
    bare = pack.CardFile(cards.fresh(spec), spec, {})
    heads = [line.split()[0] for line in cards_jax.describe(bare).splitlines()]
    assert heads == ["network", "size"]


def test_a_diverged_card_says_so(card):
    card.meta["result"] = {**RESULT, "diverged_at": 1700}
    assert "accuracy  diverged at step 1,700\n" in cards_jax.describe(card)


def test_a_deck_lists_its_cards(tmp_path, capsys):
    deck = decks.small(("plain", "gaussian"))
    path = tmp_path / "b.deck"
    deck.save(path)
    assert show.main([str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(path)
    assert lines[1].split(maxsplit=1) == ["cards", "2: 1 of plain, 1 of gaussian"]
    assert lines[2].split(maxsplit=1)[1].startswith("plain, gaussian; Settings(noise=")
    assert f"{path.stat().st_size:,} true bytes" in lines[3]
    assert len(lines) == 6 and all(line.startswith("card") for line in lines[4:])


def test_what_is_no_card_is_one_line(tmp_path, capsys):
    path = tmp_path / "c.card"
    path.write_bytes(b"nothing")
    assert show.main([str(path)]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and str(path) in err
