"""Pages of runs, experiments and decks: complete, closed to injection, without anything from outside."""

import base64
import configparser
import csv
import dataclasses
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import decks
import numpy as np
import pages
import pytest

from cards_jax import deck_file, deck_table, files, learning_curves, page, report, tabular
from cards_jax.config import ConfigError
from cards_jax.deck import Deck
from cards_jax.page import chart, curves, heat, html, matrix, outcome, tables
from cards_jax.trials import Trial

VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Every element as (name, attributes, text below it), and whether all were closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.all, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, name, pairs):
        element = (name, dict(pairs), [], [n for n, *_ in self.open])
        self.all.append(element)
        if name not in VOID:
            self.open.append(element)

    def handle_endtag(self, name):
        assert self.open and self.open.pop()[0] == name, name

    def handle_data(self, data):
        for element in self.open:
            element[2].append(data)

    def find(self, name, **attributes):
        wanted = {k.rstrip("_").replace("_", "-"): v for k, v in attributes.items()}
        same = lambda a: all(a.get(k) == v for k, v in wanted.items())
        return [e for e in self.all if e[0] == name and same(e[1])]

    def one(self, name, **attributes):
        (element,) = self.find(name, **attributes)
        return element


def said(element) -> str:
    """The text of an element, white space folded."""
    return " ".join("".join(element[2]).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pages.leave(tmp_path_factory.mktemp("runs") / "tiny-01234567")


@pytest.fixture(scope="module")
def text(run):
    return page.write_run(run).read_text()


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    place = tmp_path_factory.mktemp("experiment")
    pages.leave(place / "one-0", "one")
    pages.leave(place / "two-1", "two", robust=False, method="ft")
    return place, page.make([place]).read_text()


@pytest.fixture(scope="module")
def dealt(tmp_path_factory):
    """A deck's file and what an evaluation of it leaves."""
    place, d = tmp_path_factory.mktemp("deck"), decks.small()
    deck_file.save(place / "my.deck", d)
    clean, labels = decks.smooth(20), np.arange(20) % 3
    sets = [
        Trial("clean", 0, clean),
        *(Trial("noise", s, decks.noisy(clean, 0.1 * s)) for s in (1, 2)),
    ]
    rows = list(deck_table.measure(d, deck_table.with_mixed(iter(sets)), labels, (1, 20), False))
    (place / "my.md").write_text(f"20 test images. \n\n{deck_table.markdown(d, rows)}")
    about = {"deck_sha256": files.sha256(place / "my.deck"), "command": "evaluate <it>"}
    (place / "my.json").write_text(json.dumps(about))
    return d, place / "my.deck", page.make([place / "my.deck"]).read_text()


@pytest.fixture(params=["run", "several", "deck"])
def every(request, text, several, dealt):
    """Each kind of page."""
    return {"run": text, "several": several[1], "deck": dealt[2]}[request.param]


# --- all pages


def test_headings_go_down_one_level_at_a_time(every):
    levels = [int(e[0][1]) for e in Page(every).all if re.fullmatch("h[1-6]", e[0])]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))


def test_every_table_has_a_caption_and_headers_with_their_scope(every):
    p = Page(every)
    found = p.find("table")
    assert len(found) == len(p.find("caption")) > 3
    assert all(said(e) for e in p.find("caption"))
    assert all(e[1].get("scope") in ("row", "col") for e in p.find("th"))
    assert len(p.find("th", scope="row")) == len([e for e in p.find("tr") if "tbody" in e[3]])


def test_controls_have_labels_and_pictures_have_words(every):
    p = Page(every)
    labelled = {e[1].get("for") for e in p.find("label")}
    assert all(e[1]["id"] in labelled for e in p.find("select"))
    assert all(e[1].get("alt") for e in p.find("img"))
    assert all(e[1].get("aria-label") or e[1].get("aria-hidden") for e in p.find("svg"))
    assert all(
        e[1].get("aria-label") for e in p.all if e[1].get("role") in ("region", "application")
    )
    identities = [e[1]["id"] for e in p.all if "id" in e[1]]
    assert len(set(identities)) == len(identities)
    named = [e[1][k] for e in p.all for k in ("aria-labelledby", "aria-describedby") if k in e[1]]
    links = [e[1]["href"][1:] for e in p.find("a") if e[1]["href"].startswith("#")]
    assert set(named) | set(links) <= set(identities) and links


