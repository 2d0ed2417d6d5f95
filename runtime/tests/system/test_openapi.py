"""``api_hour openapi`` prints the document of an application on stdout, and nothing else."""

import json
import subprocess
from pathlib import Path

import pytest

from testkit.processes import API_HOUR

DOCUMENTED = """\
import os
from contextlib import asynccontextmanager

from aiohttp import web

import api_hour
from api_hour.http.server import DOCUMENT

print("printed at the import")


def served(title):
    app = web.Application()
    app[DOCUMENT] = lambda: b'{"openapi":"3.1.0","info":{"title":"%s"}}' % title
    return api_hour.HTTPServer(app)


class Bare:
    def __init__(self, answer):
        self.answer = answer

    async def start(self, sock):
        sock.close()

    async def drain(self, deadline):
        pass

    def document(self):
        return self.answer


class Container(api_hour.Container):
    @asynccontextmanager
    async def engines(self):
        os.write(1, b"written to the descriptor\\n")
        yield

    def servers(self):
        return {"http": served(b"public"), "admin": api_hour.HTTPServer(web.Application())}


class Two(Container):
    def servers(self):
        return {"http": served(b"public"), "admin": served(b"inner")}


class Undocumented(Container):
    def servers(self):
        return {"http": Bare(None), "admin": api_hour.HTTPServer(web.Application())}


class Mapping(Container):
    def servers(self):
        return {"http": Bare({"openapi": "3.1.0"}), "admin": served(b"inner")}


class Large(Container):
    def servers(self):
        return {"http": Bare(b"[" + b"1, " * 1_000_000 + b"1]"), "admin": Bare(None)}
"""
LISTENERS = """\
api_hour:
  workers: 3
  daemon: true
  errorlog: log
  accesslog: "-"
  listeners:
    http: tcp://127.0.0.1:1
    admin: tcp://127.0.0.1:2
"""


@pytest.fixture
def documented(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(DOCUMENTED)
    (tmp_path / "etc" / "app").mkdir(parents=True)
    (tmp_path / "etc" / "app" / "main.yaml").write_text(LISTENERS)
    return tmp_path


def openapi(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [*API_HOUR, "openapi", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def test_stdout_holds_the_document_alone(documented: Path) -> None:
    ended = openapi(documented, "app:Container")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {"openapi": "3.1.0", "info": {"title": "public"}}
    assert '\n  "openapi": "3.1.0",\n' in ended.stdout
    assert ended.stdout.endswith("}\n")
    assert ended.stderr.count("printed at the import") == 1  # by one worker
    assert "written to the descriptor" in ended.stderr
    assert "ready" not in ended.stderr


def test_the_listener_chooses_between_documents(documented: Path) -> None:
    ended = openapi(documented, "app:Two", "--listener", "admin", "--config-dir", "etc/app")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["info"]["title"] == "inner"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            ["app:Two"],
            "the servers http, admin of app:Two have a document each: choose one with "
            "--listener http",
            id="several documents",
        ),
        pytest.param(
            ["app:Undocumented"],
            "no server of app:Undocumented has a document (http, admin was asked): make an "
            "api_hour.API for its application",
            id="no document",
        ),
        pytest.param(
            ["app:Container", "--listener=public"],
            "--listener public names no server of app:Container; there is http, admin",
            id="another listener",
        ),
        pytest.param(
            ["app:Mapping", "--listener", "http"],
            "document() of the server http of app:Mapping must return JSON as bytes, or None; got "
            "{'openapi': '3.1.0'}",
            id="a document of another type",
        ),
        pytest.param(["app:Nope"], "app.py has no Nope: define it there", id="no container"),
    ],
)
def test_a_mistake_is_one_line(documented: Path, arguments: list[str], expected: str) -> None:
    ended = openapi(documented, *arguments)
    assert (ended.returncode, ended.stdout) == (1, "")
    said = ("written to the descriptor", "printed at the import", "api_hour: warning: ")
    errors = [line for line in ended.stderr.splitlines() if not line.startswith(said)]
    assert len(errors) == 1, ended.stderr
    assert expected in errors[0]
    assert "Traceback" not in ended.stderr


def test_what_ends_without_a_document_fails(documented: Path) -> None:
    ended = openapi(documented, "app:Container", "--check-config")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "ended before there was a document" in ended.stderr


def test_a_document_is_larger_than_a_pipe(documented: Path) -> None:
    ended = openapi(documented, "app:Large")
    assert ended.returncode == 0, ended.stderr
    assert len(json.loads(ended.stdout)) == 1_000_001


def test_a_reader_that_leaves_early_gets_no_traceback(documented: Path) -> None:
    command = [*API_HOUR, "openapi", "app:Large"]
    with subprocess.Popen(
        command, cwd=documented, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == b"[1, "
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 0
    assert b"Traceback" not in told


def test_a_full_disk_is_one_line(documented: Path) -> None:
    command = [*API_HOUR, "openapi", "app:Container"]
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            command, cwd=documented, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert ended.returncode == 1
    assert "the document cannot be written: No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr
