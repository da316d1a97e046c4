"""The page in a real browser: quiet, self-contained, usable by mouse and keyboard, with and without JavaScript."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, sync_playwright
from playwright.sync_api import Page as Tab

from tests.report.browser import ARGUMENTS, HOW_TO_INSTALL, find_browser
from tests.report.page_material import BOX, NASTY, failed, pictures, record
from tsq_cli.report.page import Page
from tsq_cli.types import ChosenBy

FILE_NAME = NASTY.replace("/", "|") + ".mp4"
EVENTS: dict[int, ChosenBy] = {1: "event", 9: "coverage", 12: "spread"}
# Every element with text of its own: the text, its color, and the first color behind it that is not transparent.
TEXTS = """() => {
  const opaque = color => !/rgba\\(.*, 0\\)|transparent/.test(color);
  return [...document.querySelectorAll('body *')].filter(element =>
    !element.closest('svg') && element.getClientRects().length
    && [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())
  ).map(element => {
    let behind = element;
    while (!opaque(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
    const text = element.textContent.trim().slice(0, 40);
    return [text, getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
  });
}"""

GROUND = "getComputedStyle(document.body).backgroundColor"


@dataclass
class Seen:
    """The requests and errors of a tab besides showing the page."""

    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)


Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = find_browser(playwright)
        if path is None:
            pytest.skip(HOW_TO_INSTALL)
        launched = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos: hostile in name and labels, failed, of an earlier run."""
    hostile = record(path=f"clips/{FILE_NAME}", notes=(NASTY,))
    path = tmp_path_factory.mktemp("page") / 'a "page" & <b>.html'
    with Page(path) as page:
        page.add(hostile.to_dict(), pictures(hostile, height=180, width=320))
        page.add(failed(message=f"{NASTY} is empty").to_dict(), None)
        page.add(record(chosen=EVENTS, events=[0] * 7 + [1] * 9, path="x" * 150 + ".mp4").to_dict(), None)
    return path


@pytest.fixture
def open_tab(browser: Browser, report: Path) -> Open:
    @contextmanager
    def opened(**options: Any) -> Iterator[tuple[Tab, Seen]]:
        with browser.new_context(**options) as context:
            tab, seen = context.new_page(), Seen()
            tab.on("request", lambda request: seen.requests.append(request.url))
            tab.on("console", lambda message: seen.console.append(f"{message.type}: {message.text}"))
            tab.on("pageerror", lambda error: seen.errors.append(str(error)))
            tab.on("dialog", lambda dialog: (seen.dialogs.append(dialog.message), dialog.dismiss()))
            tab.goto(report.as_uri(), wait_until="load")
            yield tab, seen

    return opened


@pytest.fixture(scope="module")
def tab(browser: Browser, report: Path) -> Iterator[Tab]:
    """The page for tests that only look."""
    with browser.new_context() as context:
        opened = context.new_page()
        opened.goto(report.as_uri(), wait_until="load")
        yield opened


def heat(tab: Tab) -> Locator:
    return tab.locator("img.heat").first


@pytest.mark.parametrize("javascript", [True, False])
def test_it_loads_in_silence_and_asks_nobody(open_tab: Open, report: Path, javascript: bool) -> None:
    with open_tab(java_script_enabled=javascript) as (tab, seen):
        tab.mouse.wheel(0, 20_000)
        tab.wait_for_timeout(200)
        assert [url for url in seen.requests if not url.startswith("data:")] == [report.as_uri()]
        assert (seen.console, seen.errors, seen.dialogs) == ([], [], [])
        assert tab.locator("h1").inner_text() == "Frames that matter"
        assert heat(tab).is_visible()


def test_the_console_and_the_policy_would_speak_up(open_tab: Open) -> None:
    """The listeners and the page's own policy catch what the test above looks for."""
    with open_tab() as (tab, seen):
        tab.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://example.invalid/x.png'}))")
        tab.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'alert(3)'}))")
        tab.wait_for_timeout(200)
        assert len([line for line in seen.console if "Content Security Policy" in line]) == 2
        assert seen.dialogs == []


