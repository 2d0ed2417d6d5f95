"""A worker's life: engines open first and close last, the chosen loop, a complete exit."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api_hour.logs.rate_limit import MOST
from testkit.processes import API_HOUR, Daemon
from testkit.waiting import TIMEOUT, until

Run = Callable[..., Daemon]

LIFE = """\
import asyncio
from contextlib import asynccontextmanager

from aiohttp import web

import api_hour

KEY = web.AppKey("container", object)


async def index(request):
    container = request.app[KEY]
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    return web.json_response({"engine": container.engine, "ready": container.ready, "loop": loop})


async def slow(request):
    await asyncio.sleep(1)
    return web.json_response({"engine": request.app[KEY].engine})


class Container(api_hour.Container):
    engine = "closed"

    @asynccontextmanager
    async def engines(self):
        print("engine opens", flush=True)
        await asyncio.sleep(0.2)
        self.engine = "open"
        yield
        self.engine = "closed"
        print("engine closed, ready is", self.ready, flush=True)

    def servers(self):
        app = web.Application()
        app[KEY] = self
        app.router.add_get("/", index)
        app.router.add_get("/slow", slow)
        return {"http": api_hour.HTTPServer(app)}
"""


@pytest.fixture
def life(project: Path) -> Path:
    (project / "life.py").write_text(LIFE)
    return project


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_engines_are_open_while_anything_is_served(run: Run, life: Path, loop: str) -> None:
    daemon = run("life:Container", "--loop", loop).ready()
    assert daemon.get() == (200, {"engine": "open", "ready": True, "loop": loop})
    assert daemon.stop() == 0
    log = daemon.output
    assert log.index("engine opens") < log.index("Worker ready")
    assert log.index("Handling signal: term") < log.index("engine closed, ready is False")


def test_a_worker_that_is_sent_term_finishes_and_is_replaced(run: Run) -> None:
    daemon = run().ready()
    first = daemon.workers()[0]
    mark = daemon.mark()
    os.kill(first, signal.SIGTERM)
    daemon.ready(after=mark)
    daemon.wait_for(rf"Worker \(pid: {first}\) left: exit code 0")
    assert daemon.get()[0] == 200
    assert daemon.stop() == 0


EXITS = """\
import asyncio
import sys

from aiohttp import web

import api_hour

KEPT = []  # a loop refers to tasks weakly
WAITING = []
RELEASED = asyncio.Event()


