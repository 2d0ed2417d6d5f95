"""The verbs of a generated project before anything is installed."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from testkit.disk import mounted
from testkit.projects import DATABASES, Project, bake


@pytest.fixture(params=DATABASES)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    """Bake a project with each answer for the database."""
    return Project(bake(tmp_path / "out", database=request.param))


def pretend(folder: Path, before: str) -> str:
    """Write a program that runs ``before`` and then acts as this Python; return its path."""
    program = folder / "python"
    script = f"exec {shlex.quote(sys.executable)} -c \"{before}; exec(__import__('sys').argv[1])\""
    program.write_text(f'#!/bin/sh\n{script} "$2"\n')
    program.chmod(0o755)
    return str(program)


def test_the_readme_lists_the_verbs_of_the_makefile(project: Project) -> None:
    verbs = set(re.findall(r"^make ([a-z]+) ", project.succeed("help"), re.MULTILINE))
    readme = (project.folder / "README.rst").read_text()
    assert {"run", "test", "check", "serve", "reload"} <= verbs
    assert set(re.findall(r"^``make ([a-z]+)``$", readme, re.MULTILINE)) == verbs - {"help"}


def test_make_alone_lists_the_verbs(project: Project) -> None:
    assert project.succeed() == project.succeed("help")


def test_an_old_python_is_refused_with_the_cure(project: Project, tmp_path: Path) -> None:
    python = pretend(
        tmp_path, "import sys; sys.version_info = (3, 9); sys.version = '3.9.18 (old)'"
    )
    result = project.make("run", f"PYTHON={python}")
    assert result.returncode == 2
    assert f"needs Python 3.11 or newer, and {python} is 3.9.18: name another" in result.stderr
    assert not (project.folder / ".venv").exists()


def test_a_python_without_venv_is_refused_with_the_cure(project: Project, tmp_path: Path) -> None:
    python = pretend(tmp_path, "import sys; sys.modules['ensurepip'] = None")
    result = project.make("run", f"PYTHON={python}")
    assert result.returncode == 2
    assert "apt install python3-venv" in result.stderr
    assert not (project.folder / ".venv").exists()


def test_a_runtime_that_is_not_on_this_machine_is_named_with_the_cure(project: Project) -> None:
    makefile = project.folder / "Makefile"
    text, count = re.subn("RUNTIME := .*", "RUNTIME := '/some where/runtime'", makefile.read_text())
    assert count == 1
    makefile.write_text(text)
    (project.folder / ".venv" / "bin").mkdir(parents=True)
    (project.folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    result = project.make("check")
    assert result.returncode == 2
    assert result.stderr.splitlines()[0] == (
        "wheels/ has no wheel of API-Hour's runtime, and /some where/runtime is not on this"
        " machine: commit wheels/ on the machine that has it, or name its folder or git URL, as in"
        " make run RUNTIME=../api-hour/runtime"
    )


def test_reload_is_refused_if_nothing_is_served(project: Project) -> None:
    result = project.make("reload")
    assert result.returncode == 2
    assert "make serve is not running here" in result.stderr


def test_a_full_disk_leaves_no_half_wheel_to_the_next_try(tmp_path: Path, wheel: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        # These tests' own Python, into which nothing may be installed.
        settings = {"PIP_DRY_RUN": "1", "PIP_NO_INDEX": "1"}
        project = Project(bake(disk.folder / "out", database="none"), settings)
        python = project.folder / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        runtime = f"RUNTIME={wheel.as_uri()}"
        disk.fill()
        result = project.make(".venv/installed", runtime)
        assert (result.returncode, "No space left on device" in result.stderr) == (2, True)
        disk.make_room()
        assert "Installing hello" in project.make(".venv/installed", runtime).stdout
        (built,) = (project.folder / "wheels").iterdir()
        assert built.read_bytes() == wheel.read_bytes()