def test_nothing_comes_from_outside(every):
    p = Page(every)
    for name, attributes, *_ in p.all:
        for key in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(key, "")
            outside = value and not value.startswith("data:")
            assert not outside or name == "a", (name, attributes)
            assert "://" not in value
        assert not any(key.startswith("on") for key in attributes)
    style = said(p.one("style"))
    assert "url(" not in style and "@import" not in style
    scripts = [e for e in p.find("script") if e[1].get("type") != "application/json"]
    (script,) = ("".join(e[2]) for e in scripts)
    assert not re.search(r"fetch|XMLHttpRequest|import\(|WebSocket|innerHTML|eval", script)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = p.one("meta", http_equiv="Content-Security-Policy")[1]["content"]
    assert policy.startswith("default-src 'none'") and f"script-src 'sha256-{digest}'" in policy


def test_the_file_is_small(every):
    assert len(every) < 200_000


# --- a run


def test_numbers_are_those_of_the_tables_that_the_run_wrote(run, text):
    p = Page(text)
    shown = {said(e): e for e in p.find("td") + p.find("th")}
    for name in ("results", "corruptions", "heatmap"):
        for table in tables.read((run / "tables" / f"{name}.md").read_text()):
            cells = [
                c.replace("-", tables.MINUS) if re.match(r"\[?-\d", c) else c
                for r in table.body
                for c in r
            ]
            cells = [re.sub(r"(?<=, )-", tables.MINUS, c) for c in cells]
            assert {c for c in cells if c} <= set(shown)
            assert all(head in shown for head in table.head)


def test_what_is_in_a_run(run, text):
    p = Page(text)
    titles = [said(e) for e in p.find("h2")]
    assert titles == [
        *("Results", "Training", "Corruptions", "Fourier heatmaps", "Density and sizes"),
        *("Config and command", "Files"),
    ]
    assert [said(e) for e in p.find("a") if "nav" in e[3]] == titles
    assert len(p.find("figure", class_="chart")) == 5
    assert "--config.data.title=digits" in text and "--resume=tiny-01234567" in text
    links = {e[1]["href"] for e in p.find("a")}
    assert {"config.json", "metrics.jsonl", "tables/results.csv"} <= links
    assert all((run / link).is_file() for link in links if not link.startswith("#"))


def test_measured_cards_that_are_not_those_of_the_results_are_told(run, tmp_path):
    assert not outcome.read(run).notes
    more = pages.leave(tmp_path / "more")
    kept = json.loads((more / "results.json").read_text())
    found, (first, *rest) = kept["results"], kept["results"]
    added = [{**first, "id": "another", "seed": 7}]

    def notes(results):
        (more / "results.json").write_text(json.dumps({**kept, "results": results}))
        return outcome.read(more).notes

    for said in (notes([*found, *added]), notes([*rest, *added])):
        assert [note.split()[0] for note in said] == ["corruptions", "heatmaps"]
        assert all("1 of" in note and "missing" in note for note in said)
    assert "1 of other calls" in said[0] and "--config.evaluate.corruptions" in said[0]
    dead = [{**added[0], "diverged_at": 3}]
    assert not notes([*found, *dead]) and len(notes(rest)) == 2


def test_sizes_are_those_of_the_files(run, text):
    for file in (run / "cards").iterdir():
        assert f"{file.stat().st_size:,}" in text
    assert "paper bytes" in text and "true bytes" in text
    found = outcome.read(run).sizes
    kept = [100 * row.kept / row.weights for row in found[0][1].layers]
    assert all(f"{share:.2f}" in text for share in kept)


def test_config_shows_changes_first(text):
    p = Page(text)
    changed, every_field = p.one("table", id="config-changed"), p.one("table", id="config-all")
    assert "epochs" in said(changed) and "batch_size" not in said(changed)
    assert "batch_size" in said(every_field) and "details" in every_field[3]


def test_without_a_script_everything_but_large_heatmaps_is_there(text):
    p = Page(text)
    assert len(p.find("polyline")) >= 9 and len(p.find("img")) == 3 * len(pages.EPS)
    hidden = [e for e in p.all if "hidden" in e[1] and e[0] != "label"]
    assert all("heat" in str(e[1]) or e[1].get("class") == "cell" for e in hidden)


def test_curves_say_mean_and_band(run, text):
    known = json.loads("".join(Page(text).one("script", id="r0-accuracy-1-data")[2]))
    rows = [
        r for r in pages.metrics([pages.result(s, 0.5) for s in (0, 1)]) if r["split"] == "test"
    ]
    values = [100 * r["accuracy"] for r in rows if r["epoch"] == 4]
    wanted = f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
    assert known["texts"][0][3] == wanted and known["at"][3] == "epoch 4 (step 44)"
    assert known["labels"] == ["50% sparse", "80% sparse"]


