"""The paper's bytes and true bytes of cards."""

import csv
import dataclasses
import io
import subprocess
import sys

import cards
import numpy as np
import pytest

from cards_jax import models, pack, size, tree

AFFINE = dataclasses.replace(cards.NORMALISED, affine=True, bias=True)


def test_the_numbers_of_the_paper():
    """Six cards of a ResNet-18 of width 128 at 95%; it, dense; a dense ResNet-50 with its biases and BatchNorm."""
    params, _ = models.shapes(models.Spec("resnet18", 128, 10, affine=True, bias=True))
    weights = tree.size(tree.only_prunable(params))
    assert weights == 44_643_712
    kept = weights - int(0.95 * weights)
    megabytes = lambda kept, bits: size.paper_bytes(kept, bits) / 1e6
    assert f"{6 * megabytes(kept, 32):.2f} {6 * megabytes(kept, 1):.3f}" == "53.57 1.674"
    assert f"{megabytes(weights, 32):.3f}" == "178.575"
    assert f"{megabytes(23_520_842, 32):.1f}" == "94.1"


@pytest.mark.parametrize(
    "weights, bits", [("signs", 1), ("key", 1), ("float32", 32), ("float16", 16), ("int8", 8)]
)
@pytest.mark.parametrize(
    "spec", [cards.SMALL, cards.NORMALISED, AFFINE], ids=["plain", "bn", "affine"]
)
def test_every_byte_is_accounted_for(spec, weights, bits):
    card = cards.sampled(spec, 0.8, True)
    content = pack.encode(card, spec, {"a": 1}, weights, cards.origin())
    table = size.table(content)
    flat, masks = tree.flatten(card.params), tree.flatten(card.mask)
    wanted = {k.removesuffix("/kernel"): (flat[k].size, int(m.sum())) for k, m in masks.items()}
    assert {row.name: (row.weights, row.kept) for row in table.layers} == wanted
    total = table.total
    assert total.true == sum(row.true for row in (*table.layers, *table.rest)) == len(content)
    assert total.paper == sum(kept for _, kept in wanted.values()) * bits / 8
    rest = {row.name: row.true for row in table.rest}
    biases = [k for k in flat if k.endswith("/bias") and "bn" not in k]
    assert rest["biases"] == 4 * sum(flat[k].size for k in biases)
    norms = tree.size(card.stats) + sum(x.size for k, x in flat.items() if "bn" in k)
    assert rest["BatchNorm"] == 4 * norms
    for row in table.layers:
        each = {1: -(-row.kept // 8), 32: 4 * row.kept, 16: 2 * row.kept, 8: row.kept}[bits]
        assert row.values == (0 if weights == "key" else each)
        channels = flat[f"{row.name}/kernel"].shape[-1]
        assert row.gain == {1: 4, 8: 4 * channels}.get(bits, 0)
        assert 0 < row.mask <= row.weights // 8 + 3


def test_masks_against_their_entropy():
    card = cards.sampled(dataclasses.replace(cards.NORMALISED, width=16), 0.9, True)
    table = size.table(pack.encode(card, dataclasses.replace(cards.NORMALISED, width=16), {}))
    p = np.array([row.kept / row.weights for row in table.layers])
    n = np.array([row.weights for row in table.layers])
    entropy = -(n * (p * np.log2(p) + (1 - p) * np.log2(1 - p))).sum()
    assert table.entropy == pytest.approx(entropy)
    assert f"masks {8 * table.total.mask / n.sum():.4f} bits per weight" in table.summary()


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """Two cards, by names that have no folder."""
    monkeypatch.chdir(tmp_path)
    for name, binary in (("a.card", True), ("b.card", False)):
        pack.save(name, cards.sampled(AFFINE, 0.8, binary), AFFINE, {})
    return ["a.card", "b.card"]


def run(capsys, *arguments):
    code = size.main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_text_says_both_sizes(capsys, paths):
    code, out, err = run(capsys, *paths)
    tables = [size.table(path) for path in paths]
    assert code == 0 and err == ""
    assert out == "\n".join([*(t.text() for t in tables), size.together(tables)])
    lines = tables[0].text().splitlines()
    assert lines[0] == "a.card"
    assert lines[1].split() == ["layer", "weights", "kept", "density", "paper", "bytes"] + [
        "true", "bytes", "mask", "values", "gain",
    ]  # fmt: skip
    total = tables[0].total
    assert lines[-4].split()[:2] == ["total", f"{total.weights:,}"]
    assert f"{total.true:,}" in lines[-4] and lines[-3].startswith("paper bytes ")
    assert lines[-2].startswith("true bytes ") and lines[-1].startswith("masks ")
    assert "2 cards: paper bytes " in out.splitlines()[-1] and "true bytes " in out.splitlines()[-1]


def test_markdown_is_a_table(capsys, paths):
    code, out, _ = run(capsys, paths[0], "--format=markdown")
    lines = [line for line in out.splitlines() if line.startswith("|")]
    assert code == 0 and len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + len(size.table(paths[0]).rows) and set(lines[1]) <= set("|:- ")


def test_csv_holds_every_number(capsys, paths):
    code, out, _ = run(capsys, *paths, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    tables = [size.table(path) for path in paths]
    assert code == 0 and len(rows) == sum(len(t.rows) for t in tables)
    totals = {row["card"]: row for row in rows if row["layer"] == "total"}
    for table in tables:
        total = totals[table.name]
        assert int(total["true bytes"]) == table.total.true
        assert float(total["paper bytes"]) == table.total.paper
        assert float(total["density"]) == table.total.kept / table.total.weights


def test_a_dense_card_has_no_masks_to_speak_of():
    card = cards.sampled(cards.SMALL, 0.0, False)
    card = card.replace(mask=tree.map_leaves(lambda _: None, card.params))
    table = size.table(pack.encode(card, cards.SMALL, {}), "dense")
    assert table.total.mask == 0 and table.summary().endswith("masks none")
    assert table.total.paper == 4 * table.total.weights


def test_what_cannot_be_weighed_is_one_line(capsys, paths, tmp_path):
    (tmp_path / "text.card").write_text("no card")
    (tmp_path / "old.npz").write_bytes(b"PK\x03\x04")
    content = (tmp_path / "a.card").read_bytes()
    (tmp_path / "cut.card").write_bytes(content[:-1])
    for name, message in {
        "none.card": "No such file or directory: 'none.card'",
        ".": "Is a directory",
        "text.card": "text.card: damaged, or not a card file (does not begin as a card file does)",
        "cut.card": f"bytes instead of {len(content):,})",
        "old.npz": "old.npz: an .npz of an older version; load it and save it again",
    }.items():
        code, out, err = run(capsys, "a.card", name)
        assert code == 2 and out == "" and err.count("\n") == 1
        assert err.startswith("cards_jax.size: ") and message in err


@pytest.mark.parametrize("arguments", [[], ["a.card", "--format=xml"], ["a.card", "--what"]])
def test_misuse_is_one_line(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        size.main(arguments)
    out, err = capsys.readouterr()
    assert stopped.value.code == 2 and out == "" and err.count("\n") == 1


def test_the_command(paths, tmp_path):
    command = [sys.executable, "-m", "cards_jax.size"]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.count("true bytes") == 5
    done = subprocess.run([*command, "x"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
