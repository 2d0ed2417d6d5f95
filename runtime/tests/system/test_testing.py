"""The pytest plugin in runs of pytest, and the daemon that it starts."""

import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from api_hour import testing
from testkit.processes import Program, session
from testkit.waiting import TIMEOUT, until

PROJECT = """\
[tool.pytest]
filterwarnings = ["error"]
strict = true
api_hour_migrate = ["sh", "-c", "echo $DATABASE_URL >> urls; exit {code}"]
"""
CONFTEST = """\
import pytest
from aiohttp import web
import api_hour
from api_hour import testing

pytest_plugins = ["api_hour.testing"]


async def index(request):
    return api_hour.JSON({"hello": 1})


@pytest.fixture
async def client():
    app = web.Application()
    app.router.add_get("/", index)
    async with testing.client(app) as client:
        yield client
"""
TESTS = """\
from pathlib import Path
import pytest
from api_hour import testing

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture
def daemon(tmp_path):
    with testing.daemon("hello:Container") as daemon:
        yield daemon


async def test_asynchronous_fixtures(client):
    assert (await client.get("/")).json() == {"hello": 1}


@pytest.mark.parametrize("number", [1, 2])
def test_database(database, number):
    assert Path("urls").read_text() == database.url + "\\n"


def test_daemon(daemon):
    assert daemon.get("/").json()["message"] == "fails"
"""
FOREVER = """\
import sys
import time
from api_hour import testing


def test_forever():
    with testing.daemon("hello:Container") as daemon:
        print("PID", daemon.process.pid, file=sys.__stderr__, flush=True)
        time.sleep(600)
"""
BROKEN = "raise RuntimeError('no container today')\n"


ECHO = """\
import asyncio
import os
from aiohttp import web
import api_hour


async def echo(request):
    seen = f"{request.headers.get('X-Seen')} {request.content_type}"
    headers = {"X-Greeting": f"{os.environ['GREETING']} {seen}"}
    return web.Response(body=await request.read(), status=201, headers=headers)


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


class Container(api_hour.Container):
    def servers(self):
        apps = [web.Application(), web.Application()]
        for app in apps:
            app.router.add_post("/", echo)
        http, admin = map(api_hour.HTTPServer, apps)
        return {"http": http, "admin": admin, "echo": api_hour.DatagramServer(Echo)}
"""


def started(folder: Path, text: str, *, code: int = 0) -> Program:
    """Start pytest on a project with one module of tests."""
    (folder / "pyproject.toml").write_text(PROJECT.format(code=code))
    (folder / "tests").mkdir()
    (folder / "tests" / "conftest.py").write_text(CONFTEST)
    (folder / "tests" / "test_it.py").write_text(text)
    options = ["-p", "no:cacheprovider", "--capture=sys", f"--basetemp={folder / 'temporary'}"]
    return Program(sys.executable, "-m", "pytest", *options, folder=folder)


def test_a_project_uses_the_plugin_and_a_failure_shows_the_daemons_output(project: Path) -> None:
    with started(project, TESTS) as run:
        assert run.wait() == 1
        assert re.search("1 failed, 3 passed in ", run.lines[-1])
        assert "AssertionError: assert 'first' == 'fails'" in run.output
        shown = run.output.partition("- Captured stdout teardown -")[2]
        assert "Worker ready (pid: " in shown
        assert "Shutting down: Master" in shown


def test_migrations_that_fail_end_the_run(project: Path) -> None:
    with started(project, TESTS, code=3) as run:
        assert run.wait() == 1
        assert "Exit: api_hour_migrate: `sh -c echo $DATABASE_URL" in run.output
        assert " ended with 3:" in run.output


def test_kill_9_of_pytest_ends_the_daemon(project: Path) -> None:
    with started(project, FOREVER) as run:
        daemon = int(run.wait_for(r"PID (\d+)")[1])
        assert len(session(daemon)) == 2
        run.kill()
        try:
            until(lambda: not session(daemon), "the daemon was left behind")
        finally:
            for pid in session(daemon):
                os.kill(pid, signal.SIGKILL)


def test_a_daemon_that_does_not_start_shows_why(project: Path) -> None:
    (project / "hello.py").write_text(BROKEN)
    with (
        pytest.raises(AssertionError, match=r"before it was ready:\n(?s:.*)no container today"),
        testing.daemon("hello:Container", folder=project),
    ):
        raise AssertionError("unreachable")


def test_a_daemon_that_does_not_end_well_fails_its_test_and_is_gone(project: Path) -> None:
    leaders = []

    def lose_the_master() -> None:
        with testing.daemon("hello:Container", folder=project) as daemon:
            leaders.append(daemon.process.pid)
            daemon.process.kill()

    with pytest.raises(AssertionError, match=r"the daemon ended with -9:\n(?s:.*)Worker ready"):
        lose_the_master()
    until(lambda: not session(leaders[0]), "a process was left behind")


def test_a_daemon_takes_requests_arguments_and_variables(project: Path) -> None:
    (project / "echo.py").write_text(ECHO)
    with testing.daemon(
        "echo:Container",
        ["http", "admin"],
        datagram=["echo"],
        arguments=["--workers", "2"],
        folder=project,
        variables={"GREETING": "hello"},
    ) as daemon:
        answer = daemon.request("POST", "/", "admin", json={"a": 1}, headers={"X-Seen": "yes"})
        assert answer.status == 201
        assert answer.headers["x-greeting"] == "hello yes application/json"
        assert answer.json() == {"a": 1}
        assert daemon.request("POST", "/", body=b"raw").body == b"raw"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(("127.0.0.1", daemon.ports["echo"]))
            sock.send(b"hello")
            assert sock.recv(9) == b"hello"
        leader = daemon.process.pid
    assert not session(leader)