@pytest.mark.parametrize("javascript", [True, False])
def test_the_maps_can_be_put_away(open_tab: Open, javascript: bool) -> None:
    with open_tab(java_script_enabled=javascript) as (tab, _):
        picture = tab.locator(".picture").first
        switch = tab.get_by_role("checkbox", name="Show where “Egyptian cat” is seen")
        assert switch.is_checked()
        with_map = picture.screenshot()
        switch.click()
        assert not heat(tab).is_visible()
        assert picture.screenshot() != with_map
        tab.get_by_text("Show where “Egyptian cat” is seen").click()
        assert heat(tab).is_visible()
        assert picture.screenshot() == with_map


def test_the_keyboard_reaches_everything(open_tab: Open) -> None:
    with open_tab() as (tab, _):
        reached = []
        for _step in range(40):
            tab.keyboard.press("Tab")
            reached.append(
                tab.evaluate(
                    "() => { const e = document.activeElement, s = getComputedStyle(e);"
                    " return [e.tagName, e.type || '', s.outlineStyle, parseFloat(s.outlineWidth)] }"
                )
            )
            if reached[-1][:2] == ["INPUT", "checkbox"]:
                break
        # the index, its links, the time line with its selected thumbnails, the table of candidates, the switch
        assert {element[0] for element in reached} == {"DIV", "A", "SUMMARY", "INPUT"}
        assert all(style == "solid" and width >= 2 for _, _, style, width in reached)
        tab.keyboard.press("Space")
        assert not heat(tab).is_visible()
        tab.keyboard.press("Space")
        assert heat(tab).is_visible()


def test_the_table_of_candidates_unfolds(open_tab: Open) -> None:
    with open_tab(java_script_enabled=False) as (tab, _):
        table = tab.get_by_role("table", name="All candidates").first
        assert not table.is_visible()
        tab.locator("summary").first.focus()
        tab.keyboard.press("Enter")
        assert table.is_visible()
        assert table.get_by_role("row").count() == 17


def test_words_are_shown_as_they_are(tab: Tab) -> None:
    assert tab.locator("h2").first.text_content() == FILE_NAME
    assert tab.locator(".notice li").first.text_content() == NASTY
    assert f"{NASTY} is empty" in (tab.locator("#video-2 .bad-notice").text_content() or "")
    assert tab.locator("script").count() == 0


def test_heat_covers_its_box_and_no_more(tab: Tab) -> None:
    frame, seen = tab.locator(".picture img").first.bounding_box(), heat(tab).bounding_box()
    assert frame
    assert seen
    left, top, right, bottom = BOX
    assert seen["x"] == pytest.approx(frame["x"] + left * frame["width"], abs=0.1)
    assert seen["y"] == pytest.approx(frame["y"] + top * frame["height"], abs=0.1)
    assert seen["width"] == pytest.approx((right - left) * frame["width"], abs=0.1)
    assert seen["height"] == pytest.approx((bottom - top) * frame["height"], abs=0.1)


def test_all_pictures_load(tab: Tab) -> None:
    widths = tab.evaluate("() => [...document.images].map(image => image.complete && image.naturalWidth)")
    # a card, the legend, frames and maps, candidates, uniform and selected
    assert len(widths) == 1 + 1 + 2 * 3 + 16 + 3 + 3
    assert all(width > 0 for width in widths)


