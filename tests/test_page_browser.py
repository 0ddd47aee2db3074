"""Pages in a real browser: pointer, keys, colours, a phone's width, nothing asked for, nothing injected."""

import json

import browser
import pages
import pytest

from cards_jax import page

BINARY = browser.find()
pytestmark = pytest.mark.skipif(
    BINARY is None, reason=f"needs Chromium: none of {', '.join(browser.NAMES)} is installed"
)
OPEN = "document.querySelectorAll('details').forEach(d => { d.open = true; })"

# The least contrast of any visible text with what is painted behind it (WCAG 2), and where it is.
CONTRAST = """(() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const found = rgba(getComputedStyle(e).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255];
  };
  const light = (c) => {
    const [r, g, b] = c.map((x) => x / 255).map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let least = [Infinity, ""], count = 0;
  while (texts.nextNode()) {
    const node = texts.currentNode, e = node.parentElement;
    if (!node.data.trim() || !e.checkVisibility() || e.closest("script")) continue;
    const style = getComputedStyle(e);
    const [a, b] = [rgba(e.closest("svg") ? style.fill : style.color), behind(e)].map(light);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    count += 1;
    if (ratio < least[0]) least = [ratio, node.data.trim().slice(0, 40) + " in " + e.tagName + "." + e.className];
  }
  return [...least, count];
})()"""
REACHABLE = "a[href], select, summary, [tabindex='0']"


@pytest.fixture(scope="module")
def opened():
    with browser.started(BINARY) as found:
        yield found


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """The page of a run whose name and title try to be markup."""
    path = pages.leave(tmp_path_factory.mktemp("runs") / "tiny-0", pages.NASTY, pages.NASTY)
    return page.write_run(path)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    place = tmp_path_factory.mktemp("experiment")
    for name in ("one", "two"):
        pages.leave(place / name, name)
    return page.make([place])


def text(b, selector):
    return b.value(f"document.querySelector({json.dumps(selector)}).textContent")


def test_nothing_is_asked_for_said_or_injected(opened, nasty):
    opened.open(nasty)
    opened.value(OPEN)
    assert opened.requests() == [nasty.as_uri()]
    assert opened.complaints() == []
    assert opened.value("typeof window.injected") == "undefined"
    assert opened.value("document.querySelector('h1').textContent") == pages.NASTY


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("which", ["nasty", "several"])
def test_text_can_be_read_in_both_schemes(opened, request, which, dark):
    opened.open(request.getfixturevalue(which), dark=dark)
    opened.value(OPEN)
    ratio, where, count = opened.value(CONTRAST)
    assert ratio >= 4.5, where
    assert count > 300
    background = opened.value("getComputedStyle(document.body).backgroundColor")
    level = sum(map(int, background.removeprefix("rgb(").removesuffix(")").split(",")))
    assert level < 150 if dark else level > 600


@pytest.mark.parametrize("width", [320, 360, 1200])
def test_the_page_does_not_scroll_sideways(opened, nasty, width):
    opened.open(nasty, width)
    opened.value(OPEN)
    assert opened.value("document.scrollingElement.scrollWidth") == width
    wide = opened.value(
        "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length"
    )
    assert wide or width > 400  # what is too wide scrolls by itself, also by keys
    opened.settle()
    focus = "[...document.querySelectorAll('.scroll')].filter(e => e.tabIndex === 0).length"
    assert opened.value(focus) == wide


def test_charts_answer_pointer_and_keys(opened, nasty):
    opened.open(nasty)
    assert "arrow keys" in text(opened, "#r0-accuracy-1 .readout")
    opened.point("#r0-accuracy-1 svg", 0.99, 0.5)
    last = text(opened, "#r0-accuracy-1 .readout")
    assert last.startswith("epoch 4 (step 44): 50% sparse ") and "80% sparse" in last
    opened.point("#r0-accuracy-1 svg", 0.15, 0.5)
    assert text(opened, "#r0-accuracy-1 .readout").startswith("epoch 1 (step 11)")
    opened.value("document.querySelector('#r0-accuracy-1 .plot').focus()")
    opened.press("ArrowRight", 39)
    assert text(opened, "#r0-accuracy-1 .readout").startswith("epoch 2 (step 22)")
    opened.press("End", 35)
    assert text(opened, "#r0-accuracy-1 .readout") == last
    plot = "document.querySelector('#r0-accuracy-1 .plot')"
    assert opened.value(f"{plot}.getAttribute('aria-valuetext')") == last
    assert opened.value(f"{plot}.role") == "slider"


