"""The CI files of a generated project, and the workflow of this repository."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from testkit.projects import ROOT, Project, bake, git, program

OURS = ROOT / ".github" / "workflows" / "ci.yml"
GITHUB = Path(".github", "workflows", "ci.yml")
GITLAB = Path(".gitlab-ci.yml")
PIN = re.compile(r"[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*")


@pytest.fixture(scope="module", params=["yes", "no"], ids=["container", "no container"])
def github(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the workflow of a project."""
    folder = tmp_path_factory.mktemp("github") / "out"
    return bake(folder, ci="github", container=request.param) / GITHUB


@pytest.fixture(scope="module")
def gitlab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the pipeline of a project."""
    return bake(tmp_path_factory.mktemp("gitlab") / "out", ci="gitlab") / GITLAB


@pytest.mark.parametrize(
    ("ci", "files"), [("github", {GITHUB}), ("gitlab", {GITLAB}), ("none", set())]
)
def test_only_the_chosen_file_exists(tmp_path: Path, ci: str, files: set[Path]) -> None:
    project = bake(tmp_path / "out", ci=ci)
    assert {path for path in (GITHUB, GITLAB) if (project / path).exists()} == files
    assert (project / ".github").exists() == (ci == "github")
    pages = "\n".join(path.read_text() for path in project.rglob("*") if path.is_file())
    assert bool(re.search(r"workflow|pipeline|gitlab", pages, re.IGNORECASE)) == (ci != "none")


def test_zizmor_finds_nothing_in_a_project(github: Path) -> None:
    result = _zizmor(github)
    assert result.returncode == 0, result.stdout


def test_zizmor_finds_nothing_in_this_repository() -> None:
    result = _zizmor(OURS)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        (r"@[0-9a-f]{40} # v[\d.]+", "@v6", "unpinned-uses"),
        (r"permissions:\n  contents: read", "permissions: write-all", "excessive-permissions"),
        ("persist-credentials: false", "fetch-depth: 1", "artipacked"),
    ],
)
def test_zizmor_would_find_it(tmp_path: Path, old: str, new: str, finding: str) -> None:
    text, changes = re.subn(old, new, OURS.read_text())
    workflow = tmp_path / ".github" / "workflows" / "ci.yml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text(text)
    result = _zizmor(workflow)
    assert changes > 0
    assert (result.returncode != 0, finding in result.stdout) == (True, True)


def test_a_project_uses_the_actions_of_this_repository(github: Path) -> None:
    theirs, ours = (re.findall(r"uses: (.+)", path.read_text()) for path in (github, OURS))
    assert theirs
    assert set(theirs) <= set(ours)
    assert [action for action in ours if not PIN.fullmatch(action)] == []


def test_the_verb_of_this_repository_pins_every_workflow() -> None:
    command = ["make", "--dry-run", "pin"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = git(ROOT, "grep", "--files-with-matches", "-E", "^[ -]*uses: ", "*.yml")
    assert files
    assert [file for file in files.splitlines() if file not in said] == []


def test_a_workflow_is_valid_by_github_s_schema(github: Path) -> None:
    result = _check("vendor.github-workflows", github, OURS)
    assert result.returncode == 0, result.stdout


def test_a_pipeline_is_valid_by_gitlab_s_schema(gitlab: Path, tmp_path: Path) -> None:
    result = _check("vendor.gitlab-ci", gitlab)
    assert result.returncode == 0, result.stdout
    wrong = tmp_path / GITLAB
    wrong.write_text(gitlab.read_text().replace("script:", "scripts:"))
    assert _check("vendor.gitlab-ci", wrong).returncode == 1


def test_every_step_is_a_verb_of_the_makefile(github: Path, gitlab: Path) -> None:
    project = github.parents[2]
    verbs = set(re.findall(r"^make (\w+) ", Project(project).succeed("help"), re.MULTILINE))
    jobs = yaml.safe_load(github.read_text())["jobs"].values()
    steps = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    assert yaml.safe_load(gitlab.read_text())["test"]["script"] == ["make check", "make test"]
    assert {"make check", "make test"} <= set(steps) <= {f"make {verb}" for verb in verbs}
    assert ("make image" in steps) == (project / "Dockerfile").exists()


def test_both_test_on_the_python_versions_of_this_repository(github: Path, gitlab: Path) -> None:
    ours = yaml.safe_load(OURS.read_text())["jobs"]["test"]["strategy"]["matrix"]["python"]
    theirs = yaml.safe_load(github.read_text())["jobs"]["test"]["strategy"]["matrix"]["python"]
    (matrix,) = yaml.safe_load(gitlab.read_text())["test"]["parallel"]["matrix"]
    assert ours == theirs == [re.sub(".*python:|-trixie", "", name) for name in matrix["IMAGE"]]


def _zizmor(workflow: Path) -> "subprocess.CompletedProcess[str]":
    command = [program("zizmor"), "--offline", "--persona=pedantic", "--no-progress", str(workflow)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _check(schema: str, *paths: Path) -> "subprocess.CompletedProcess[str]":
    command = [program("check-jsonschema"), "--builtin-schema", schema, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
