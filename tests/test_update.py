"""`make update` merges the template's changes into a project that its owner has edited."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hooks.post_gen_project import FILES
from testkit.git_server import commit_copy
from testkit.projects import DATABASES, Project, bake, git

SLUG = "<" + "<cookiecutter.project_slug>>"
NEW_TITLE = ('"""The first page."""', '"""The page at the root."""')
OWN_MESSAGE = ("Hello, World!", "Hello, update!")
OWN_TITLE = ('"""The first page."""', '"""My own page."""')
FUTURE = 4_000_000_000.0  # newer than every file, so that make installs nothing


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Return a git repository with this template."""
    folder = tmp_path / "template"
    commit_copy(folder)
    return folder


@pytest.fixture
def generate(tmp_path: Path, template: Path) -> Callable[..., Project]:
    """Return a function that bakes from an address; the project uses the tests' tools."""

    def baked(address: str, **answers: str) -> Project:
        folder = bake(tmp_path / "out", address, author='A. "B" Ü', **answers)
        project = Project(folder, dict(IDENTITY))
        for program in ("bin/python", "tools/bin/python", "tools/bin/cookiecutter"):
            path = project.folder / ".venv" / program
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
            path.chmod(0o755)
        (project.folder / ".venv" / "installed").touch()
        os.utime(project.folder / ".venv" / "installed", (FUTURE, FUTURE))
        return project

    return baked


IDENTITY = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "Test"), ("EMAIL", "test@example.org"))
}


@pytest.fixture
def project(generate: Callable[..., Project], template: Path) -> Project:
    """Return a project from the template's folder, committed."""
    project = generate(str(template))
    commit_all(project.folder, init=True)
    return project


def commit_all(folder: Path, *, init: bool = False) -> str:
    """Commit everything; return the commit."""
    if init:
        git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=Change")
    return git(folder, "rev-parse", "HEAD")


def edit(folder: Path, file: str, old: str, new: str) -> None:
    """Write ``new`` instead of ``old``."""
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))


def renew(template: Path) -> str:
    """Commit a new option with a file of its own, and a changed file, to the template."""
    edit(template, "cookiecutter.json", '  "__prompts__"', '  "colour": ["red"],\n  "__prompts__"')
    (template / SLUG / "COLOUR").write_text("<" + "< cookiecutter.colour >>\n")
    edit(template, f"{SLUG}/{SLUG}/endpoints/index.py", *NEW_TITLE)
    return commit_all(template)


# The hook of a template whose file names hold conditions.
REMOVE_EMPTY_FOLDERS = """
from pathlib import Path

for folder in sorted(Path.cwd().rglob("*"), reverse=True):
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
"""


def name_by_conditions(template: Path) -> str:
    """Give the template's files the names that they had before plain ones; return the commit."""
    for path, answers, name, enough in FILES:
        file = template / SLUG / path
        condition = (" and " if enough is all else " or ").join(
            f"cookiecutter.{option} in {answers[option]}" for option in answers
        )
        file.rename(file.with_name(f"<% if {condition} %>{name or file.name}<% endif %>"))
    (template / "hooks" / "post_gen_project.py").write_text(REMOVE_EMPTY_FOLDERS)
    edit(template, "cookiecutter.json", '"hooks.answers.Answers", ', "")  # it came later
    return commit_all(template)


def origin(project: Project) -> dict[str, object]:
    """Return the project's record of its origin."""
    kept = json.loads((project.folder / ".api-hour.json").read_text())
    assert isinstance(kept, dict)
    return kept


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return the content of every file except the tools'."""
    paths = [path for path in folder.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def refusal(project: Project, *arguments: str) -> str:
    """Update, which must be refused and touch nothing; return the message."""
    before = snapshot(project.folder)
    result = project.make("update", *arguments)
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if not line.startswith("make: ")]
    after = snapshot(project.folder)
    for files in (before, after):  # git status refreshes the index
        files.pop(".git/index", None)
    assert after == before
    return "\n".join(lines)


def test_a_project_records_its_origin(project: Project, template: Path) -> None:
    kept = origin(project)
    assert kept["template"] == str(template)
    assert kept["commit"] == git(template, "rev-parse", "HEAD")
    assert kept["answers"] == {
        "project_name": "Hello",
        "project_slug": "hello",
        "description": "A daemon on API-Hour",
        "author": 'A. "B" Ü',
        "database": "aiopg",
        "container": True,
        "systemd": True,
        "ci": "github",
    }


