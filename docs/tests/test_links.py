"""No link is broken: neither in the built pages nor in the pages of the repository."""

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from docs.tests.pages import BUILT, ROOT

HTML = BUILT / "html"
LOADED = {"img": "src", "link": "href", "object": "data", "script": "src", "source": "src"}
PAGES = ["README.rst", "CONTRIBUTING.rst", "CHANGELOG.rst", "SECURITY.rst"]


class Links(HTMLParser):
    """The anchors of a page, its links, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.leads: set[str] = set()
        self.loads: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect from a tag."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.leads.add(values["href"])
        if LOADED.get(tag) in values and values.get("rel") not in {"canonical"}:
            self.loads.add(values[LOADED[tag]])


@cache
def links(page: Path) -> Links:
    """Read one built page."""
    return Links(page.read_text())


def built() -> list[Path]:
    """Return every built page."""
    pages = sorted(HTML.rglob("*.html"))
    assert len(pages) > 4, "nothing is built yet: make docs does"
    return pages


def test_no_link_in_the_built_pages_is_broken() -> None:
    wrong = [
        f"{page.relative_to(HTML)}: {link}"
        for page in built()
        for link in sorted(links(page).leads | links(page).loads)
        if not urlsplit(link).scheme and not _is_there(page, link)
    ]
    assert wrong == []


def test_a_built_page_loads_nothing_from_elsewhere() -> None:
    elsewhere = [link for page in built() for link in links(page).loads if urlsplit(link).netloc]
    assert elsewhere == []


@pytest.mark.parametrize("page", PAGES)
def test_no_link_in_a_page_of_the_repository_is_broken(page: str) -> None:
    text = (ROOT / page).read_text()
    links = set(re.findall(r"<([^<>\s]+)>`_|(?:image|figure|:target:)::? (\S+)", text))
    paths = {unquote(urlsplit(link).path) for pair in links for link in pair if link}
    local = {path for path in paths if not path.startswith("//") and "://" not in path}
    assert [path for path in sorted(local) if path and not (ROOT / path).exists()] == []


def _is_there(page: Path, link: str) -> bool:
    parts = urlsplit(link)
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_file():
        return False
    fragment = unquote(parts.fragment)
    return not fragment or target.suffix != ".html" or fragment in links(target).anchors
