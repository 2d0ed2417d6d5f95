"""Projects that many tests share, each installed once by its own ``make``."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from testkit.git_server import serve_template
from testkit.projects import ROOT, Project, bake, git, pip
from testkit.sharing import once

# To build the projects and the runtime, to lock, list and install a release, to make a project.
BUILDING = ["flit_core>=3.11,<5", "setuptools>=77", "pip", "uv>=0.9,<1", "cyclonedx-bom>=7,<8"]
COOKIECUTTER = f"--requirement={ROOT / 'requirements.txt'}"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the runtime's wheel."""

    def build(folder: Path) -> None:
        pip("wheel", "--no-deps", f"--wheel-dir={folder}", str(ROOT / "runtime"))

    (wheel,) = once(tmp_path_factory, "wheel", build).iterdir()
    return wheel


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> dict[str, str]:
    """Download what projects need; return the environment in which they find it.

    Their pytest has a temporary folder of its own: two pytest runs that share one clear each
    other's files away. Their mypy has one cache, which a project that differs in few files can use.
    """
    needs = tmp_path_factory.mktemp("needs") / "out"

    def download(folder: Path) -> None:
        drivers = ("aiopg", "asyncpg")
        baked = [bake(needs, project_slug=f"needs_{driver}", database=driver) for driver in drivers]
        projects = [f"{project}[dev]" for project in baked]
        pip("download", f"--dest={folder}", str(wheel), *projects, *BUILDING, COOKIECUTTER)

    folder = once(tmp_path_factory, "packages", download)
    # PIP_NO_COMPILE=0 means no byte code, which saves half of the time: pip reads it inverted.
    theirs = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_NO_COMPILE": "0"}
    # uv uses an index to lock, in spite of these settings.
    theirs |= {"UV_FIND_LINKS": str(folder), "UV_HTTP_RETRIES": "9", "UV_HTTP_TIMEOUT": "90"}
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