def test_changes_are_merged_with_edits_and_only_once(project: Project, template: Path) -> None:
    edit(project.folder, "hello/endpoints/index.py", *OWN_MESSAGE)
    (project.folder / "MINE").write_text("mine\n")
    before = commit_all(project.folder)
    (project.folder / "wheels").mkdir()
    (project.folder / "wheels" / "one.whl").touch()  # as the first verb does
    newest = renew(template)
    assert "make check test" in project.succeed("update")
    index = (project.package / "endpoints" / "index.py").read_text()
    assert NEW_TITLE[1] in index
    assert OWN_MESSAGE[1] in index
    assert (project.folder / "COLOUR").read_text() == "red\n"
    assert (project.folder / "MINE").read_text() == "mine\n"
    assert origin(project)["commit"] == newest
    answers = origin(project)["answers"]
    assert isinstance(answers, dict)
    assert (answers["colour"], answers["author"]) == ("red", 'A. "B" Ü')
    assert git(project.folder, "rev-parse", "HEAD^") == before
    changed = git(project.folder, "diff", "--name-only", "HEAD^").split()
    assert changed == [".api-hour.json", "COLOUR", "hello/endpoints/index.py"]
    assert git(project.folder, "status", "--porcelain") == "?? wheels/"
    after = git(project.folder, "rev-parse", "HEAD")
    assert "Nothing to do" in project.succeed("update")
    assert git(project.folder, "rev-parse", "HEAD") == after
    assert git(project.folder, "status", "--porcelain") == "?? wheels/"


@pytest.mark.parametrize("database", DATABASES)
def test_a_project_from_before_plain_file_names_is_updated_as_any_other(
    generate: Callable[..., Project], template: Path, database: str
) -> None:
    before = name_by_conditions(template)
    assert list((template / SLUG).rglob("<% if *"))
    project = generate(str(template), database=database)
    commit_all(project.folder, init=True)
    edit(project.folder, "hello/endpoints/index.py", *OWN_MESSAGE)
    edit(project.folder, "tests/conftest.py", '"""What tests share', '"""What my tests share')
    commit_all(project.folder)
    git(template, "revert", "--no-edit", "HEAD")
    renew(template)
    assert origin(project)["commit"] == before
    project.succeed("update")
    changed = git(project.folder, "diff", "--name-only", "HEAD^").split()
    assert changed == [".api-hour.json", "COLOUR", "hello/endpoints/index.py"]
    assert git(project.folder, "status", "--porcelain") == ""
    index = (project.package / "endpoints" / "index.py").read_text()
    assert NEW_TITLE[1] in index
    assert OWN_MESSAGE[1] in index


