"""The verbs of a generated project before anything is installed."""

import re
import shlex
import shutil
import subprocess
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


def test_a_migration_that_would_be_skipped_is_refused_by_name(tmp_path: Path) -> None:
    project = Project(bake(tmp_path / "out", database="asyncpg"))
    migrations = project.package / "migrations"
    for name in ("0002_notes.sql", "0003_draft.sql~", "README.rst", "fixtures.json"):
        (migrations / name).touch()
    assert project.succeed("migrations") == ""
    misnamed = ("0004.sql.txt", "0005 no extension", "0006.SQL", "notes.sql")
    for name in (*misnamed, "0002_same.sql"):
        (migrations / name).touch()
    for verb in ("run", "migrate", "release", "image"):
        result = project.make(verb, "BUILDER=true")
        assert result.returncode == 2
        twice, *lines, _ = result.stderr.splitlines()
        assert twice == (
            "hello/migrations/0002_same.sql: give it another number: 0002_notes.sql has this one"
        )
        rule = "its name must begin with a number and end with .sql"
        assert lines == [f"hello/migrations/{name}: {rule}" for name in misnamed]
    assert not (project.folder / ".venv").exists()


def test_a_migration_begins_with_the_next_number(tmp_path: Path) -> None:
    project = Project(bake(tmp_path / "out", database="aiopg"))
    migrations = project.package / "migrations"
    for name, made in (("add_notes", "0002_add_notes.sql"), ("more", "0003_more.sql")):
        assert f"hello/migrations/{made}" in project.succeed("migration", f"NAME={name}")
        assert (migrations / made).read_text() == "-- migrate:up\n\n-- migrate:down\n"
    for name in ("", "add notes", "Add", "a;b", "a/b"):
        result = project.make("migration", f"NAME={name}")
        assert (result.returncode, "NAME=add_notes" in result.stderr) == (2, True)
    assert len(list(migrations.iterdir())) == 3
    assert project.succeed("migrations") == ""


@pytest.mark.parametrize("place", ["moved", "moved, with spaces " + "x" * 100])
def test_an_environment_that_was_made_in_another_folder_is_made_again(
    place: str, tmp_path: Path
) -> None:
    baked = bake(tmp_path / place / "out", database="none")
    project = Project(baked)
    (baked / "wheels").mkdir()
    (baked / "wheels" / "api_hour_runtime-1.whl").touch()
    venv = baked / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (venv / "tools" / "bin").mkdir(parents=True)
    (venv / "tools" / "bin" / "uv").touch()
    (venv / "installed").touch()

    def write_script(python: str) -> None:
        """Write it as pip does: in a shell's words where a shebang cannot hold the path."""
        plain = len(python) < 100 and " " not in python
        shell = f"""#!/bin/sh\n'''exec' "{python}" "$0" "$@"\n' '''\n"""
        (venv / "bin" / "api_hour").write_text(f"#!{python}\n" if plain else shell)

    again = "Making the virtual environment"
    write_script(f"{venv}/bin/python")
    assert again not in project.make("-n", "lock").stdout
    elsewhere = f"{tmp_path / place / 'old'}/.venv/bin/python"
    write_script(elsewhere)
    said = project.make("-n", "lock").stdout
    assert (again in said, "Installing uv" in said) == (True, True)
    copied = shutil.copytree(venv, tmp_path / place / "old" / ".venv", symlinks=True)
    assert again in project.make("-n", "lock").stdout
    shutil.rmtree(venv)
    venv.symlink_to(copied)
    assert again not in project.make("-n", "lock").stdout


def test_a_folder_that_cannot_be_written_to_is_told_with_the_cure(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        project = Project(bake(disk.folder / "out", database="none"))
        disk.protect()
        result = project.make("run")
    assert result.returncode == 2
    assert "Read-only file system\nThis folder cannot be written to: copy" in result.stderr


def test_clean_tells_what_may_hinder_it(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        project = Project(bake(disk.folder / "out", database="none"))
        (project.folder / ".venv").mkdir()
        (project.folder / "hello.pid").touch()  # of a daemon that was killed
        disk.protect()
        result = project.make("clean")
    assert result.returncode == 2
    assert "if another make runs here, end it first" in result.stderr


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