def heat_error(label: str, i: int, j: int, e: int = 0, seed: int | None = None) -> float:
    """What the readout has to say, in percent."""
    method, _, sparsity = label.partition(" ")
    level = float(sparsity[:-1]) / 100 if sparsity else 0.0
    results = [pages.result(s, level, method) for s in ((0, 1) if seed is None else (seed,))]
    return 100 * sum(h.errors[e, i, j] for h in pages.heats(results)) / len(results)


def test_heatmaps_say_frequency_error_and_difference(opened, nasty):
    opened.open(nasty)
    read = lambda: text(opened, "#h0 .readout")
    half, dense = heat_error("bp 50%", 4, 4), heat_error("dense", 4, 4)
    start = read()
    assert start.startswith(f"frequency 0, 0: error {half:.2f}% (")
    assert f"{abs(half - dense):.2f} points to dense" in start
    opened.point("#h0 .map canvas", 6.5 / 8, 1.5 / 8)
    assert read().startswith(f"frequency \u22123, 2: error {heat_error('bp 50%', 1, 6):.2f}%")
    opened.value("document.querySelector('#h0 .map').focus()")
    opened.press("ArrowDown", 40)
    assert read().startswith(f"frequency \u22122, 2: error {heat_error('bp 50%', 2, 6):.2f}%")
    opened.press("ArrowLeft", 37)
    assert read().startswith("frequency \u22122, 1:")
    opened.press("Home", 36)
    assert read() == start
    assert (
        opened.value("document.querySelector('#h0 .readout').getAttribute('aria-live')") == "polite"
    )


def choose(b, identity: str, number: int) -> None:
    b.value(
        f"(s => {{ s.value = '{number}'; s.dispatchEvent(new Event('change')); }})"
        f"(document.getElementById('{identity}'))"
    )


def test_pickers_choose_card_realization_norm_and_quantity(opened, nasty):
    opened.open(nasty)
    read = lambda: text(opened, "#h0 .readout")
    pixel = (
        "[...document.querySelector('#h0 canvas').getContext('2d').getImageData(4, 4, 1, 1).data]"
    )
    names = opened.value("[...document.getElementById('h0-one').options].map(o => o.textContent)")
    assert names == ["mean", "seed 0", "seed 1"]
    choose(opened, "h0-card", 2)
    choose(opened, "h0-eps", 1)
    choose(opened, "h0-one", 2)
    error = heat_error("bp 80%", 4, 4, 1, 1)
    assert f"error {error:.2f}% ({round(error / 5)} of 20 images)" in read()
    before = opened.value(pixel)
    choose(opened, "h0-show", 1)
    assert opened.value(pixel) != before
    label = opened.value("document.querySelector('#h0 .map').getAttribute('aria-label')")
    assert label == "Fourier heatmap, bp 80%, seed 1, eps 4, difference to dense"
    choose(opened, "h0-card", 0)  # the dense ones have no difference to themselves
    assert "to dense" not in read()


def test_colours_of_a_heatmap_are_those_of_the_small_ones(opened, nasty):
    opened.open(nasty)
    choose(opened, "h0-card", 0)
    same = opened.value("""(() => {
      const large = document.querySelector('#h0 .map canvas'), image = document.querySelector('.maps img');
      const copy = document.createElement('canvas');
      [copy.width, copy.height] = [large.width, large.height];
      copy.getContext('2d').drawImage(image, 0, 0, large.width, large.height);
      const [a, b] = [large, copy].map((c) => c.getContext('2d').getImageData(0, 0, c.width, c.height).data);
      return Math.max(...a.map((x, i) => Math.abs(x - b[i])));
    })()""")
    assert same <= 3


def test_one_panel_at_a_time(opened, several):
    opened.open(several)
    shown = "[...document.querySelectorAll('#training-view > [data-panel]')].map(p => p.checkVisibility())"
    assert opened.value(shown) == [True, False]
    choose(opened, "training-view-pick", 1)
    assert opened.value(shown) == [False, True]
    assert opened.complaints() == []


def test_tab_reaches_every_control_in_order(opened, nasty):
    opened.open(nasty)
    opened.value(OPEN)
    opened.settle()
    opened.value(
        f"window.all = [...document.querySelectorAll({json.dumps(REACHABLE)})].filter(e => e.checkVisibility())"
    )
    count = opened.value("all.length")
    order = []
    for _ in range(count):
        opened.press("Tab", 9)
        order.append(opened.value("all.indexOf(document.activeElement)"))
    assert count > 30 and order == list(range(count))


def test_without_scripts_everything_is_shown_at_once(opened, several):
    opened.open(several, script=False)
    panels = "[...document.querySelectorAll('#training-view > [data-panel]')].map(p => p.checkVisibility())"
    assert opened.value(panels) == [True, True]
    assert not opened.value("document.querySelector('#h0').checkVisibility()")
    assert opened.value("document.querySelector('.maps img').naturalWidth") == pages.SIDE
