"""The figures of the documentation are rendered from the kept results."""

from pathlib import Path

import pytest

from benchmarks.report.__main__ import report
from benchmarks.report.summary import summary
from benchmarks.results import Results

ROOT = Path(__file__).parents[2]
KEPT = {path.stem: path for path in (ROOT / "benchmarks" / "results").glob("*.json")}
PUBLISHED = ROOT / "docs" / "explanation" / "measured"


def test_the_tables_and_charts_are_rendered_from_the_results() -> None:
    made: dict[str, str] = {}
    for name, path in sorted(KEPT.items()):
        files = report(Results.read(path), name)
        assert made.keys().isdisjoint(files)
        made |= files
    assert made == {path.name: path.read_text() for path in PUBLISHED.iterdir()}


def test_the_table_of_the_readme_is_rendered_from_the_results() -> None:
    counted, loaded = (Results.read(KEPT[name]) for name in ("instructions", "cpu"))
    assert summary(counted, loaded) in (ROOT / "README.rst").read_text()


@pytest.mark.parametrize("name", sorted(KEPT))
def test_no_kept_result_was_measured_with_uncommitted_changes(name: str) -> None:
    assert not Results.read(KEPT[name]).commit.endswith("-dirty")