def test_heatmaps_are_embedded_exactly(run, text):
    known = json.loads("".join(Page(text).one("script", id="h0-data")[2]))
    with np.load(run / "tables" / "heatmap.npz") as held:
        errors = held["errors"]
    order = [*errors[4:], errors[0], errors[2], errors[1], errors[3]]  # dense, 50%, 80%
    assert known["exact"] and known["steps"] == 20 and known["bytes"] == 1
    for text_, wanted in zip(known["maps"], order, strict=True):
        found = np.frombuffer(base64.b64decode(text_), np.uint8).reshape(2, 8, 8) / 20
        np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert [g["label"] for g in known["groups"]] == ["dense", "bp 50%", "bp 80%"]
    assert known["groups"][1]["names"] == ["seed 0", "seed 1"]


def test_heatmaps_of_other_numbers_are_rounded_finely():
    one = np.random.default_rng(0).random((2, 3, 5))
    held = heat.packed([one], 100)
    found = np.frombuffer(base64.b64decode(held["maps"][0]), "<u2").reshape(one.shape)
    assert not held["exact"] and held["steps"] == 65535
    np.testing.assert_allclose(found / 65535, one, atol=0.5 / 65535 + 1e-9)


def test_many_heatmaps_shrink_to_their_means(run, monkeypatch):
    monkeypatch.setattr(heat, "BUDGET", 100)
    p = Page(page.run_page.of_run(run))
    known = json.loads("".join(p.one("script", id="h0-data")[2]))
    assert len(known["maps"]) == 3 and not known["single"] and known["steps"] == 65535
    assert "steps of 1/65535" in said(p.one("p", id="h0-help"))


def test_pictures_hold_the_colours_of_their_values():
    from PIL import Image

    values = np.linspace(0, 0.4, 12).reshape(3, 4)
    content = base64.b64decode(heat.picture(values, 0, 0.4, heat.ERROR).split(",")[1])
    found = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    scale = heat.colours(heat.ERROR)
    np.testing.assert_array_equal(found[0, 0], scale[0])
    np.testing.assert_array_equal(found[-1, -1], scale[-1])


def test_shades_are_darkest_where_errors_are_most(text):
    p = Page(text)
    cells = [e for e in p.find("td", class_="worse")]
    shades = [(float(said(e).replace(tables.MINUS, "-")), e[1]["style"]) for e in cells][: 4 * 3]
    by_value = [float(style.removeprefix("--t:")) for _, style in sorted(shades)]
    assert by_value[0] == 1 and by_value == sorted(by_value, reverse=True) and by_value[-1] == 0


def test_severities_are_means_over_cards(run):
    found = outcome.read(run)
    each = next(t for t in found.tables["corruptions"] if t.head[0] == "corruption")
    made = matrix.by_severity(found.points, found.cells, matrix.cards_of(each))
    assert list(made) == ["dense", "bp 50%", "bp 80%"]
    rows = list(csv.DictReader(io.StringIO((run / "tables" / "corruptions_cells.csv").read_text())))
    mine = [
        float(r["accuracy"])
        for r in rows
        if (r["sparsity"], r["corruption"], r["severity"]) == ("0.5", "shot_noise", "3")
    ]
    assert len(mine) == 2
    row = next(r for r in made["bp 50%"].body if r[0] == "shot_noise")
    assert row[3] == f"{100 * np.mean(mine):.2f}"


def test_what_a_run_did_not_leave_is_absent(tmp_path):
    path = pages.leave(tmp_path / "bare", robust=False)
    for name in ("config.json", "versions.json", "commands.txt", "metrics.jsonl"):
        (path / name).unlink()
    for file in [*(path / "cards").iterdir(), *(path / "tables").iterdir()]:
        file.unlink()
    p = Page(page.write_run(path).read_text())
    assert [said(e) for e in p.find("h2")] == ["Results", "Config and command", "Files"]
    assert not p.find("p", class_="warning") and len(p.find("table")) == 1


