"""Projects that many tests share, each installed once by its own ``make``."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from testkit.git_server import serve_template
from testkit.packages import build, collect
from testkit.projects import Project, bake, git
from testkit.sharing import once


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the runtime's wheel."""
    (wheel,) = once(tmp_path_factory, "wheel", build).iterdir()
    return wheel


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> dict[str, str]:
    """Collect what projects need; return the environment in which they find it.

    Their pytest has a temporary folder of its own: two pytest runs that share one clear each
    other's files away. Their mypy has one cache, which a project that differs in few files can use.
    """

    def fill(folder: Path) -> None:
        shutil.copy(wheel, folder)
        collect(folder)

    packages = once(tmp_path_factory, "packages", fill)
    # PIP_NO_COMPILE=0 means no byte code, which saves half of the time: pip reads it inverted.
    theirs = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(packages), "PIP_NO_COMPILE": "0"}
    # uv uses an index to lock, in spite of these settings.
    theirs |= {"UV_FIND_LINKS": str(packages), "UV_HTTP_RETRIES": "9", "UV_HTTP_TIMEOUT": "90"}
    theirs |= {"MYPY_CACHE_DIR": str(tmp_path_factory.mktemp("mypy"))}
    return theirs | {"PYTEST_DEBUG_TEMPROOT": str(tmp_path_factory.mktemp("temporary"))}


@pytest.fixture(scope="session")
def projects(
    tmp_path_factory: pytest.TempPathFactory, wheel: Path, offline: dict[str, str]
) -> Callable[[str], Project]:
    """Return a function that gives the installed and committed project of a database.

    One is generated from a git address that is gone afterwards, one from the template's folder, and
    one has the runtime's wheel in wheels/.
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


def _install(folder: Path, environment: dict[str, str]) -> Project:
    project = Project(folder, environment)
    project.installing = project.succeed(".venv/installed")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=Begin")
    return project
