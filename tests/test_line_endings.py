"""A git that writes CRLF into working trees (``core.autocrlf``) keeps LF in ours."""

import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from testkit.git_server import commit_copy
from testkit.projects import Project, bake, git, pip

CONVERTING = ("-c", "core.autocrlf=true")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a git repository with this template."""
    folder = tmp_path_factory.mktemp("endings") / "template"
    commit_copy(folder)
    return folder


@pytest.fixture(scope="module")
def clone(template: Path) -> Path:
    """Clone the template with a git that writes CRLF."""
    git(template.parent, "clone", "--quiet", *CONVERTING, "template", "clone")
    return template.with_name("clone")


def converted(folder: Path) -> list[str]:
    """Return the files of a repository that have a CR in the working tree or in the index."""
    lines = git(folder, "ls-files", "--eol").splitlines()
    assert len(lines) > 15
    return [line for line in lines if re.search(r"\b[iw]/(crlf|mixed)\b", line)]


def contents(folder: Path, origin: Path) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of every file of a project, whose origin is written as ORIGIN."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mode,
            path.read_bytes().replace(str(origin).encode(), b"ORIGIN"),
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def packed(wheel: Path) -> dict[str, bytes]:
    """Return the files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_clone_of_the_template_has_no_cr(clone: Path) -> None:
    assert converted(clone) == []


def test_a_clone_of_the_template_generates_the_same_project(
    tmp_path: Path, template: Path, clone: Path
) -> None:
    here, there = bake(tmp_path / "here", template), bake(tmp_path / "there", clone)
    project = contents(here, template)
    assert "Makefile" in project
    assert contents(there, clone) == project


def test_a_clone_of_the_template_builds_the_same_runtime(
    tmp_path: Path, wheel: Path, clone: Path
) -> None:
    pip("wheel", "--no-deps", f"--wheel-dir={tmp_path}", str(clone / "runtime"))
    (built,) = tmp_path.iterdir()
    assert packed(built) == packed(wheel)


def test_a_clone_of_a_project_has_no_cr_and_its_wheels_as_they_were(tmp_path: Path) -> None:
    project = bake(tmp_path / "out")
    wheel = project / "wheels" / "some.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"a\r\nb\n")
    git(project, "init", "--quiet")
    git(project, *CONVERTING, "add", ".")
    git(project, "commit", "--quiet", "--message=Begin")
    git(tmp_path, "clone", "--quiet", *CONVERTING, str(project), "clone")
    clone = tmp_path / "clone"
    assert [line for line in converted(clone) if "some.whl" not in line] == []
    assert (clone / "wheels" / "some.whl").read_bytes() == b"a\r\nb\n"
    assert Project(clone).succeed("help") == Project(project).succeed("help")
    installer = str(clone / "deploy" / "install.sh")
    for command in ([installer, "--help"], ["sh", installer, "--help"]):
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert said.startswith("Install a release")
