"""CONTRIBUTING.rst sends a reader to files that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^(\S.*?)  +``([^`]+)``(?:, as a model)?$", re.MULTILINE)


def rows() -> list[tuple[str, str]]:
    """Return what to change and the file to open, of each row of the table."""
    text = (ROOT / "CONTRIBUTING.rst").read_text()
    table = text.partition("\nTo change ")[2].partition("\nVerbs\n")[0]
    return ROW.findall(table)


def test_every_row_of_the_table_names_a_file_that_exists() -> None:
    assert len(rows()) >= 20
    assert [file for _, file in rows() if not (ROOT / file).is_file()] == []


def test_every_folder_of_the_runtime_has_its_sentence() -> None:
    text = (ROOT / "CONTRIBUTING.rst").read_text()
    package = ROOT / "runtime" / "api_hour"
    folders = {path.parent.relative_to(package) for path in package.rglob("*.py")}
    sentences = {Path(name) for name in re.findall(r"^``([\w./]+)`` +\S", text, re.MULTILINE)}
    assert folders - {Path("plugins/embedded")} <= sentences
