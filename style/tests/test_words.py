"""The check of our English finds what it names, where it is, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from style.__main__ import findings


def test_a_phrase_is_found_across_lines_with_its_line_and_its_cure() -> None:
    assert list(findings("one\nin the\nplace of two", python=False)) == [
        (2, "in the\nplace of", "write instead of")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "there is no room",
        "it is no longer here",
        "There is no such file",
        "it was no more than one",
    ],
)
def test_a_phrase_that_is_plain_english_is_left_alone(text: str) -> None:
    assert list(findings(text, python=False)) == []


def test_names_of_python_are_not_read_but_comments_and_strings_are() -> None:
    source = "fleet = 1\nworkers = 'a fleet'  # the fleet\n"
    assert [number for number, *_ in findings(source, python=True)] == [2, 2]


def test_a_class_that_is_described_by_a_verb_is_found() -> None:
    source = 'class Door:\n    """Open a way out."""\n'
    assert list(findings(source, python=True)) == [
        (1, "Door: Open ...", "describe a class by a noun")
    ]
    assert not list(findings(source.replace("Open a", "A"), python=True))


def test_a_template_with_tags_is_read_as_text() -> None:
    source = "# is no number\n<% if x %>\n"
    assert [wrong for _, wrong, _ in findings(source, python=True)] == ["is no "]


def test_the_command_ends_with_1_and_names_the_place(tmp_path: Path) -> None:
    page = tmp_path / "page.rst"
    page.write_text("This is no page.\n")
    command = [sys.executable, "-m", "style", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, f"{page}:1: 'is no ': write is not a\n")
    page.write_text("This is a page.\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
