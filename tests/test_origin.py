"""A generated project gets the runtime from the template's folder, archive or git address."""

import json
import shutil
import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from testkit.projects import ROOT, bake, git


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a git repository with what cookiecutter needs."""
    folder = tmp_path_factory.mktemp("origin") / "template"
    folder.mkdir()
    shutil.copy(ROOT / "cookiecutter.json", folder)
    for name in ("hooks", "<" + "<cookiecutter.project_slug>>"):
        ignored = shutil.ignore_patterns("__pycache__", ".*_cache")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=Begin")
    git(folder, "tag", "v1")
    return folder


def runtime(project: Path) -> str:
    """Return the value of RUNTIME in the Makefile, as the shell reads it."""
    script = "\nsay:\n\t@printf '%s\\n' $(RUNTIME)\n"
    command = ["make", "--no-print-directory", "--file=Makefile", "--file=-", "say"]
    result = subprocess.run(
        command, cwd=project, input=script, capture_output=True, text=True, check=True
    )
    return result.stdout.removesuffix("\n")


def test_a_local_template_gives_its_folder(tmp_path: Path) -> None:
    assert runtime(bake(tmp_path / "out", ROOT)) == str(ROOT / "runtime")


def test_a_template_named_by_a_relative_path_gives_the_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: Path
) -> None:
    monkeypatch.chdir(template.parent)
    assert runtime(bake(tmp_path / "out", "template")) == str(template / "runtime")
    monkeypatch.chdir(template)
    assert runtime(bake(tmp_path / "again", ".")) == str(template / "runtime")


def test_a_folder_with_a_strange_name_reaches_the_shell_intact(
    tmp_path: Path, template: Path
) -> None:
    strange = tmp_path / 'it\'s a $HOME # of `id` & "more"'
    shutil.copytree(template, strange)
    assert runtime(bake(tmp_path / "out", strange)) == str(strange / "runtime")


def test_a_git_address_is_pinned_to_the_commit_that_was_baked(
    tmp_path: Path, template: Path
) -> None:
    address = f"file://{template}"
    commit = git(template, "rev-parse", "HEAD")
    baked = runtime(bake(tmp_path / "out", f"git+{address}"))
    assert baked == f"git+{address}@{commit}#subdirectory=runtime"


def test_a_requested_checkout_is_pinned_by_its_commit(tmp_path: Path, template: Path) -> None:
    address = f"file://{template}"
    commit = git(template, "rev-parse", "HEAD")
    baked = runtime(bake(tmp_path / "out", f"git+{address}", checkout="v1"))
    assert baked == f"git+{address}@{commit}#subdirectory=runtime"


def test_an_archive_gives_its_own_address(tmp_path: Path, template: Path) -> None:
    archive = tmp_path / "template.zip"
    git(template, "archive", "--prefix=template/", f"--output={archive}", "HEAD")
    baked = runtime(bake(tmp_path / "out", archive))
    assert baked == f"file://{archive}#subdirectory=runtime"


@pytest.mark.parametrize(
    ("origin", "address"),
    [
        ("git@example.org:team/template.git", "ssh://git@example.org/team/template.git"),
        ("https://example.org/template.git", "https://example.org/template.git"),
        ("https://me:TOKEN@example.org/template.git", "https://example.org/template.git"),
        ("https://TOKEN@example.org:8443/template.git", "https://example.org:8443/template.git"),
        ("HTTPS://me:TO@KEN@example.org/template.git", "https://example.org/template.git"),
        ("https://example.org/template.git?token=TOKEN", "https://example.org/template.git"),
        ("ssh://git:TOKEN@example.org/template.git", "ssh://git@example.org/template.git"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_address_is_that_of_the_clone(
    tmp_path: Path, template: Path, origin: str, address: str, packed: bool
) -> None:
    abbreviated = tmp_path / "out.cookiecutters_dir" / "template"
    git(tmp_path, "clone", "--quiet", str(template), str(abbreviated))
    git(abbreviated, "remote", "set-url", "origin", origin)
    if packed:
        git(abbreviated, "pack-refs", "--all")
    commit = git(template, "rev-parse", "HEAD")
    project = bake(tmp_path / "out", "template")
    assert runtime(project) == f"git+{address}@{commit}#subdirectory=runtime"
    written = [path.read_text() for path in project.rglob("*") if path.is_file()]
    assert json.loads((project / ".api-hour.json").read_text())["template"] == address
    assert [text for text in written if "TOKEN" in text or "KEN@" in text] == []


def test_a_token_in_the_address_of_an_archive_is_not_written(
    tmp_path: Path, template: Path
) -> None:
    archive = tmp_path / "served" / "template.zip"
    archive.parent.mkdir()
    git(template, "archive", "--prefix=template/", f"--output={archive}", "HEAD")
    handler = partial(SimpleHTTPRequestHandler, directory=str(archive.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        project = bake(tmp_path / "out", f"http://me:TOKEN@{host}/template.zip")
        server.shutdown()
    assert runtime(project) == f"http://{host}/template.zip#subdirectory=runtime"
    written = [path.read_text() for path in project.rglob("*") if path.is_file()]
    assert [text for text in written if "TOKEN" in text] == []
