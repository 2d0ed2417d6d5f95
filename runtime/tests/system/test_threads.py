"""Threads: endpoints that block hold up neither the metrics nor the end of a worker."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path

from testkit.processes import Daemon
from testkit.waiting import TIMEOUT, until

PROJECT = """\
import threading

from aiohttp import web

import api_hour

at_work = []


@api_hour.threaded
def hang(request):
    at_work.append(1)
    threading.Event().wait()


async def count(request):
    return api_hour.JSON(len(at_work))


class Container(api_hour.Container):
    def servers(self):
        app = web.Application()
        app.router.add_get("/hang", hang)
        app.router.add_get("/count", count)
        app.router.add_get("/metrics", api_hour.show_metrics)
        return {"http": api_hour.HTTPServer(app)}
"""


def test_threads_that_hang_hold_up_neither_the_metrics_nor_the_end(
    run: Callable[..., Daemon], project: Path
) -> None:
    (project / "other.py").write_text(PROJECT)
    limits = ("--threads", "2", "--graceful-timeout", "1", "--drain-idle", "0")
    daemon = run("other:Container", "--metrics", *limits).ready()
    clients = [ask(daemon.port(), "/hang") for _ in range(4)]
    until(lambda: daemon.get("/count") == (200, 2), "two threads take up the work")
    with ask(daemon.port(), "/metrics") as scrape:
        assert scrape.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
    for client in clients:
        client.close()
    assert daemon.get("/count") == (200, 2)
    assert daemon.stop(signal.SIGTERM) == 0
    assert "SIGKILL" not in daemon.output


def ask(port: int, path: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    return client
