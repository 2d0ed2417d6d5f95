"""A project of one file, ready to be broken, and daemons on it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from testkit.processes import Daemon

HELLO = """\
import asyncio
import os
import time

from aiohttp import web

import api_hour

MESSAGE = "first"


async def index(request):
    return web.json_response({"message": MESSAGE, "pid": os.getpid()})


async def slow(request):
    await asyncio.sleep(float(request.query["seconds"]))
    return web.json_response({"pid": os.getpid()})


async def block(request):
    time.sleep(60)


class Container(api_hour.Container):
    def servers(self):
        app = web.Application()
        app.router.add_get("/", index)
        app.router.add_get("/slow", slow)
        app.router.add_get("/block", block)
        return {"http": api_hour.HTTPServer(app)}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with ``hello.py``, whose Container serves the listener ``http``."""
    (tmp_path / "hello.py").write_text(HELLO)
    return tmp_path


@pytest.fixture
def run(project: Path) -> Iterator[Callable[..., Daemon]]:
    """Return a function that starts a daemon on a free port; all are gone after the test."""
    with ExitStack() as daemons:

        def start(*arguments: str, **variables: str) -> Daemon:
            free = ("--listen", "http=tcp://127.0.0.1:0")
            return daemons.enter_context(
                Daemon(project, *(arguments or ("hello:Container",)), *free, variables=variables)
            )

        yield start
