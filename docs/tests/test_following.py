"""A reader follows each page that shows commands, in a folder of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from docs.tests.pages import DOCS, beginning, blocks, names
from docs.tests.reader import reading

TYPED = [page for page in names() if ":: console\n" in (DOCS / f"{page}.rst").read_text()]
PAGES = sorted(TYPED, reverse=True)  # the tutorials, which take longest, come first


@pytest.mark.timeout(900)  # some pages install packages
@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_followed(page: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    doing = [block for block in blocks(page) if block.target or block.shell]
    assert doing
    surroundings = request.getfixturevalue("surroundings")
    with reading(_folder(page, request, tmp_path), tmp_path / "notes", surroundings) as reader:
        for block in doing:
            try:
                reader.do(block)
            except AssertionError as error:
                raise AssertionError(f"{page}.rst:{block.line}: {error}") from None


def _folder(page: str, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if beginning(page) == "project":
        project: Callable[[], Path] = request.getfixturevalue("project")
        return project()
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder
