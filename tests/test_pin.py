"""`make pin` writes beside each tag what it means, as a registry and a git server tell it."""

import importlib.util
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from testkit.ports import free_port
from testkit.projects import Project, bake, git
from testkit.registry import Registry, serving

FILES = ("Dockerfile", ".gitlab-ci.yml")
WORKFLOW = ".github/workflows/ci.yml"
GITHUB = "https://github.com"


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Serve a registry with the images of a project."""
    with serving() as registry:
        for version in ("3.11", "3.12", "3.13", "3.14"):
            registry.put("library/python", f"{version}-trixie", version.encode())
        registry.put("library/python", "3.13-slim-trixie")
        yield registry


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bake a project of each CI; tests take copies."""
    folder = tmp_path_factory.mktemp("baked")
    return {
        "gitlab": bake(folder / "gitlab", ci="gitlab"),
        "github": bake(folder / "github", ci="github", container="no"),
    }


@pytest.fixture
def project(tmp_path: Path, baked: dict[str, Path], registry: Registry) -> Project:
    """Return a project whose images lie in that registry."""
    project = Project(shutil.copytree(baked["gitlab"], tmp_path / "hello"))
    for name in FILES:
        path = project.folder / name
        pattern = r"(docker\.io/library/|(?<=- ))python:"
        text, count = re.subn(pattern, f"{registry.host}/library/python:", path.read_text())
        assert count > 0
        path.write_text(text)
    return project


@pytest.fixture(scope="module")
def pin(baked: dict[str, Path]) -> ModuleType:
    """Import the program of a project."""
    path = baked["gitlab"] / "deploy" / "pin.py"
    spec = importlib.util.spec_from_file_location("pin", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def texts(project: Project) -> list[str]:
    """Return the files that name images."""
    return [(project.folder / name).read_text() for name in FILES]


@pytest.mark.parametrize("scope", ["", "repository:library/python:pull"])
def test_every_image_gets_its_digest_beside_its_tag(
    project: Project, registry: Registry, scope: str
) -> None:
    registry.scope = scope
    before = texts(project)
    said = project.succeed("pin")
    dockerfile, pipeline = texts(project)
    digest = registry.put("library/python", "3.13-slim-trixie")
    image = f"{registry.host}/library/python:3.13-slim-trixie"
    assert f"FROM {image}@{digest} AS base\n" in dockerfile
    assert f"{image} is {digest}\n" in said
    (matrix,) = yaml.safe_load(pipeline)["test"]["parallel"]["matrix"]
    assert [re.fullmatch(r"\S+:3\.1\d-trixie@sha256:\w{64}", name) for name in matrix["IMAGE"]]
    assert len({name.partition("@")[2] for name in matrix["IMAGE"]}) == 4
    assert [re.sub("@sha256:.{64}", "", text) for text in (dockerfile, pipeline)] == before


def test_a_digest_is_renewed_when_its_tag_has_moved(project: Project, registry: Registry) -> None:
    project.succeed("pin")
    old, kept = texts(project)
    moved = registry.put("library/python", "3.13-slim-trixie", b'{"newer": true}')
    project.succeed("pin")
    new, pipeline = texts(project)
    assert moved in new
    assert moved not in old
    assert re.sub("@sha256:.{64}", "", new) == re.sub("@sha256:.{64}", "", old)
    assert pipeline == kept


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("closed", "Connection refused"),
        ("unknown", "404"),
        ("page", "the answer is text/html, not a manifest"),
        ("login", "401"),
    ],
)
def test_without_an_answer_nothing_is_changed(
    project: Project, registry: Registry, fault: str, reason: str
) -> None:
    host = registry.host
    if fault == "closed":
        host = f"127.0.0.1:{free_port()}"
        for name in FILES:
            path = project.folder / name
            path.write_text(path.read_text().replace(registry.host, host))
    elif fault == "unknown":
        registry.content.clear()
    elif fault == "page":
        for name in registry.content:
            registry.content[name] = ("text/html", b"<html>Log in to this network</html>")
    else:
        registry.scope = 'never"'  # the token is for another
    before = texts(project)
    result = project.make("pin")
    assert result.returncode == 2
    line = result.stderr.splitlines()[0]
    image = f"{host}/library/python:3.13-slim-trixie"
    url = f"http://{host}/v2/library/python/manifests/3.13-slim-trixie"
    start = f"make pin: nothing was changed, because {url} does not tell the digest of {image}: "
    assert line.startswith(start)
    assert reason in line
    assert line.endswith(f"or write the digest yourself, as in {image}@sha256:...")
    assert texts(project) == before


