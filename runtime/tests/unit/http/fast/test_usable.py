"""What is served when the fast path is not: another aiohttp, ``fast: false``, a folder removed."""

import subprocess
import sys

import aiohttp
import pytest

from api_hour.http.fast import usable
from runtime.tests.unit.http.endpoints import application
from testkit.wire import ours, request, run_on

WITHOUT_THE_FOLDER = """
import sys
from importlib.abc import MetaPathFinder

class Removed(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.startswith("api_hour.http.fast"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Removed())
import asyncio
from aiohttp import web
from testkit.wire import ours, request

async def index(request):
    return web.Response(text="served")

async def scenario():
    app = web.Application()
    app.router.add_get("/", index)
    async with ours(app, fast=False) as service:
        answer, _ = await service.ask(request("/"))
        print(answer.decode().splitlines()[-1])

asyncio.run(asyncio.wait_for(scenario(), 30))
"""


def test_without_the_folder_the_server_serves() -> None:
    command = [sys.executable, "-W", "error", "-c", WITHOUT_THE_FOLDER]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "served\n")


def test_another_aiohttp_is_served_without_the_fast_path(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with ours(application()) as service:
            assert type(service.connections).__name__ == "Connections"
            heard, _ = await service.ask(request("/json"))
            assert heard.startswith(b"HTTP/1.1 200 OK\r\n")

    usable.cache_clear()
    monkeypatch.setattr(aiohttp, "__version__", "3.15.0")
    run_on("asyncio", scenario())
    usable.cache_clear()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["No fast path for aiohttp 3.15.0: its own is used"]


def test_the_aiohttp_that_is_pinned_is_known() -> None:
    assert usable()
