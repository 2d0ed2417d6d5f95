"""The hand-drawn pictures are well-formed, and every text lies inside."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.tests.pages import DOCS

PICTURES = sorted(path for path in DOCS.rglob("*.svg") if path.parent.name != "measured")
SVG = "{http://www.w3.org/2000/svg}"
WIDEST = 0.62  # of the font size: the average width of a letter in any common font


@pytest.fixture(params=PICTURES, ids=lambda path: path.stem)
def picture(request: pytest.FixtureRequest) -> ElementTree.Element:
    """Parse each picture, which must be well-formed."""
    path: Path = request.param
    return ElementTree.parse(path).getroot()  # noqa: S314 - our own file


def test_there_are_pictures() -> None:
    assert {path.stem for path in PICTURES} >= {"lifecycle", "reload"}


def test_every_text_lies_inside_its_picture(picture: ElementTree.Element) -> None:
    left, top, width, height = (float(number) for number in picture.attrib["viewBox"].split())
    texts = list(picture.iter(f"{SVG}text"))
    outside = [text.text for text in texts if not _lies_in(text, left, top, width, height)]
    assert texts
    assert outside == []


def test_a_picture_can_be_read_aloud_and_in_the_dark(picture: ElementTree.Element) -> None:
    style = picture.findtext(f"{SVG}style") or ""
    assert picture.findtext(f"{SVG}title")
    assert picture.findtext(f"{SVG}desc")
    assert "prefers-color-scheme: dark" in style


def test_a_text_that_sticks_out_is_detected() -> None:
    text = ElementTree.fromstring('<text x="95" y="50" class="left">too long</text>')  # noqa: S314
    assert not _lies_in(text, 0, 0, 100, 100)


def _lies_in(
    text: ElementTree.Element, left: float, top: float, width: float, height: float
) -> bool:
    size = 15.0 if text.get("class") == "name" else 13.0
    long = len(re.sub(r"\s+", " ", text.text or "")) * size * WIDEST
    x, y = float(text.attrib["x"]), float(text.attrib["y"])
    begin = x if "left" in text.get("class", "") else x - long / 2
    return left <= begin and begin + long <= left + width and top + size <= y <= top + height
