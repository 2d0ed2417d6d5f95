"""Pages show only what is run: code from files that tests run, and commands that are typed."""

import pytest

from docs.tests.pages import DOCS, MAIN, ROOT, Block, beginning, blocks, names, steps

# Files that other tests run, or that are the product itself.
RUN = [
    *("examples", "benchmarks", "runtime", "<<cookiecutter.project_slug>>", "cookiecutter.json"),
    *("Makefile", "docs/tests", "build/docs/generated"),
]


@pytest.fixture(params=names())
def page(request: pytest.FixtureRequest) -> str:
    """Return the name of each page."""
    return str(request.param)


def test_a_page_shows_only_what_a_test_runs(page: str) -> None:
    wrong = [
        f"line {block.line}: {block.text[:60]!r}" for block in blocks(page) if not _is_run(block)
    ]
    assert wrong == []


def test_a_block_of_commands_begins_with_a_command(page: str) -> None:
    typed = [block for block in blocks(page) if block.shell == MAIN]
    assert [block.line for block in typed if not next(steps(block.text)).command] == []


def test_a_page_begins_in_a_known_folder(page: str) -> None:
    assert beginning(page) in {"empty", "project"}


def test_a_file_of_a_page_is_written_by_that_page(page: str) -> None:
    folder = DOCS / page
    there = {path.resolve() for path in folder.rglob("*") if path.is_file()}
    written = {block.source for block in blocks(page) if block.target}
    assert there - written == set()


def _is_run(block: Block) -> bool:
    if block.shell or block.target or {"not-run", "generated"} & set(block.classes):
        return True
    source = block.source
    return source is not None and any(source.is_relative_to(ROOT / path) for path in RUN)