@pytest.mark.parametrize("width", [380, 1280])
def test_it_fits_screens_of_any_width(tab: Tab, width: int) -> None:
    """Nothing scrolls sideways but what is meant to, and the curves stand above their thumbnails."""
    tab.set_viewport_size({"width": width, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    # An article clips what sticks out of it, so it is asked itself.
    sticking_out = "() => [...document.querySelectorAll('article')].filter(e => e.scrollWidth > e.clientWidth).length"
    assert tab.evaluate(sticking_out) == 0
    middles = """selector => [...document.querySelectorAll('#video-1 ' + selector)].map(
        element => { const box = element.getBoundingClientRect(); return (box.left + box.right) / 2 })"""
    points = tab.evaluate(middles, ".curve ~ .point")[:16]
    assert points == pytest.approx(tab.evaluate(middles, ".thumbnails li"), abs=1)


def test_it_prints_on_white_without_cutting_the_time_line(open_tab: Open) -> None:
    with open_tab(viewport={"width": 700, "height": 900}, color_scheme="dark") as (tab, _):
        tab.emulate_media(media="print")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 700
        box = tab.locator(".timeline svg").first.bounding_box()
        assert box
        assert box["x"] + box["width"] <= 700
        assert contrast(tab.evaluate(GROUND), "rgb(0, 0, 0)") > 15


def contrast(front: str, behind: str) -> float:
    """Ratio of two CSS colors "rgb(r, g, b)", 1 to 21 (WCAG 2)."""

    def luminance(color: str) -> float:
        parts = [int(part) / 255 for part in color.removeprefix("rgb(").removesuffix(")").split(", ")]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(front), luminance(behind)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_of_known_colors() -> None:
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(119, 119, 119)", "rgb(255, 255, 255)") == pytest.approx(4.48, abs=0.01)  # the known near miss


def test_light_and_dark_are_both_legible(open_tab: Open) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        with open_tab(color_scheme=scheme) as (tab, _):
            texts = tab.evaluate(TEXTS)
            assert len(texts) > 100
            assert {"Failed.", "failed", "visual", "event", "coverage", "spread"} <= {text for text, _, _ in texts}
            weak = {(text, front, behind) for text, front, behind in texts if contrast(front, behind) < 4.5}
            assert weak == set()
            grounds.append(tab.evaluate(GROUND))
    light, dark = grounds
    assert contrast(light, "rgb(0, 0, 0)") > 15 > 3 > contrast(dark, "rgb(0, 0, 0)")


@pytest.fixture(scope="module")
def many(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A page of seven videos, without JavaScript; the last one failed."""
    path = tmp_path_factory.mktemp("many") / "page.html"
    with Page(path) as page:
        for number in range(6):
            made = record(path=f"clips/{9 - number}.mp4", recognized=False)
            page.add(made.to_dict(), pictures(made, maps=False))
        page.add(failed().to_dict(), None)
    with browser.new_context(java_script_enabled=False) as context:
        tab = context.new_page()
        tab.goto(path.as_uri())
        yield tab


def in_order(tab: Tab) -> list[str]:
    """Names of the cards that are shown, in reading order."""
    boxes = [(card.bounding_box(), card.locator(".name").inner_text()) for card in tab.locator(".cards > li").all()]
    return [name for _, _, name in sorted((box["y"], box["x"], name) for box, name in boxes if box)]


def test_the_index_sorts_and_filters_without_a_script(many: Tab) -> None:
    assert in_order(many) == ["9.mp4", "8.mp4", "7.mp4", "6.mp4", "5.mp4", "4.mp4", "broken.mp4"]
    many.get_by_label("Name", exact=True).check()
    assert in_order(many) == ["4.mp4", "5.mp4", "6.mp4", "7.mp4", "8.mp4", "9.mp4", "broken.mp4"]
    many.get_by_label("Failed 1").check()
    assert in_order(many) == ["broken.mp4"]
    many.locator("#only-any-state").check()
    assert len(in_order(many)) == 7


def test_one_section_is_shown_at_a_time(many: Tab) -> None:
    shown = many.locator("article:visible")
    assert shown.count() == 0
    many.locator(".cards a").nth(2).click()
    assert [each.get_attribute("id") for each in shown.all()] == ["video-3"]
    many.locator("#video-3 .thumbnails a").first.click()  # a place inside keeps its section open
    assert [each.get_attribute("id") for each in shown.all()] == ["video-3"]
    many.get_by_role("link", name="Next video").click()
    assert [each.get_attribute("id") for each in shown.all()] == ["video-4"]
    many.get_by_label("Show all sections").check()
    assert shown.count() == 7
    many.get_by_label("Show all sections").uncheck()
    many.get_by_role("link", name="All videos").click()
    assert shown.count() == 0


def test_the_record_can_be_downloaded(many: Tab) -> None:
    many.locator(".cards a").first.click()
    with many.expect_download() as download:
        many.get_by_role("link", name="The record of this video, as JSON").click()
    assert download.value.suggested_filename == "9.json"
    assert json.loads(download.value.path().read_text())["video"]["path"] == "clips/9.mp4"
