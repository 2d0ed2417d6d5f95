"""What a running worker has imported: a daemon pays for what it uses."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from testkit.processes import Daemon
from testkit.waiting import TIMEOUT

Run = Callable[..., Daemon]

TCP = """\
import sys

import api_hour


async def report(reader, writer):
    writer.write(" ".join(sys.modules).encode())
    await writer.drain()
    writer.close()


class Container(api_hour.Container):
    def servers(self):
        return {"http": api_hour.StreamServer(report)}
"""
HTTP = """\
import sys

from aiohttp import web

import api_hour


async def report(request):
    return web.Response(text=" ".join(sys.modules))


class Container(api_hour.Container):
    def servers(self):
        app = web.Application()
        app.router.add_get("/", report)
        return {"http": api_hour.HTTPServer(app)}
"""
DRIVERS = {"aiopg", "asyncpg", "psycopg", "psycopg2"}
OPTIONAL = DRIVERS | {"aiohttp", "ujson", "yaml", "prometheus_client", "watchfiles"}
DAEMONS: dict[str, tuple[str, tuple[str, ...], str, set[str]]] = {
    # its code, its options, its main.yaml, and what it imports of OPTIONAL
    "tcp": (TCP, (), "", set()),
    "tcp with metrics": (TCP, ("--metrics",), "", {"prometheus_client"}),
    "tcp with a YAML file": (TCP, (), "api_hour: {workers: 1}\n", {"yaml"}),
    "http": (HTTP, (), "", {"aiohttp", "ujson"}),
    "http with metrics": (HTTP, ("--metrics",), "", {"aiohttp", "ujson", "prometheus_client"}),
}


@pytest.mark.parametrize("kind", DAEMONS)
def test_a_worker_has_imported_only_what_it_uses(run: Run, project: Path, kind: str) -> None:
    code, options, yaml, expected = DAEMONS[kind]
    (project / "reporting.py").write_text(code)
    if yaml:
        (project / "etc" / "reporting").mkdir(parents=True)
        (project / "etc" / "reporting" / "main.yaml").write_text(yaml)
    daemon = run("reporting:Container", *options).ready()
    with socket.create_connection(("127.0.0.1", daemon.port()), TIMEOUT) as connection:
        if code is HTTP:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        with connection.makefile() as answer:
            loaded = {name.partition(".")[0] for name in answer.read().split()}
    assert "api_hour" in loaded
    assert loaded & OPTIONAL == expected
    assert daemon.stop() == 0