def test_an_image_is_built_from_a_pinned_one_only(
    project: Project, registry: Registry, tmp_path: Path
) -> None:
    builder = tmp_path / "docker"
    builder.write_text("#!/bin/sh\n")
    builder.chmod(0o755)
    registry.content.clear()
    result = project.make("image", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert result.returncode == 2
    assert "make pin: nothing was changed" in result.stderr
    assert not (project.folder / ".venv").exists()


@dataclass
class Action:
    """A repository on GitHub with a tag that a project uses."""

    folder: Path
    name: str
    tag: str

    def move_tag(self, *options: str) -> str:
        """Let the tag name a new commit, which is not the newest; return it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        git(self.folder, "init", "--quiet")
        git(self.folder, "commit", "--quiet", "--allow-empty", "--message=Tagged")
        git(self.folder, "tag", "--force", *options, self.tag)
        git(self.folder, "commit", "--quiet", "--allow-empty", "--message=Newer")
        return git(self.folder, "rev-parse", "HEAD~1")


@pytest.fixture
def acting(tmp_path: Path, baked: dict[str, Path]) -> Project:
    """Return a project with actions, whose git finds GitHub in the folder of the test."""
    key = f"url.{tmp_path}/.insteadOf"
    return Project(
        shutil.copytree(baked["github"], tmp_path / "hello"),
        {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": key, "GIT_CONFIG_VALUE_0": f"{GITHUB}/"},
    )


@pytest.fixture
def actions(tmp_path: Path, acting: Project) -> tuple[Action, Action]:
    """Return the actions that this project uses; their repositories do not exist yet."""
    used = [use.replace("@", " ").split() for use in uses(acting)]
    first, second = (Action(tmp_path / name, name, tag) for name, _, _, tag in used)
    return first, second


def uses(project: Project) -> list[str]:
    """Return what the project's workflow says of its actions."""
    return re.findall(r"- uses: (.+)", (project.folder / WORKFLOW).read_text())


def test_every_action_gets_the_commit_of_its_tag(
    acting: Project, actions: tuple[Action, Action]
) -> None:
    first, second = actions
    workflow = acting.folder / WORKFLOW
    workflow.write_text(re.sub(r"@[0-9a-f]{40} # ", "@", workflow.read_text(), count=1))
    assert uses(acting)[0] == f"{first.name}@{first.tag}"
    commits = [first.move_tag("--annotate", "--message=New"), second.move_tag()]
    said = acting.succeed("pin")
    assert f"{first.name} {first.tag} is {commits[0]}\n" in said
    names = [f"{action.name}@{{}} # {action.tag}" for action in actions]
    assert uses(acting) == [
        name.format(commit) for name, commit in zip(names, commits, strict=True)
    ]
    commits = [first.move_tag("--annotate", "--message=Newer"), commits[1]]
    acting.succeed("pin")
    assert uses(acting) == [
        name.format(commit) for name, commit in zip(names, commits, strict=True)
    ]


@pytest.mark.parametrize("fault", ["has no tag", "does not tell the commit of"])
def test_an_action_without_its_tag_changes_nothing(
    acting: Project, actions: tuple[Action, Action], fault: str
) -> None:
    before = uses(acting)
    if fault == "has no tag":
        replace(actions[0], tag="another").move_tag()
    result = acting.make("pin")
    assert result.returncode == 2
    url, tag = f"{GITHUB}/{actions[0].name}", actions[0].tag
    assert f"make pin: nothing was changed, because {url} {fault} {tag}" in result.stderr
    assert uses(acting) == before


@pytest.mark.parametrize(
    ("image", "url"),
    [
        ("python:3.13", "https://registry-1.docker.io/v2/library/python/manifests/3.13"),
        ("org/name:1", "https://registry-1.docker.io/v2/org/name/manifests/1"),
        ("docker.io/library/a:1", "https://registry-1.docker.io/v2/library/a/manifests/1"),
        ("registry.example.org/a/b:1", "https://registry.example.org/v2/a/b/manifests/1"),
        ("example.org:5000/b:1", "https://example.org:5000/v2/b/manifests/1"),
        ("localhost:5000/b:1", "http://localhost:5000/v2/b/manifests/1"),
        ("localhost.example.org/b:1", "https://localhost.example.org/v2/b/manifests/1"),
    ],
)
def test_a_name_leads_to_its_registry(pin: ModuleType, image: str, url: str) -> None:
    assert pin.manifest_url(image) == url


def test_only_images_with_a_tag_are_pinned(pin: ModuleType) -> None:
    text = """\
FROM --platform=linux/amd64 example.org:5000/a/b:1.2@sha256:0123 AS base
FROM base AS build
FROM scratch
FROM ${OTHER}:1
  image: python:3.13
    - postgres:18
  image: $IMAGE
  - if: $CI_COMMIT_BRANCH
  script:
    - make check
"""
    found = [image for _, image, _ in pin.IMAGE.findall(text)]
    assert found == ["example.org:5000/a/b:1.2", "python:3.13", "postgres:18"]


def test_only_actions_with_a_tag_are_pinned(pin: ModuleType) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    text = f"""\
      - uses: a/b@v6
        uses: c/d/e@{commit} # v1.2.3
      - uses: f/g@{commit} # 2.0 - why
      - uses: h/i@{commit}
      - uses: j/k@{commit} # because
      - uses: l/m@main
      - uses: ./local
      - uses: docker://alpine:3.8
"""
    found = [(action, tag) for _, action, tag in pin.ACTION.findall(text)]
    assert found == [("a/b", "v6"), ("c/d/e", "v1.2.3"), ("f/g", "2.0")]
