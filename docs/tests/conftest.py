"""Where a page begins: an empty folder, or a project that was generated with the defaults.

Everything that a page installs comes from a folder that is filled once; git fetches the starter kit
from a copy of this repository.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from testkit.git_server import commit_copy
from testkit.packages import build, collect
from testkit.projects import Project, bake, git
from testkit.sharing import once

ADDRESS = "https://github.com/org/template.git"  # what gh:org/template stands for
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CONFIGURATION = f"""
[user]
    name = Reader
    email = reader@example.org
[init]
    defaultBranch = main
[url "{{template}}"]
    insteadOf = {ADDRESS}
"""


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what the pages install, one for all processes of a run."""

    def fill(folder: Path) -> None:
        build(folder)
        collect(folder)

    return once(tmp_path_factory, "packages", fill)


@pytest.fixture(scope="session")
def surroundings(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a reader, who has Python, make and git."""
    home = tmp_path_factory.mktemp("home")
    template = tmp_path_factory.mktemp("served") / "template"
    commit_copy(template)
    # In a terminal curl shows no progress meter beside a response.
    (home / ".curlrc").write_text("no-progress-meter\n")
    (home / ".gitconfig").write_text(CONFIGURATION.format(template=template.as_uri()))
    (home / ".config" / "uv").mkdir(parents=True)
    (home / ".config" / "uv" / "uv.toml").write_text(
        f'no-index = true\nfind-links = ["{packages}"]\n'
    )
    programs = home / "bin"
    programs.mkdir()
    python = programs / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.base_prefix}/bin/python3" "$@"\n')
    python.chmod(0o755)
    return {
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PATH": f"{programs}:{SYSTEM}",
        "USER": "reader",
        "PYTHONUNBUFFERED": "1",  # as in a terminal
        "PIP_NO_COMPILE": "0",  # despite its name: no bytecode
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(packages),
        # What root installs here, no other user may enter.
        "SERVICE_USER": "root",
        # Two runs of pytest must not share a folder: each removes files of the other.
        "PYTEST_DEBUG_TEMPROOT": str(tmp_path_factory.mktemp("temporary")),
    }


@pytest.fixture(scope="session")
def project(
    surroundings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Path]:
    """Return a function that returns the project as generated, installed and committed.

    Its path is the same for every page, since a virtual environment contains its own path.
    """
    folder = tmp_path_factory.mktemp("project") / "hello"
    kept = folder.with_name("kept")
    bake(folder.parent)
    Project(folder, surroundings | {"VIRTUAL_ENV": ""}).succeed(".venv/installed")
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=Begin"]):
        git(folder, *arguments)
    folder.rename(kept)

    def fresh() -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["cp", "--archive", str(kept), str(folder)], check=True)
        return folder

    return fresh