def test_what_cannot_be_read_is_said(tmp_path):
    path = pages.leave(tmp_path / "broken")
    card = next((path / "cards").iterdir())
    card.write_bytes(card.read_bytes()[:-3])
    (path / "config.json").write_text('{"no": "such"}')
    (path / "metrics.jsonl").write_text("[1]\n")
    (path / "tables" / "heatmap.npz").write_bytes(b"PK not")
    p = Page(page.write_run(path).read_text())
    warnings = " ".join(said(e) for e in p.find("p", class_="warning"))
    for name in (card.name, "config.json", "metrics.jsonl", "heatmap.npz"):
        assert name in warnings
    assert len(p.find("p", class_="warning")) == 4


def test_a_diverged_realization_is_counted(tmp_path):
    path = pages.leave(tmp_path / "dead")
    payload = json.loads((path / "results.json").read_text())
    payload["results"][0] |= {"diverged_at": 3, "test_accuracy": None}
    report.write_results(path, payload)
    assert "4, 1 diverged" in page.write_run(path).read_text()


def test_the_dense_baseline_beside_it_is_linked(tmp_path):
    path = pages.leave(tmp_path / "tiny-0", robust=False)
    rows = json.loads((path / "results.json").read_text())["baseline"]
    for name, summary in (("tiny_dense-1", []), ("tiny_dense-2", rows), ("other_dense-3", rows)):
        (tmp_path / name).mkdir()
        report.write_results(tmp_path / name, {"results": [], "summary": summary})
    links = [e[1]["href"] for e in Page(page.write_run(path).read_text()).find("a")]
    assert [link for link in links if "dense" in link] == ["../tiny_dense-2/results.json"]


# --- injection


def test_names_titles_and_paths_are_text(tmp_path):
    path = pages.leave(tmp_path / "run <b>&", pages.NASTY, pages.NASTY)
    p = Page(page.write_run(path).read_text())
    assert said(p.one("h1")) == pages.NASTY
    assert not [e for e in p.all if e[1].get("src") == "x" or "onerror" in e[1]]
    assert len([e for e in p.find("script") if e[1].get("type") != "application/json"]) == 1
    assert not [e for e in p.find("script") if "window.injected" in "".join(e[2]) and not e[1]]
    assert f"--config.data.title={pages.NASTY}" in [
        said(e).split(" ", 3)[-1] for e in p.find("code")
    ]


def test_data_cannot_end_their_block():
    held = html.data("x", {"a": "</script><script>alert(1)</script>\u2028"})
    assert held.count("</script>") == 1 and "\u2028" not in held
    inner = re.search(r">(.*)<", held)[1]
    assert json.loads(inner)["a"].startswith("</script>")


def test_tags_escape_what_is_not_markup():
    made = html.tag(
        "a", "<&", html.tag("b", '"'), None, [1, "'"], href='"x"', hidden=False, open=True
    )
    assert made == '<a href="&quot;x&quot;" open>&lt;&amp;<b>&quot;</b>1&#x27;</a>'


# --- several runs


def test_several_runs_stand_side_by_side(several):
    place, text = several
    p = Page(text)
    assert said(p.one("h1")) == place.name
    links = {e[1]["href"] for e in p.find("a") if "tbody" in e[3]}
    assert links == {"one-0/results.json", "two-1/results.json"}
    assert "data.title" not in said(p.one("table", id="config-differ"))
    assert "epochs" in said(p.one("table", id="config-same"))
    methods = {said(e) for e in p.find("th", scope="row")}
    assert {"bp", "ft"} <= methods


def test_joined_corruptions_say_whose_they_are(run):
    found = outcome.read(run)
    first = matrix.Part("a", found.tables["corruptions"], (), ())
    table = matrix.joined([first, matrix.Part("b", [_other(first)], (), ())])
    assert table.head == ("corruption", "a: dense", "a: bp 50%", "a: bp 80%", "b: bp 50%")
    assert table.column("b: bp 50%")[0] == "1.00" and table.column("b: bp 50%")[1] == ""
    assert matrix.joined([matrix.Part("c", [], (), ())]) is None


def _other(part):
    """The same dense column, another card that was measured on clean images alone."""
    each = next(t for t in part.tables if t.head[0] == "corruption")
    body = [(r[0], r[1], r[2], "1.00" if r[0] == "clean" else "") for r in each.body]
    return tables.Table("", each.head[:3] + ("bp 50%",), tuple(body), each.left[:4])


# --- decks


