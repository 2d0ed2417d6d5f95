"""The reader detects what is wrong on a page."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.tests.pages import Block
from docs.tests.reader import Reader

LONG = 'trap "echo ended; exit" INT; echo begun; while true; do sleep 0.05; done'


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Return a reader in an empty folder."""
    folder = tmp_path / "empty"
    folder.mkdir()
    reader = Reader(folder, tmp_path / "notes", {"PATH": "/usr/bin:/bin"}, [])
    yield reader
    reader.close()


def block(text: str, **other: object) -> Block:
    """Return a block of commands."""
    usual = {"language": "console", "source": None, "caption": "", "classes": (), "line": 1}
    return Block(text=text, **{**usual, **other})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "$ echo one two\none two",
        "$ printf 'a\\nb\\nc\\n'\na\n...\nc",
        "$ printf 'a\\nc\\n'\na\n...\nc",
        "$ echo 'it took 17 ms'\nit took ... ms",
        "$ export NAME=value\n$ mkdir there\n$ cd there\n$ echo $NAME ${PWD##*/}\nvalue there",
        "$ echo \\\n> joined\njoined",
    ],
)
def test_a_right_page_passes(reader: Reader, text: str) -> None:
    reader.do(block(text))


@pytest.mark.parametrize(
    "text",
    [
        "$ echo one\ntwo",
        "$ echo one\none\ntwo",
        "$ printf 'one\\ntwo\\n'\none",
        "$ printf 'a\\nb\\nc\\n'\na\n...\nd",
        "$ false",
        "$ gone",
        "said without a command",
    ],
)
def test_a_wrong_page_fails(reader: Reader, text: str) -> None:
    with pytest.raises(AssertionError):
        reader.do(block(text))


def test_a_failing_command_must_be_announced(reader: Reader) -> None:
    reader.do(block("$ false", classes=("fails",)))
    with pytest.raises(AssertionError):
        reader.do(block("$ true", classes=("fails",)))


def test_a_running_command_is_awaited_and_stopped(reader: Reader) -> None:
    reader.do(block(f"$ {LONG}\nbegun", caption="In a second shell"))
    reader.do(block("^C\nended", caption="In the second shell"))


def test_the_output_of_a_second_shell_is_awaited_also_at_its_end(reader: Reader) -> None:
    waiting = "$ echo begun; until [ -e over ]; do sleep 0.05; done; echo ended"
    reader.do(block(f"{waiting}\nbegun", caption="In a second shell"))
    reader.do(block("$ touch over"))
    reader.do(block("ended", caption="In the second shell"))


def test_a_failure_in_a_second_shell_is_detected(reader: Reader) -> None:
    with pytest.raises(AssertionError, match="ended with 1"):
        reader.do(block(f"$ false\n$ {LONG}\nbegun", caption="In a second shell"))


def test_another_caption_names_no_shell() -> None:
    assert block("$ true", caption="In some shell").shell is None


def test_a_command_that_ends_too_early_is_detected(reader: Reader) -> None:
    with pytest.raises(AssertionError, match="never says"):
        reader.do(block("$ echo begun\nready", caption="In a second shell"))


def test_an_excerpt_shows_everything_that_is_new(reader: Reader, tmp_path: Path) -> None:
    old, new = tmp_path / "old.py", tmp_path / "new.py"
    old.write_text("a = 1\nb = 2\nc = 3\n")
    reader.do(block(old.read_text(), language="python", source=old, caption="m.py"))
    new.write_text("a = 1\nb = 20\nc = 3\n")
    reader.do(block("b = 20\nc = 3", language="python", source=new, caption="m.py"))
    assert (tmp_path / "empty" / "m.py").read_text() == new.read_text()
    new.write_text("a = 10\nb = 20\nc = 30\n")
    with pytest.raises(AssertionError, match="not what the page makes"):
        reader.do(block("c = 30", language="python", source=new, caption="m.py"))
