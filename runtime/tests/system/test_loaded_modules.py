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
API = """\
import sys

from aiohttp import web

import api_hour


async def report(request: web.Request) -> web.Response:
    return web.Response(text=" ".join(sys.modules))


class Container(api_hour.Container):
    def servers(self):
        app = web.Application()
        api_hour.API(app, title="Reporting", version="1", docs=DOCS).get("/", report)
        return {"http": api_hour.HTTPServer(app)}
"""
DOCUMENT = {f"api_hour.http.api.{name}" for name in ("document", "schema")}
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
    modules = ask(daemon, None if code is TCP else "/")
    loaded = {name.partition(".")[0] for name in modules}
    assert "api_hour" in loaded
    assert loaded & OPTIONAL == expected
    assert not [name for name in modules if name.startswith(("api_hour.http.api", "offapi"))]
    assert daemon.stop() == 0


@pytest.mark.parametrize("docs", [False, True], ids=["without docs", "with docs"])
def test_a_typed_api_imports_its_document_when_it_is_asked_for(
    run: Run, project: Path, docs: bool
) -> None:
    (project / "reporting.py").write_text(API.replace("DOCS", str(docs)))
    daemon = run("reporting:Container").ready()
    before = ask(daemon, "/")
    assert "api_hour.http.api.api" in before
    assert not before & (DOCUMENT | {"offapi"})
    assert ("api_hour.http.api.page" in before) is docs
    if docs:
        ask(daemon, "/openapi.json")
        assert ask(daemon, "/") >= DOCUMENT
    assert daemon.stop() == 0


def ask(daemon: Daemon, path: str | None) -> set[str]:
    """Return the words of the answer; without a path nothing is sent."""
    with socket.create_connection(("127.0.0.1", daemon.port()), TIMEOUT) as connection:
        if path is not None:
            request = f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
        with connection.makefile() as answer:
            return set(answer.read().split())
