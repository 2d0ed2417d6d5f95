"""Children that a project forks in a worker keep none of its connections, listeners and signals."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from testkit.processes import Daemon, session, tcp_sockets
from testkit.waiting import TIMEOUT, until

FLOODED = """\
import logging
import os

from api_hour.logs import rate_limit

rate_limit.limit("flooded")
for _ in range(20):
    logging.getLogger("flooded").warning("before")
print(rate_limit.counts["flooded"], flush=True)
if os.fork() == 0:
    os._exit((rate_limit.counts, rate_limit._periods) != ({}, {}))
os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""

POOL = """\
import asyncio
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context

from aiohttp import web

import api_hour


def leave_on_term():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


POOL = ProcessPoolExecutor(1, mp_context=get_context("fork"), initializer=leave_on_term)


async def index(request):
    return web.json_response({"pid": os.getpid()})


async def child(request):
    loop = asyncio.get_running_loop()
    pid = await loop.run_in_executor(POOL, os.getpid)
    loop.run_in_executor(POOL, time.sleep, 600)
    return web.json_response({"pid": pid})


class Container(api_hour.Container):
    def servers(self):
        app = web.Application()
        app.router.add_get("/", index)
        app.router.add_get("/child", child)
        return {"http": api_hour.HTTPServer(app)}
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_process_pool_holds_nothing_that_the_worker_serves(
    project: Path, run: Callable[..., Daemon], loop: str
) -> None:
    (project / "pooled.py").write_text(POOL)
    daemon = run("pooled:Container", "--loop", loop).ready()
    worker = daemon.workers()[0]
    with socket.create_connection(("127.0.0.1", daemon.port()), TIMEOUT) as client:
        client.sendall(b"GET /child HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))  # up to the end of the connection
    child = int(answer.rpartition(b": ")[2].strip(b"}"))
    assert child in session(daemon.pid)
    assert tcp_sockets(worker) & tcp_sockets(child) == set()

    os.kill(child, signal.SIGTERM)
    until(lambda: child not in session(daemon.pid), "the child does not obey TERM")
    assert daemon.get()[1]["pid"] == worker
    assert daemon.workers() == [worker]
    assert "TERM" not in daemon.output


def test_the_port_is_free_as_soon_as_the_daemon_is_gone(
    project: Path, run: Callable[..., Daemon]
) -> None:
    (project / "pooled.py").write_text(POOL)
    daemon = run("pooled:Container").ready()
    port, child = daemon.port(), daemon.get("/child")[1]["pid"]
    for pid in (daemon.pid, *daemon.workers()):
        os.kill(pid, signal.SIGKILL)
    daemon.process.wait(TIMEOUT)
    until(lambda: session(daemon.pid) == [child], "the daemon is still there")

    def is_free() -> bool:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            return False
        return True

    until(is_free, "the child holds the port")


ORPHAN = """\
import os
import socket
import sys

from api_hour.worker import forks


def wait_for_the_end_of_the_parent():
    while os.getppid() == parent:
        pass


sock, parent = socket.create_server(("127.0.0.1", 0)), os.getpid()
os.register_at_fork(after_in_child=wait_for_the_end_of_the_parent)
forks.protect([sock], [])
if os.fork() == 0:
    print(os.readlink(f"/proc/self/fd/{sock.fileno()}"))
"""


def test_a_child_whose_worker_has_just_died_holds_nothing_either() -> None:
    command = [sys.executable, "-c", ORPHAN]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True)
    assert done.stdout == "/dev/null\n"


def test_a_child_counts_the_records_that_are_limited_anew() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FLOODED], capture_output=True, text=True, timeout=TIMEOUT
    )
    assert (ended.returncode, ended.stdout) == (0, "10\n")