def test_a_conflict_is_shown_and_no_edit_is_lost(project: Project, template: Path) -> None:
    edit(project.folder, "hello/endpoints/index.py", *OWN_TITLE)
    edit(project.folder, "hello/routes.py", '"""One line', '"""My line')
    before = commit_all(project.folder)
    renew(template)
    result = project.make("update")
    assert result.returncode == 2
    assert "git cherry-pick --continue" in result.stderr
    assert (
        git(project.folder, "diff", "--name-only", "--diff-filter=U") == "hello/endpoints/index.py"
    )
    index = (project.package / "endpoints" / "index.py").read_text()
    marks = ["<" * 7, OWN_TITLE[1], "=" * 7, NEW_TITLE[1], ">" * 7]
    places = [index.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "My line" in (project.package / "routes.py").read_text()
    git(project.folder, "cherry-pick", "--abort")
    assert git(project.folder, "rev-parse", "HEAD") == before
    assert git(project.folder, "status", "--porcelain") == ""


def test_a_merge_that_git_cannot_commit_is_taken_back(project: Project, template: Path) -> None:
    renew(template)
    git(project.folder, "config", "commit.gpgsign", "true")
    git(project.folder, "config", "gpg.program", "false")
    message = f"make update: git -C {project.folder} failed: error: gpg failed to sign the data"
    before = snapshot(project.folder / "hello")
    result = project.make("update")
    assert (result.returncode, message in result.stderr) == (2, True)
    assert snapshot(project.folder / "hello") == before
    assert git(project.folder, "status", "--porcelain") == ""
    git(project.folder, "config", "commit.gpgsign", "false")
    assert "One commit updated" in project.succeed("update")
    assert (project.folder / "COLOUR").exists()


def test_an_update_from_a_git_address_moves_the_runtime_s_pin(
    generate: Callable[..., Project], template: Path
) -> None:
    address = f"file://{template}"
    project = generate(f"git+{address}")
    commit_all(project.folder, init=True)
    first, newest = git(template, "rev-parse", "HEAD"), renew(template)
    assert origin(project)["template"] == address
    makefile = project.folder / "Makefile"
    assert f"{address}@{first}" in makefile.read_text()
    project.succeed("update")
    assert f"{address}@{newest}" in makefile.read_text()
    assert first not in makefile.read_text()


@pytest.mark.parametrize("kind", ["branch", "tag", "commit"])
def test_an_older_version_of_the_template_can_be_requested(
    project: Project, template: Path, kind: str
) -> None:
    wanted = renew(template)
    names = {"branch": "older", "tag": "v1.0", "commit": wanted}
    git(template, "branch", names["branch"])
    git(template, "tag", names["tag"])
    edit(template, f"{SLUG}/COLOUR", "cookiecutter.colour", '"another"')
    commit_all(template)
    project.succeed("update", f"TEMPLATE_VERSION={names[kind]}")
    assert (project.folder / "COLOUR").read_text() == "red\n"
    assert origin(project)["commit"] == wanted


def test_with_an_unknown_version_nothing_is_touched(project: Project, template: Path) -> None:
    renew(template)
    assert refusal(project, "TEMPLATE_VERSION=v1.1") == (
        "make update: the template has no tag, branch or commit v1.1"
    )


def test_without_a_repository_nothing_is_touched(
    generate: Callable[..., Project], template: Path
) -> None:
    project = generate(str(template))
    renew(template)
    assert refusal(project) == (
        "make update: this folder is not in a git repository: run git init and commit all first"
    )


def test_a_project_in_a_repository_of_several_is_merged_and_touches_no_other(
    generate: Callable[..., Project], template: Path, tmp_path: Path
) -> None:
    project = generate(str(template))
    mono = tmp_path / "many projects"
    other = shutil.copytree(project.folder, mono / "other", ignore=shutil.ignore_patterns(".venv"))
    project.folder = project.folder.rename(mono / "the hello")
    git(mono, "init", "--quiet")
    assert refusal(project).splitlines()[-1] == '?? "the hello/"'
    moved = project.folder / "hello" / "first.py"  # what has its old name is another project's
    (project.folder / "hello" / "endpoints" / "index.py").rename(moved)
    edit(other, "hello/endpoints/index.py", *OWN_MESSAGE)
    before = commit_all(mono)
    (other / "README.rst").write_text("not committed\n")
    renew(template)
    git(mono, "add", "other/README.rst")
    assert refusal(project).splitlines()[-1] == "M  other/README.rst"
    git(mono, "reset", "--quiet")
    assert "One commit updated" in project.succeed("update")
    assert git(mono, "rev-parse", "HEAD^") == before
    changed = git(mono, "diff", "--name-only", "HEAD^", "HEAD").splitlines()
    names = [".api-hour.json", "COLOUR", "hello/first.py"]
    assert changed == [f"the hello/{name}" for name in names]
    assert NEW_TITLE[1] in moved.read_text()
    assert (other / "README.rst").read_text() == "not committed\n"


@pytest.mark.parametrize("kind", ["worktree", "submodule"])
def test_a_worktree_and_a_submodule_are_repositories(
    project: Project, template: Path, tmp_path: Path, kind: str
) -> None:
    tools = project.folder / ".venv"
    place = tmp_path / "a place" / "hello"
    if kind == "worktree":
        git(project.folder, "worktree", "add", "--quiet", str(place))
    else:
        (tmp_path / "a place").mkdir()
        git(place.parent, "init", "--quiet")
        local = ("-c", "protocol.file.allow=always")
        git(place.parent, *local, "submodule", "--quiet", "add", str(project.folder), "hello")
    tools.rename(place / ".venv")
    renew(template)
    Project(place, project.environment).succeed("update")
    assert (place / "COLOUR").read_text() == "red\n"
    assert git(place, "status", "--porcelain") == ""


def test_a_folder_that_git_ignores_is_named(
    generate: Callable[..., Project], template: Path, tmp_path: Path
) -> None:
    project = generate(str(template))
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("out/\n")
    renew(template)
    assert refusal(project) == (
        f"make update: the repository {tmp_path} ignores this folder: run git init here, or mend"
        " its .gitignore, and commit all first"
    )


def test_a_template_that_is_gone_is_named(project: Project, template: Path) -> None:
    template.rename(template.with_name("elsewhere"))
    assert refusal(project).splitlines()[-1] == (
        'make update: git cannot get the template: its address is "template" in .api-hour.json'
    )


@pytest.mark.parametrize(
    ("files", "shown"),
    [
        (["hello/routes.py"], [" M hello/routes.py"]),
        (["COLOUR"], ["?? COLOUR"]),
        ("ABCDE", [f"?? {file}" for file in "ABCDE"]),
        ("ABCDEFG", [*(f"?? {file}" for file in "ABCDE"), "and 2 more"]),
    ],
)
def test_with_uncommitted_changes_nothing_is_touched(
    project: Project, template: Path, files: list[str], shown: list[str]
) -> None:
    renew(template)
    for file in files:
        with (project.folder / file).open("a") as changed:
            changed.write("# mine\n")
    said, *lines = refusal(project).splitlines()
    assert said == (
        "make update: there are uncommitted changes: "
        "commit them, or stash them with --include-untracked"
    )
    assert lines == shown


def test_with_an_unknown_commit_nothing_is_touched(project: Project, template: Path) -> None:
    known, unknown = git(template, "rev-parse", "HEAD"), "0123456789" * 4
    edit(project.folder, ".api-hour.json", known, unknown)
    commit_all(project.folder)
    renew(template)
    assert refusal(project) == f"make update: {template} does not have the commit {unknown}"
