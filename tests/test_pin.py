"""`make pin` writes beside each tag what it means, as a registry and a git server tell it."""

import importlib.util
import re
from collections.abc import Iterator
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
SHORTENED = (
    "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2",
    "actions/checkout@v6.0.2",
)


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Serve a registry with the images of a project."""
    with serving() as registry:
        for version in ("3.11", "3.12", "3.13", "3.14"):
            registry.put("library/python", f"{version}-trixie", version.encode())
        registry.put("library/python", "3.13-slim-trixie")
        yield registry


@pytest.fixture
def project(tmp_path: Path, registry: Registry) -> Project:
    """Return a project whose images lie in that registry."""
    project = Project(bake(tmp_path / "out", ci="gitlab"))
    for name in FILES:
        path = project.folder / name
        pattern = r"(docker\.io/library/|(?<=- ))python:"
        text, count = re.subn(pattern, f"{registry.host}/library/python:", path.read_text())
        assert count > 0
        path.write_text(text)
    return project


@pytest.fixture(scope="module")
def pin(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Import the program of a project."""
    path = bake(tmp_path_factory.mktemp("pin") / "out") / "deploy" / "pin.py"
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


def tagged(folder: Path, tag: str, *options: str) -> str:
    """Let the newest commit of a repository have a tag; return that commit."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet")
    for message in ("Tagged", "Newer"):
        git(folder, "commit", "--quiet", "--allow-empty", f"--message={message}")
        if message == "Tagged":
            git(folder, "tag", "--force", f"--message={message}", *options, tag)
    return git(folder, "rev-parse", f"{tag}^{{commit}}")


def uses(project: Project) -> list[str]:
    """Return the actions of the project's workflow."""
    return re.findall(r"- uses: (.+)", (project.folder / WORKFLOW).read_text())


@pytest.fixture
def github(tmp_path: Path) -> dict[str, str]:
    """Return the environment in which git finds GitHub in a folder."""
    key = f"url.{tmp_path}/.insteadOf"
    return {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": key, "GIT_CONFIG_VALUE_0": f"{GITHUB}/"}


def test_every_action_gets_the_commit_of_its_tag(tmp_path: Path, github: dict[str, str]) -> None:
    project = Project(bake(tmp_path / "out", ci="github", container="no"), github)
    checkout = tagged(tmp_path / "actions" / "checkout", "v6.0.2", "--annotate")
    python = tagged(tmp_path / "actions" / "setup-python", "v6.2.0", "--no-sign")
    with project.edited(project.folder / WORKFLOW, *SHORTENED):
        said = project.succeed("pin")
        assert f"actions/checkout v6.0.2 is {checkout}\n" in said
        assert uses(project) == [
            f"actions/checkout@{checkout} # v6.0.2",
            f"actions/setup-python@{python} # v6.2.0",
        ]
        newer = tagged(tmp_path / "actions" / "checkout", "v6.0.2", "--annotate")
        project.succeed("pin")
        assert [use.split()[0] for use in uses(project)] == [
            f"actions/checkout@{newer}",
            f"actions/setup-python@{python}",
        ]


@pytest.mark.parametrize(
    ("tag", "reason"), [("v6.0.3", "has no tag v6.0.2"), ("", "not appear to")]
)
def test_an_action_without_its_tag_changes_nothing(
    tmp_path: Path, github: dict[str, str], tag: str, reason: str
) -> None:
    project = Project(bake(tmp_path / "out", ci="github", container="no"), github)
    before = uses(project)
    if tag:
        tagged(tmp_path / "actions" / "checkout", tag)
    result = project.make("pin")
    assert result.returncode == 2
    assert f"make pin: nothing was changed, because {GITHUB}/actions/checkout " in result.stderr
    assert reason in result.stderr
    assert uses(project) == before


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
