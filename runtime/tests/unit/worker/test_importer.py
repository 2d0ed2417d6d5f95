"""Importing ``module:Name``, and the one line about a project that cannot be imported."""

import importlib
import os
import pwd
import tempfile
from collections.abc import Callable
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


def as_nobody(call: Callable[[], str]) -> str:
    """Return what a function returns in a process of the user nobody."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setuid(pwd.getpwnam("nobody").pw_uid)
            os.write(writing, call().encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with open(reading, encoding="utf-8") as pipe:
        return pipe.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_what_the_user_may_not_read_is_named_with_the_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory() as temporary:  # pytest's own folder is root's alone
        folder = Path(temporary)
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(temporary)
        (folder / "private_one.py").touch()
        denied = "user nobody may not"
        cure = "allow it, or set another `user`"

        def imported() -> str:
            importlib.invalidate_caches()
            return explained("private_one:Container")

        def entered() -> str:
            with pytest.raises(PermissionError) as failure:
                os.chdir(folder / "below")
            return importer.explain("private_one:Container", failure.value)

        (folder / "below").mkdir()
        (folder / "private_one.py").chmod(0o600)
        folder.chmod(0o755)
        assert as_nobody(imported).endswith(f"; {denied} read {folder}/private_one.py: {cure}")
        folder.chmod(0o711)
        assert as_nobody(imported).endswith(f"; {denied} read {folder}: {cure}")
        folder.chmod(0o700)
        assert as_nobody(entered).endswith(f"; {denied} enter {folder}: {cure}")
        assert not importer.explain("it", PermissionError(1, "Not permitted")).endswith(cure)
        assert not importer.explain("it", PermissionError(1, "", temporary)).endswith(cure)
