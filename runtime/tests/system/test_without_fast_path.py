"""Without the folder of the fast path, aiohttp serves."""

import subprocess
import sys

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
