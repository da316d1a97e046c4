"""Points with names: where they are drawn, their colors, and a page that loads and runs nothing."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tsq_cli.errors import OutputError
from tsq_cli.report.scatter import Panel, Scatter, plot_scatter, write_scatter_page

NAMES = ("riding a horse", '<b>& "quotes"', "$x_1$")


def scatter_of(*point_sets: list[tuple[float, float]], names: tuple[str, ...] = NAMES) -> Scatter:
    panels = tuple(Panel(title=f"panel {i}", points=np.array(points, float)) for i, points in enumerate(point_sets))
    hues = np.arange(len(names)) / len(names)
    return Scatter(title="A figure", note="A note.", rows=(panels,), names=names, hues=hues)


TRIANGLE = [(0.0, 0.0), (4.0, 0.0), (0.0, 2.0)]


def svgs_of(page: str) -> list[ET.Element]:
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def test_the_page_holds_every_point_with_its_name_in_every_panel(tmp_path: Path) -> None:
    write_scatter_page(scatter_of(TRIANGLE, [(1.0, 1.0)] * 3), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    first, second = svgs_of(page)
    circles = [[float(circle.attrib[axis]) for axis in ("cx", "cy")] for circle in first.iter("circle")]
    # 4 wide and 2 high, brought to 84 wide (a margin of 8 on each side) and 42 high; y counts downwards in a picture.
    np.testing.assert_allclose(circles, [(8, 71), (92, 71), (8, 29)], atol=0.01)
    assert [(c.attrib["cx"], c.attrib["cy"]) for c in second.iter("circle")] == [("50.00", "50.00")] * 3
    for svg in (first, second):
        assert tuple(title.text for title in svg.iter("title")) == NAMES
        assert tuple(text.text for text in svg.iter("text")) == NAMES
    # the same color in every panel: red, green and blue are a third of the wheel apart
    fills = [[circle.attrib["fill"] for circle in svg.iter("circle")] for svg in (first, second)]
    assert fills == [["#d22d2d", "#2dd22d", "#2d2dd2"]] * 2


def test_the_page_runs_no_script_and_loads_nothing(tmp_path: Path) -> None:
    write_scatter_page(scatter_of(TRIANGLE), tmp_path / "page.html")
    seen: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((tag, dict(attrs)))

    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    Reader().feed(page)
    assert not {"script", "img", "iframe", "object", "b"} & {tag for tag, _ in seen}
    assert not [name for _, attributes in seen for name in attributes if name.startswith("on")]
    links = [attributes["href"] for _, attributes in seen if "href" in attributes]
    assert links == ["data:,"]
    assert "url(" not in page
    assert "@import" not in page
    policy = next(attributes["content"] for _, attributes in seen if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy


def test_the_picture_shows_every_point_in_its_color(tmp_path: Path) -> None:
    plot_scatter(scatter_of(TRIANGLE, TRIANGLE), tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape[1] > 1000
    for number, color in enumerate([(210, 45, 45), (45, 210, 45), (45, 45, 210)]):
        rows, columns = np.nonzero((np.abs(pixels - color) <= 3).all(axis=2))
        left, right = columns < pixels.shape[1] // 2, columns >= pixels.shape[1] // 2
        assert min(left.sum(), right.sum()) > 50, number
        if number == 2:  # the upper point of the triangle
            assert rows.mean() < pixels.shape[0] / 2


def test_many_names_are_left_to_the_page(tmp_path: Path) -> None:
    points = [(float(i % 10), float(i // 10)) for i in range(100)]
    many = scatter_of(points, names=tuple("x" * 30 for _ in points))
    plot_scatter(many, tmp_path / "many.png")
    few = scatter_of(points[:50], names=tuple("x" * 30 for _ in points[:50]))
    plot_scatter(few, tmp_path / "few.png")

    def colored(path: Path) -> int:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        return int((np.ptp(pixels, axis=2) > 60).sum())

    assert colored(tmp_path / "few.png") > colored(tmp_path / "many.png")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"points must be \[3, 2\].*panel 1"):
        scatter_of(TRIANGLE, TRIANGLE[:2])
    with pytest.raises(ValueError, match="finite"):
        scatter_of([(0.0, np.nan), *TRIANGLE[1:]])
    with pytest.raises(ValueError, match="one length"):
        Scatter(title="", note="", rows=(), names=(), hues=np.zeros(0))
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(OutputError, match=r"folder\.html"):
        write_scatter_page(scatter_of(TRIANGLE), tmp_path / "folder.html")


def test_names_are_printable_on_page_and_picture(tmp_path: Path) -> None:
    figure = scatter_of(TRIANGLE, names=("\x1b[2J\n", "\u202e\udcff", "x" * 10**6))
    write_scatter_page(figure, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert set(page) & set("\x1b\u202e\udcff") == set()
    assert page.count(r"\x1b[2J\n") == page.count(r"\u202e\xff") == 3  # a tip, a label, a line of the list
    assert len(page) < 20_000
    plot_scatter(figure, tmp_path / "evil.png")
    shown = scatter_of(TRIANGLE, names=(r"\x1b[2J\n", r"\u202e\xff", "x" * 20 + "…" + "x" * 19))
    plot_scatter(shown, tmp_path / "plain.png")
    assert (tmp_path / "evil.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_a_title_is_no_formula(tmp_path: Path) -> None:
    panel = Panel(title="as in the pack $x^{$", points=np.array(TRIANGLE))
    plot_scatter(
        Scatter(title="$_$", note="$^$", rows=((panel,),), names=NAMES, hues=np.zeros(3)), tmp_path / "figure.png"
    )
    assert (tmp_path / "figure.png").exists()
