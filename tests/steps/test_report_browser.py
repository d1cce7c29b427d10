"""The report in Chromium: on a phone, in the dark, on paper, for a screen reader, and with nothing from outside."""

import io
import itertools

import browser
import invented
import numpy as np
import pytest
from PIL import Image

from trafficsigns import features, report

pytestmark = pytest.mark.skipif(
    browser.program() is None, reason="there is no Chromium on the PATH (`make browser` installs it where it can)"
)

PHONE, DESK, PAPER = 360, 1280, 794
"""Widths in pixels; the last is that of an A4 sheet."""


def noise(width, height, generator):
    body = io.BytesIO()
    Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(body, "PNG")
    return body.getvalue()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of 43 classes, with everything that one can hold, opened."""
    folder = tmp_path_factory.mktemp("report")
    generator = np.random.default_rng(0)
    evaluation = invented.whole()
    pictures = [noise(48, 48, generator) for _ in evaluation["classes"]]
    reasons = features.heat(np.full((32, 32, 3), 90, np.uint8), generator.normal(size=(32, 32)))
    mistakes = [
        report.Mistake(picture, f"GTSRB/Final_Test/Images/{number:05d}.ppm", number, 42 - number, 0.9, reasons)
        for number, picture in enumerate(pictures[:21])
    ]
    stages = [report.Stage(f"conv{number}", noise(960, 240, generator)) for number in (1, 2)]
    path = folder / "report.html"
    path.write_text(report.render(evaluation, pictures, mistakes, stages), encoding="utf-8")
    with browser.Browser(folder / "profile") as chromium:
        chromium.open(path)
        yield chromium


OUTSIDE = """
[...document.querySelectorAll("body *")]
  .filter(e => !e.closest(".scroll") && !e.closest(".visually-hidden") && !e.closest("svg > *"))
  .filter(e => getComputedStyle(e).position !== "absolute")
  .filter(e => e.getBoundingClientRect().right > %d + 0.5)
  .map(e => e.tagName + "." + e.className + " " + (e.textContent || "").trim().slice(0, 40))
"""


@pytest.mark.parametrize("width", [320, PHONE, 768, DESK])
def test_nothing_sticks_out_to_the_side(page, width):
    page.become(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OUTSIDE % width) == []


def test_what_is_wider_than_a_phone_scrolls_within_its_own_place(page):
    page.become(PHONE)
    places = page.evaluate(
        '[...document.querySelectorAll(".scroll")].map(e => [e.scrollWidth > e.clientWidth, e.tabIndex, e.clientWidth])'
    )
    assert places
    assert all(width <= PHONE for _, _, width in places)
    # Whoever has no mouse must be able to scroll there.
    assert all(index == 0 for wide, index, _ in places if wide)


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_text_is_large_enough_to_be_read(page, width):
    page.become(width)
    sizes = page.evaluate("""[...document.querySelectorAll("body *")]
      .filter(e => !e.closest("svg") && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
      .map(e => parseFloat(getComputedStyle(e).fontSize))""")
    assert min(sizes) >= 11


def luminance(colour: str) -> float:
    channels = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_the_dark_scheme_is_dark(page):
    backgrounds = {}
    for scheme in ("light", "dark"):
        page.become(DESK, scheme=scheme)
        backgrounds[scheme] = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert backgrounds["light"] > 0.8
    assert backgrounds["dark"] < 0.05


TEXTS = """
[...document.querySelectorAll("body *")]
  .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.tagName !== "title")
  .filter(e => e.getClientRects().length && !e.classList.contains("count"))
  .map(e => {
    const drawn = e.closest("svg"), style = getComputedStyle(e);
    let holder = drawn || e, ground;
    do { ground = getComputedStyle(holder).backgroundColor; holder = holder.parentElement; }
    while (holder && ground.endsWith(", 0)"));
    return [drawn ? style.fill : style.color, ground, parseFloat(style.fontSize), e.textContent.trim().slice(0, 30)];
  })
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page, scheme):
    """WCAG 2.2, success criterion 1.4.3: 4.5 to 1, or 3 to 1 for large text."""
    page.become(DESK, scheme=scheme)
    texts = page.evaluate(TEXTS)
    assert len(texts) > 500
    weak = []
    for colour, ground, size, text in texts:
        low, high = sorted((luminance(colour), luminance(ground)))
        contrast = (high + 0.05) / (low + 0.05)
        if contrast < (3 if size >= 24 else 4.5):
            weak.append((round(contrast, 2), colour, ground, text))
    assert weak == []


def test_it_asks_for_nothing_from_outside_and_complains_of_nothing(page):
    requests = [
        event["params"]["request"]["url"] for event in page.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert any(url.startswith("file:") and url.endswith("report.html") for url in requests)
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    troubles = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Network.loadingFailed")
    assert [event for event in page.events if event["method"] in troubles] == []
    assert page.evaluate("[...document.images].filter(i => !i.naturalWidth).length") == 0


def test_it_can_be_printed(page):
    page.become(PAPER, media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER
    assert page.evaluate(OUTSIDE % PAPER) == []
    assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) == pytest.approx(1.0)
    assert page.evaluate('getComputedStyle(document.querySelector("nav")).display') == "none"
    # The matrix fits on the sheet, where nobody scrolls.
    assert (
        page.evaluate('[...document.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth).length')
        == 0
    )
    sheets = page.printed()
    assert sheets.startswith(b"%PDF")
    assert sheets.count(b"/Type /Page\n") + sheets.count(b"/Type /Page/") >= 5
    page.become(DESK)


@pytest.fixture(scope="module")
def spoken(page):
    """What a screen reader is told: role, name and level of all that is not ignored."""
    page.become(DESK)
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    return [
        (
            node["role"]["value"],
            node.get("name", {}).get("value", ""),
            next((p["value"]["value"] for p in node.get("properties", []) if p["name"] == "level"), None),
        )
        for node in nodes
        if not node["ignored"]
    ]


def test_a_screen_reader_finds_its_way(spoken):
    roles = [role for role, _, _ in spoken]
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert roles.count(landmark) == 1, landmark
    regions = [name for role, name, _ in spoken if role == "region"]
    for section in ("Gate", "Data", "Reasons", "Worst mistakes", "Origin"):
        assert section in regions
    levels = [level for role, _, level in spoken if role == "heading"]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_a_screen_reader_is_told_what_pictures_show(spoken):
    pictures = [name for role, name, _ in spoken if role in ("image", "img", "graphics-document", "SvgRoot")]
    assert len(pictures) > 60
    assert all(pictures)
    assert any(name.startswith("Accuracy against severity of noise: as it is") for name in pictures)


def test_every_table_has_a_name_and_headers(spoken, page):
    tables = [name for role, name, _ in spoken if role == "table"]
    assert len(tables) == page.evaluate('document.querySelectorAll("table").length') >= 7
    assert all(tables)
    assert (
        page.evaluate('[...document.querySelectorAll("table")].filter(t => !t.querySelector("thead th")).length') == 0
    )
    # On a phone too, where the verdicts are laid out otherwise.
    page.become(PHONE)
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    narrow = [node["role"]["value"] for node in nodes if not node["ignored"]]
    page.become(DESK)
    assert narrow.count("table") == len(tables)
    assert narrow.count("columnheader") == sum(role == "columnheader" for role, _, _ in spoken) - 1
