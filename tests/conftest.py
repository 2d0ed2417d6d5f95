"""Projects that are installed once and used by many tests; each one runs its own install."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from testkit.git_server import serve_template
from testkit.projects import ROOT, Project, bake, git, pip

BUILDING = ["flit_core>=3.11,<5", "setuptools>=77"]  # what builds the projects and the runtime


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the runtime's wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", f"--wheel-dir={folder}", str(ROOT / "runtime"))
    (wheel,) = folder.iterdir()
    return wheel


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> dict[str, str]:
    """Fetch what projects need once; return the environment in which they find it.

    Their pytest has a folder of its own: two that share one trip over what the other clears away.
    """
    folder = tmp_path_factory.mktemp("packages")
    needs = tmp_path_factory.mktemp("needs") / "out"
    drivers = ("aiopg", "asyncpg")
    baked = [bake(needs, project_slug=f"needs_{driver}", database=driver) for driver in drivers]
    projects = [f"{project}[dev]" for project in baked]
    pip("download", f"--dest={folder}", str(wheel), *projects, *BUILDING)
    # PIP_NO_COMPILE reads the wrong way round: no byte code, which is half of the time.
    theirs = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_NO_COMPILE": "0"}
    # uv asks an index all the same, to lock.
    theirs |= {"UV_FIND_LINKS": str(folder), "UV_HTTP_RETRIES": "9", "UV_HTTP_TIMEOUT": "90"}
    return theirs | {"PYTEST_DEBUG_TEMPROOT": str(tmp_path_factory.mktemp("temporary"))}


@pytest.fixture(scope="session")
def projects(
    tmp_path_factory: pytest.TempPathFactory, wheel: Path, offline: dict[str, str]
) -> Callable[[str], Project]:
    """Return a function that gives the project of a database, installed and committed.

    One is baked from a git address that is gone afterwards, one from the folder of the template,
    and one finds the runtime's wheel in wheels/.
    """

    @cache
    def installed(database: str) -> Project:
        folder = tmp_path_factory.mktemp(database)
        if database == "aiopg":
            with serve_template(folder / "served") as address:
                return _install(bake(folder / "out", address, database=database), offline)
        baked = bake(folder / "out", database=database)
        if database == "none":
            (baked / "wheels").mkdir()
            shutil.copy(wheel, baked / "wheels")
        return _install(baked, offline)

    return installed


@pytest.fixture(scope="session")
def tools(offline: dict[str, str]) -> dict[str, str]:
    """Fetch what locks and installs a release, too."""
    pip("download", f"--dest={offline['PIP_FIND_LINKS']}", "pip", "uv>=0.9,<1")
    return offline


def _install(folder: Path, environment: dict[str, str]) -> Project:
    project = Project(folder, environment)
    project.installing = project.succeed(".venv/installed")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=Begin")
    return project