def test_a_deck_shows_its_cards_gate_and_evaluation(dealt):
    d, path, text = dealt
    p = Page(text)
    titles = [said(e) for e in p.find("h2")]
    assert titles == [
        *(
            "Cards",
            "Corruptions",
            "Gate choices",
            "Controls",
            "Gate",
            "Density and sizes",
            "Config",
        ),
        "Files and command",
    ]
    assert f"{deck_file.true_bytes(d):,}" in text and f"{deck_file.paper_bytes(d):,.0f}" in text
    for table in tables.read(path.with_suffix(".md").read_text()):
        cells = {said(e) for e in p.find("td") + p.find("th")} | {said(e) for e in p.find("span")}
        assert {c for row in table.body for c in row if c} <= cells
    bars = p.find("span", class_="bar")
    shares = [
        float(re.search(r"--w:([\d.]+)", e[1]["style"])[1])
        for e in p.find("i")
        if "--w" in str(e[1])
    ]
    assert len(bars) == 4 and len(shares) == 2 * len(bars) and sum(shares) == 100 * len(bars)
    assert "evaluate <it>" in [said(e) for e in p.find("code")]


def test_a_deck_without_gate_or_evaluation(tmp_path):
    deck_file.save(tmp_path / "a.deck", decks.small(gated=False))
    titles = [said(e) for e in Page(page.make([tmp_path / "a.deck"]).read_text()).find("h2")]
    assert titles == ["Cards", "Density and sizes", "Config", "Files and command"]


def test_choices_of_the_gates_of_an_evaluation_need_no_gate_of_the_deck(tmp_path, dealt):
    """A deck of two groups is evaluated under the settings that have a name, whether it has a gate or not."""
    d, bare = dealt[0], Deck(dealt[0].members)
    gates = {"adaptive, paper": d.gate, "adaptive, ours": d.gate}
    sets = [Trial("clean", 0, decks.smooth(20)), Trial("noise", 1, decks.noisy(decks.smooth(20)))]
    rows = list(deck_table.measure(bare, sets, np.arange(20) % 3, (20,), False, gates))
    deck_file.save(tmp_path / "bare.deck", bare)
    (tmp_path / "bare.md").write_text(f"20 images.\n\n{deck_table.markdown(bare, rows)}")
    p = Page(page.make([tmp_path / "bare.deck"]).read_text())
    titles = [said(e) for e in p.find("h2")]
    gates = ["Gate choices: adaptive, paper", "Gate choices: adaptive, ours"]
    assert titles[:5] == ["Cards", "Corruptions", *gates, "Controls"]
    assert "Gate" not in titles
    shares = [said(e) for t in ("td", "span") for e in p.find(t) if "/" in said(e)]
    assert {"100/0", "0/100"} <= set(shares) and len(p.find("span", class_="bar")) == 4
    identities = [e[1]["id"] for e in p.all if "id" in e[1]]
    assert len(set(identities)) == len(identities)


def test_the_evaluation_of_another_deck_is_refused(dealt, tmp_path):
    d, path, _ = dealt
    other = Deck(d.members[:1], None)
    deck_file.save(tmp_path / "other.deck", other)
    with pytest.raises(ConfigError, match="of another deck"):
        page.make([tmp_path / "other.deck"], evaluation=path.with_suffix(""))


@pytest.mark.parametrize("suffix", [".deck", ""])
def test_of_an_evaluation_of_several_decks_it_shows_its_own(dealt, tmp_path, suffix):
    """Whatever the deck's file is called."""
    d, path, alone = dealt
    mine, other = tmp_path / f"mine{suffix}", tmp_path / "other.deck"
    mine.write_bytes(path.read_bytes())
    deck_file.save(other, Deck(d.members[:1], None))
    text = path.with_suffix(".md").read_text().partition("\n")[2]
    foreign = text.replace("noise", "elsewhere")
    stem = tmp_path / "both"
    stem.with_name("both.md").write_text(f"about\n\n## other\n\n{foreign}\n\n## mine\n\n{text}")
    shas = {"other": files.sha256(other), "mine": files.sha256(mine)}
    stem.with_name("both.json").write_text(json.dumps({"decks": shas}))
    made = page.make([mine], evaluation=stem)
    assert made == tmp_path / "mine.html" and "elsewhere" not in made.read_text()
    found, wanted = (Page(x).find("h2") for x in (made.read_text(), alone))
    assert [said(e) for e in found] == [said(e) for e in wanted]
    deck_file.save(mine, Deck(d.members[1:2], None))
    with pytest.raises(ConfigError, match="of another deck"):
        page.make([mine], evaluation=stem)


