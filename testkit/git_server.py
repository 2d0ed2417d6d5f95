"""A git server on the loopback interface that serves this repository as it stands."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from testkit.ports import accepts, free_port
from testkit.processes import Program
from testkit.projects import ROOT, git
from testkit.waiting import until


@contextmanager
def serve_template(folder: Path) -> Iterator[str]:
    """Commit a copy of this repository below ``folder``, serve it, and yield its URL."""
    commit_copy(folder / "template")
    port = free_port()
    options = ("--listen=127.0.0.1", f"--port={port}", "--export-all", f"--base-path={folder}")
    with Program("git", "daemon", *options):
        until(lambda: accepts(port), "git does not serve")
        yield f"git://127.0.0.1:{port}/template"


def commit_copy(template: Path) -> None:
    """Make ``template`` a git repository with one commit: this repository as it stands."""
    names = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(lambda name: (ROOT / name).is_file(), names):
        (template / name).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # a test beside this one has just removed it
            shutil.copy(ROOT / name, template / name)
    git(template, "init", "--quiet")
    git(template, "add", ".")
    git(template, "commit", "--quiet", "--message=Begin")
