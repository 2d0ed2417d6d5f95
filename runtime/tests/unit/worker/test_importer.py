"""Importing ``module:Name``, and the one line about a project that cannot be imported."""

import os
from pathlib import Path

import pytest

from api_hour.worker import importer


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def explained(text: str) -> str:
    with pytest.raises(Exception) as failure:  # noqa: PT011 - of any kind, as a project raises it
        importer.load(text)
    return importer.explain(text, failure.value)


def test_the_innermost_frame_of_the_project_is_the_place(here: Path) -> None:
    (here / "outer_one.py").write_text("import inner_one\n")
    (here / "inner_one.py").write_text("import json\n\njson.loads('{')\n")
    assert explained("outer_one:Container").startswith("inner_one.py:3: JSONDecodeError: ")


def test_an_error_of_many_lines_becomes_one(here: Path) -> None:
    (here / "wordy_one.py").write_text("raise ValueError('first\\nsecond')\n")
    assert explained("wordy_one:Container") == "wordy_one.py:1: ValueError: first second"


def test_a_module_that_is_not_there_comes_with_the_cure(here: Path) -> None:
    assert explained("not_there_at_all:Container") == (
        "not_there_at_all:Container: ModuleNotFoundError: No module named 'not_there_at_all'; "
        "run it in the folder that holds not_there_at_all, or install it"
    )


def test_a_removed_working_directory_changes_only_the_place(here: Path) -> None:
    (here / "gone_one.py").write_text("raise ValueError('why')\n")
    with pytest.raises(ValueError, match="why") as failure:
        importer.load("gone_one:Container")
    (here / "gone_one.py").unlink()
    gone = here / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    assert importer.explain("gone_one:Container", failure.value) == (
        "gone_one:Container: ValueError: why"
    )
    assert importer.shorten("gone_one.py") == "gone_one.py"