def test_heatmaps_of_diverged_cards_are_absent(run):
    heats = outcome.read(run).heats
    none = dataclasses.replace(heats, cards=[], dense=0)
    assert heat.spectra([("x", none, ())]) is None
    both = heat.spectra([("x", none, ()), ("y", heats, ())])
    assert str(both) == str(heat.spectra([("y", heats, ())]))


# --- parts


def test_markdown_tables_are_read_with_the_text_above_them():
    text = tabular.markdown_table([{"method": "a|b", "n": 3}], ["method", "n"])
    (found,) = tables.read(f"Some\ntext.\n\n{text}\nAfter.")
    assert (
        found.text == "Some text." and found.body == (("a|b", "3"),) and found.left == (True, False)
    )
    assert tables.read("Words\n\nalone") == []


@pytest.mark.parametrize(
    "low, high", [(0.0, 1.0), (59.7, 99.9), (-3.0, 0.2), (1e-9, 2e-9), (5.0, 5.0)]
)
def test_ticks_are_round_and_inside(low, high):
    found = chart.ticks(low, high, 5)
    assert all(low - 1e-9 <= x <= high + 1e-9 for x in found) and len(found) <= 11
    assert high == low or len(found) >= 2


def test_long_trainings_are_thinned_and_keep_their_end():
    row = dict(
        realization="a", seed=0, sparsity=0.5, learning_rate=0.1, weight_decay=0.0, split="test"
    )
    rows = [{**row, "epoch": float(e), "accuracy": 0.5, "alive": True} for e in range(1, 1001)]
    (line,) = curves.lines_of(learning_curves.curves(rows), "test", "accuracy", 100)
    assert line.x[0] == 1 and line.x[-1] == 1000 and len(line.x) == curves.MOST
    gaps = np.diff(line.x)
    assert gaps.max() - gaps.min() <= 1


def test_charts_of_one_point_and_of_equal_values():
    line = chart.Line("one", (1.0,), (5.0,), (5.0,), (5.0,))
    made = chart.Chart("c", "Title", "epoch", (line,), "{:g}".format, "epoch {:g}".format)
    svg = made.svg()
    assert "nan" not in svg and "<circle" in svg and "at the right end: one 5" in svg


def test_the_package_carries_what_is_no_code():
    setup = configparser.ConfigParser()
    root = Path(page.__file__).parents[2]
    setup.read(root / "setup.cfg")
    listed = setup["options.package_data"]["cards_jax.page"].replace(",", " ").split()
    there = {p.name for p in Path(page.__file__).parent.iterdir() if p.suffix in (".css", ".js")}
    assert set(listed) == there and "cards_jax.page" in setup["options"]["packages"].split()


# --- the command


def test_the_command_says_where_the_page_is(run, tmp_path, capsys):
    save = tmp_path / "deep.html"
    assert page.main([str(run), f"--save={save}"]) == 0
    assert capsys.readouterr().out.strip() == str(save) and save.is_file()
    links = [e[1]["href"] for e in Page(save.read_text()).find("a")]
    assert all((save.parent / link).exists() for link in links if not link.startswith("#"))


@pytest.mark.parametrize(
    "arguments, said_",
    [
        (["{tmp}/none"], "no finished run there"),
        (["{run}", "{run}"], "save: is not given"),
        (["{run}", "--evaluation=x"], "allowed beside a deck"),
        (["{tmp}/no.deck"], "no such file"),
        (["{run}/results.json"], "results.json: damaged, or not a card file"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, capsys, arguments, said_):
    given = [a.format(tmp=tmp_path, run=run) for a in arguments]
    assert page.main(given) == 2
    out, error = capsys.readouterr()
    assert not out and said_ in error and error.count("\n") == 1


def test_results_that_are_none_are_refused(tmp_path, capsys):
    (tmp_path / "results.json").write_text('{"results": [1]}')
    assert page.main([str(tmp_path)]) == 2
    assert "no readable results.json" in capsys.readouterr().err


def test_a_full_disk_leaves_the_old_page(run, monkeypatch, tmp_path, capsys):
    save = tmp_path / "page.html"
    save.write_text("old")
    monkeypatch.setattr(files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    assert page.main([str(run), f"--save={save}"]) == 1
    assert save.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_tables_written_into_a_run_renew_its_page(run):
    path = run / page.NAME
    path.unlink(missing_ok=True)
    page.rewrite(run / "tables" / "elsewhere")
    assert not path.exists()
    page.rewrite(run / "tables" / "heatmap")
    assert path.exists()
