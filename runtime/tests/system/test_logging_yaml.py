"""``logging.yaml`` decides what a real daemon logs; a mistake in it never ends a running one."""

import json
import os
import re
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.tests.logging_file import FILE
from testkit.log_lines import HEAD
from testkit.processes import Daemon
from testkit.waiting import TIMEOUT, until

Run = Callable[..., Daemon]

ENDPOINTS = """\
import logging

from aiohttp import web

import api_hour

log = logging.getLogger("hello.endpoints")


async def index(request):
    log.debug("only at DEBUG")
    log.info("from %s", request.headers.get("User-Agent"), extra={"user": 7})
    return api_hour.JSON({})


async def fail(request):
    raise ValueError(request.headers["User-Agent"])


class Container(api_hour.Container):
    def servers(self):
        app = web.Application()
        app.router.add_get("/", index)
        app.router.add_get("/fail", fail)
        return {"http": api_hour.HTTPServer(app)}
"""


UNKNOWN_FORM = FILE.replace("formatter: !env LOG_FORMAT:text", "formatter: jsn")
UNKNOWN_FORM_ERROR = (
    "etc/hello/logging.yaml:5: handlers.console.formatter must be 'text' or 'json', got 'jsn'"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the folder of a project with a ``logging.yaml``."""
    (tmp_path / "hello.py").write_text(ENDPOINTS)
    (tmp_path / "etc" / "hello").mkdir(parents=True)
    write(tmp_path, FILE)
    return tmp_path


def write(project: Path, text: str) -> None:
    (project / "etc" / "hello" / "logging.yaml").write_text(text)


def reload(daemon: Daemon) -> int:
    """Send HUP and wait for the end of the reload; return the place in the log before it."""
    mark = daemon.mark()
    old = daemon.workers()
    daemon.send(signal.SIGHUP)
    daemon.wait_for("Reloaded: ", after=mark)
    for pid in old:
        daemon.wait_for(rf"Worker \(pid: {pid}\) left", after=mark)
    return mark


def send(daemon: Daemon, request: bytes) -> bytes:
    """Send raw bytes that no HTTP client would send; return the first bytes of the answer."""
    with socket.create_connection(("127.0.0.1", daemon.port()), timeout=30) as sock:
        sock.sendall(request)
        return sock.recv(64)


def test_a_mistake_prevents_the_start(project: Path, run: Run) -> None:
    write(project, UNKNOWN_FORM)
    daemon = run()
    assert daemon.wait() == 1
    expected = f"api_hour: error: {UNKNOWN_FORM_ERROR}"
    assert [line[: len(expected)] for line in daemon.lines] == [expected]


@pytest.mark.parametrize("option", ["--log-level=debug", "--access-logfile=-"])
def test_a_setting_beside_the_file_is_refused(run: Run, option: str) -> None:
    daemon = run("hello:Container", option)
    assert daemon.wait() == 1
    assert "cannot be set: logging.yaml, beside main.yaml, configures the logs" in daemon.output


def test_master_and_worker_write_in_the_form_of_the_switch(run: Run) -> None:
    daemon = run("hello:Container", LOG_FORMAT="json").ready()
    assert daemon.get()[0] == 200
    daemon.wait_for('"logger":"gunicorn.access"')
    assert daemon.stop() == 0
    lines = [json.loads(line) for line in daemon.lines]
    mine = next(line for line in lines if line["logger"] == "hello.endpoints")
    access = next(line for line in lines if line["logger"] == "gunicorn.access")
    assert (mine["level"], mine["user"]) == ("INFO", 7)
    assert (access["method"], access["path"], access["status"]) == ("GET", "/", 200)
    assert 0 < access["seconds"] < TIMEOUT
    assert access["pid"] == mine["pid"] != daemon.process.pid
    assert daemon.process.pid in {line["pid"] for line in lines}


def test_hup_reads_the_file_again(project: Path, run: Run) -> None:
    daemon = run().ready()
    daemon.get()
    daemon.wait_for(HEAD + "from ")
    daemon.wait_for(
        r'\[gunicorn\.access\] 127\.0\.0\.1 "GET / HTTP/1\.1" 200 \d+ 0\.\d{6} "-" "-"$'
    )
    assert "only at DEBUG" not in daemon.output
    write(project, FILE + "  hello:\n    level: DEBUG\n")
    mark = reload(daemon)
    daemon.get()
    daemon.wait_for("only at DEBUG", after=mark)
    daemon.wait_for("gunicorn.access", after=mark)  # the last line of this worker
    write(project, FILE.replace("LOG_FORMAT:text", "LOG_FORMAT:json"))
    mark = reload(daemon)
    daemon.get()
    assert daemon.stop() == 0
    since = next(at for at, line in enumerate(daemon.lines) if at >= mark and "Reloaded: " in line)
    lines = [json.loads(line) for line in daemon.lines[since:]]
    assert "from " in "".join(line["message"] for line in lines)
    assert "DEBUG" not in {line["level"] for line in lines}


def test_without_the_file_a_reload_returns_to_the_text_form(project: Path, run: Run) -> None:
    daemon = run("hello:Container", LOG_FORMAT="json").ready()
    (project / "etc" / "hello" / "logging.yaml").unlink()
    mark = reload(daemon)
    ready = daemon.wait_for(HEAD + "Reloaded: ", after=mark)
    daemon.get()
    daemon.wait_for(HEAD + "from ", after=mark)
    assert daemon.stop() == 0
    at = daemon.lines.index(ready.string)
    assert [line for line in daemon.lines[at:] if not re.match(HEAD, line)] == []
    assert len(set(daemon.lines[at:])) == len(daemon.lines[at:])
    assert "gunicorn.access" not in "".join(daemon.lines[at:])


def test_a_broken_file_leaves_the_workers_serving(project: Path, run: Run) -> None:
    daemon = run().ready()
    before = daemon.get()
    write(project, UNKNOWN_FORM)
    mark = daemon.mark()
    workers = daemon.workers()
    daemon.send(signal.SIGHUP)
    daemon.wait_for(
        r"\[ERROR\] .*the running workers stay: " + re.escape(UNKNOWN_FORM_ERROR), after=mark
    )
    assert daemon.get() == before
    assert daemon.workers() == workers
    write(project, FILE)
    reload(daemon)
    assert daemon.stop() == 0


def test_a_reload_opens_nothing_that_stays_open(run: Run) -> None:
    daemon = run().ready()
    reload(daemon)
    descriptors = Path(f"/proc/{daemon.process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    for _ in range(3):
        reload(daemon)
    until(lambda: len(list(descriptors.iterdir())) <= before, "the master holds more than before")


def test_a_handler_that_breaks_does_not_stop_a_new_worker(project: Path, run: Run) -> None:
    (project / "logs").mkdir()
    handler = "logging.FileHandler\n    filename: logs/hello.log"
    write(project, FILE.replace("api_hour.logs.NonBlockingHandler", handler))
    daemon = run("hello:Container", "--bind", "127.0.0.1:0")
    log = project / "logs" / "hello.log"
    until(lambda: log.exists() and "Worker ready" in log.read_text(), "no worker became ready")
    (pid,) = re.findall(r"Worker ready \(pid: (\d+)", log.read_text())
    shutil.rmtree(project / "logs")
    os.kill(int(pid), signal.SIGKILL)
    daemon.wait_for(HEAD + r"logging\.yaml cannot be applied: handlers\.console: FileNotFoundError")


def test_the_access_log_obeys_the_level_of_its_logger(project: Path, run: Run) -> None:
    write(project, FILE.replace("    level: INFO", "    level: WARNING"))
    daemon = run().ready()
    daemon.get()
    daemon.wait_for("hello.endpoints")
    assert daemon.stop() == 0
    assert "gunicorn.access" not in daemon.output


def test_in_development_there_is_no_access_log(run: Run) -> None:
    daemon = run("hello:Container", "--reload").ready()
    daemon.get()
    daemon.wait_for("hello.endpoints")
    assert daemon.stop() == 0
    assert "gunicorn.access" not in daemon.output


@pytest.mark.parametrize("path", ["/", "/fail"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_every_line_of_a_request_has_its_id(run: Run, form: str, path: str) -> None:
    daemon = run("hello:Container", "--request-ids", LOG_FORMAT=form).ready()
    end = b" HTTP/1.1\r\nHost: x\r\nUser-Agent: x\r\nConnection: close\r\n"
    mark = daemon.mark()
    send(daemon, b"GET " + path.encode() + end + b"X-Request-ID: client-7\r\n\r\n")
    daemon.wait_for(r"gunicorn\.access.*client-7", after=mark)
    send(daemon, b"GET " + path.encode() + end + b"X-Request-ID: a\xc2\x9bb\r\n\r\n")
    daemon.wait_for("gunicorn.access", count=2, after=mark)
    assert daemon.stop() == 0
    begun = r"\[client-7\] " if form == "text" else '"request_id":"client-7"'
    of_worker = [line for line in daemon.lines[mark:] if re.search("hello|aiohttp|access", line)]
    lines = [line for line in of_worker if re.match(HEAD if form == "text" else "{", line)]
    assert [bool(re.search(begun, line)) for line in lines] == [True, True, False, False]


END = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
HOSTILE = {
    "a header that is let through": (
        b"GET /" + END + b"User-Agent: a\tb\x80\xff\xc2\x9b3\xe2\x80\xae\r\n\r\n",
        200,
    ),
    "an endpoint that fails": (
        b"GET /fail" + END + b"User-Agent: a\tb\xc2\x85\xe2\x80\xa8\r\n\r\n",
        500,
    ),
    "an escape in a header": (b"GET /" + END + b"User-Agent: a\x1b[31m\r\n\r\n", 400),
    "a lone return in a header": (b"GET /" + END + b"User-Agent: a\r[1] [INFO] b\r\n\r\n", 400),
    "an escape in the path": (b"GET /\x1b[31m\x07" + END + b"\r\n", 400),
    "an escape in the method": (b"G\x1bT /" + END + b"\r\n", 400),
    "line ends in the query": (b"GET /?a=%0d%0a[1]%1b" + END + b"\r\n", 200),
    "a referer": (b"GET /" + END + b"Referer: \xc2\x9b31m\xff\r\n\r\n", 200),
}


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_byte_of_a_client_can_garble_or_forge_a_line(run: Run, form: str) -> None:
    daemon = run("hello:Container", LOG_FORMAT=form).ready()
    for number, (request, status) in enumerate(HOSTILE.values(), 1):
        assert send(daemon, request).split()[1] == str(status).encode()
        daemon.wait_for("gunicorn.access", count=number)
    assert daemon.stop() == 0
    if form == "json":
        assert [line for line in daemon.lines if not line.isascii() or not json.loads(line)] == []
    assert [line for line in daemon.lines if not line.isprintable()] == []
    begun = [line for line in daemon.lines if re.match(HEAD if form == "text" else "{", line)]
    assert len(begun) > 2 * len(HOSTILE)
    assert [line for line in daemon.lines if line not in begun and line[:4] != "    "] == []


def test_a_worker_that_boots_while_files_are_rotated_writes_the_new_one(
    project: Path, run: Run
) -> None:
    log, imports, switch = (project / name for name in ("app.log", "imports", "switch"))
    wait = f"""import os, time
open({str(imports)!r}, "w").close()
while not os.path.exists({str(switch)!r}):
    time.sleep(0.01)
"""
    (project / "hello.py").write_text(wait + ENDPOINTS)
    file = f"  file:\n    class: logging.FileHandler\n    filename: {log}\n"
    text = FILE.replace("formatters:\n", f"{file}formatters:\n").replace(
        "[console]", "[console, file]"
    )
    write(project, text)
    daemon = run("hello:Container")
    until(imports.exists, "no worker boots")
    log.rename(project / "app.log.1")
    daemon.send(signal.SIGUSR1)
    until(log.exists, "the master has not opened its file again")
    switch.touch()
    assert daemon.ready().get()[0] == 200
    until(lambda: "from None" in log.read_text(), "the worker writes the old file")
    assert daemon.stop() == 0
