"""The line about a project that the user of a worker may not read."""

import importlib
import os
import pwd
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from api_hour.worker import importer


def explained(text: str) -> str:
    with pytest.raises((ModuleNotFoundError, PermissionError)) as failure:
        importer.load(text)
    return importer.explain(text, failure.value)


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