class Stream(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if data == b"exit":
            exit_in_stream()
        self.transport.write(data)


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        if data == b"exit":
            exit_in_datagrams()
        self.transport.sendto(data, peer)


async def wait(request):
    WAITING.append(request)
    await RELEASED.wait()
    return web.json_response("served")


async def waiting(request):
    return web.json_response(len(WAITING))


async def exits(request):
    loop = asyncio.get_running_loop()
    ways = {
        "task": lambda: KEPT.append(loop.create_task(exit_in_task())),
        "call_soon": lambda: loop.call_soon(exit_in_call_soon),
        "call_later": lambda: loop.call_later(0.01, exit_in_call_later),
    }
    ways[request.query["by"]]()
    return web.json_response("made")


async def release(request):
    RELEASED.set()
    return web.json_response("released")


async def exit_in_task():
    sys.exit(3)


def exit_in_call_soon():
    sys.exit(4)


def exit_in_call_later():
    raise KeyboardInterrupt


def exit_in_stream():
    sys.exit(5)


def exit_in_datagrams():
    sys.exit(6)


class Container(api_hour.Container):
    def servers(self):
        app = web.Application()
        for endpoint in (wait, waiting, exits, release):
            app.router.add_get("/" + endpoint.__name__, endpoint)
        http = api_hour.HTTPServer(app)
        streams, datagrams = api_hour.StreamServer(Stream), api_hour.DatagramServer(Datagrams)
        return {"http": http, "stream": streams, "datagrams": datagrams}
"""


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, TIMEOUT)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_an_exit_outside_of_an_endpoint_ends_its_connection_only(
    run: Run, project: Path, loop: str
) -> None:
    (project / "exits.py").write_text(EXITS)
    listen = ("--listen", "stream=tcp://127.0.0.1:0", "--listen", "datagrams=udp://127.0.0.1:0")
    daemon = run("exits:Container", "--loop", loop, *listen).ready()
    with ThreadPoolExecutor() as pool, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        under_way = pool.submit(daemon.get, "/wait")
        until(lambda: daemon.get("/waiting") == (200, 1), "the request has not come")
        where = "127.0.0.1", daemon.port("stream")
        with connect(where) as kept, connect(where) as ends:
            ends.sendall(b"exit")
            assert ends.recv(100) == b""
            for way in ("task", "call_soon", "call_later"):
                assert daemon.get(f"/exits?by={way}") == (200, "made")
                daemon.wait_for(rf"line \d+, in exit_in_{way}$")
            port = daemon.wait_for(r"Listening on datagrams at udp://127.0.0.1:(\d+)")[1]
            datagrams.connect(("127.0.0.1", int(port)))
            datagrams.settimeout(TIMEOUT)
            for count in range(1, MOST + 3):
                for data in (b"exit", b"still read"):
                    datagrams.send(data)
                assert datagrams.recv(100) == b"still read"
                # A loop tells only one of those that come in one turn of it.
                daemon.wait_for(r"\[ERROR\].*SystemExit\(6\)", count=count)
            kept.sendall(b"still served")
            assert kept.recv(100) == b"still served"
            for protocol in ("stream", "datagrams"):
                daemon.wait_for(rf"line \d+, in exit_in_{protocol}$")
        assert daemon.get("/release") == (200, "released")
        assert under_way.result() == (200, "served")
    assert daemon.output.count("Booting worker") == 1
    assert daemon.output.count("[ERROR]") == 4 + MOST + 2
    assert len(re.findall(r"line \d+, in exit_in_datagrams", daemon.output)) == MOST
    assert daemon.stop() == 0


def test_workers_leave_when_their_master_is_killed(run: Run) -> None:
    daemon = run("hello:Container", "--workers", "2").ready(2)
    daemon.process.kill()
    daemon.wait()


def test_a_worker_that_cannot_become_ready_ends_the_first_start(run: Run, project: Path) -> None:
    (project / "hang.py").write_text(
        "import time\n\n\ndef connect():\n    time.sleep(600)\n\n\nconnect()\n"
    )
    daemon = run("hang:Container", "--boot-timeout", "3")
    assert daemon.wait() == 1
    daemon.wait_for(
        r"\[CRITICAL\] .*it was not ready in time \(boot_timeout: 3 s\) while importing "
        r"hang:Container, at hang.py:5 in connect"
    )
    assert "Where the worker's threads stood" in daemon.output


@pytest.mark.parametrize(
    ("phase", "method"),
    [
        ("calling the hook post_fork", "hook"),
        ("opening the engines", "engines"),
    ],
)
def test_a_boot_timeout_says_what_the_worker_did(
    run: Run, project: Path, phase: str, method: str
) -> None:
    bodies = {
        "engines": "@asynccontextmanager\n    async def engines(self):\n"
        "        await asyncio.sleep(600)\n        yield",
        "hook": "pass",
    }
    if method == "hook":
        etc = project / "etc" / "hang"
        etc.mkdir(parents=True)
        hook = "import time\n\n\ndef post_fork(master, worker):\n    time.sleep(600)\n"
        (etc / "gunicorn.conf.py").write_text(hook)
    (project / "hang.py").write_text(
        "import asyncio\nfrom contextlib import asynccontextmanager\nimport api_hour\n\n"
        f"class Container(api_hour.Container):\n    {bodies[method]}\n"
    )
    daemon = run("hang:Container", "--boot-timeout", "3")
    assert daemon.wait() == 1
    place = r", at etc/hang/gunicorn\.conf\.py:5 in post_fork" if method == "hook" else ""
    daemon.wait_for(rf"not ready in time \(boot_timeout: 3 s\) while {phase}{place}$")


def test_a_process_that_just_ends_says_what_it_did(run: Run, project: Path) -> None:
    (project / "gone.py").write_text("import os\nos._exit(0)\n")
    daemon = run("gone:Container")
    assert daemon.wait() == 1
    daemon.wait_for(r"\[CRITICAL\] .*it ended while importing gone:Container: exit code 0$")


def test_term_during_a_hanging_reload_ends_everything(run: Run, project: Path) -> None:
    daemon = run().ready()
    code = (project / "hello.py").read_text()
    (project / "hello.py").write_text("import time\ntime.sleep(600)\n" + code)
    mark = daemon.mark()
    daemon.send(signal.SIGHUP)
    daemon.wait_for("Booting worker", after=mark)
    until(lambda: len(daemon.workers()) == 2, "no second worker")
    assert daemon.get()[0] == 200
    assert daemon.stop() == 0


def test_what_the_project_logs_stands_in_the_daemons_log(run: Run, project: Path) -> None:
    code = (project / "hello.py").read_text()
    noisy = "import logging\n\nlogging.getLogger('hello').info('imported')\n"
    (project / "hello.py").write_text(noisy + code)
    run().wait_for(r"\[INFO\] \[hello\] imported")


def test_a_read_only_root_needs_one_folder_for_heartbeats(project: Path) -> None:
    script = 'mount --bind / / && mount -o remount,ro,bind / && exec "$@"'
    read_only = ("unshare", "--mount", "sh", "-c", script, "sh")
    if subprocess.run([*read_only, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare may not remount the root here")
    arguments = ("--worker-tmp-dir", "/dev/shm", "--listen", "http=tcp://127.0.0.1:0")  # noqa: S108
    with Daemon(project, "hello:Container", *arguments, command=(*read_only, *API_HOUR)) as daemon:
        daemon.ready()
        mark = daemon.mark()
        daemon.send(signal.SIGHUP)
        daemon.ready(after=mark)
        assert daemon.get()[0] == 200
        assert daemon.stop() == 0


def test_a_folder_for_heartbeats_that_was_removed_is_told_and_taken_again(
    run: Run, project: Path
) -> None:
    folder = project / "heartbeats"
    folder.mkdir()
    daemon = run("hello:Container", "--worker-tmp-dir", str(folder)).ready()
    umask = umask_of(daemon.pid)
    folder.rmdir()
    mark = daemon.mark()
    os.kill(daemon.workers()[0], signal.SIGKILL)
    daemon.wait_for(f"cannot start a worker: .*No such file.*{folder}.*; next in", after=mark)
    folder.mkdir()
    daemon.ready(after=mark)
    assert umask_of(daemon.pid) == umask
    assert daemon.stop() == 0


def umask_of(pid: int) -> str:
    """Return the umask of a process, which decides whether others may write to its files."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(line for line in status.splitlines() if line.startswith("Umask:"))
