"""The application for aiohttp under Gunicorn."""

import asyncio
import os
import time
from pathlib import Path

from aiohttp import web

RELEASE = "1"
LEDGER = Path(os.environ["LEDGER"])


def note(name: str, text: object) -> None:
    """Append a line to a file of the ledger."""
    with (LEDGER / name).open("a") as file:
        file.write(f"{text}\n")


note("starts", f"{os.getpid()} {RELEASE}")


async def work(request: web.Request) -> web.Response:
    """Wait as long as asked, then answer the id, padded to the size."""
    await request.read()
    seconds = float(request.query["sleep"])
    if seconds >= 1:
        note("begun", request.query["id"])
    await asyncio.sleep(seconds)
    body = request.query["id"].encode().ljust(int(request.query["size"]), b".")
    return web.Response(body=body, headers={"X-Worker": str(os.getpid())})


async def block(_: web.Request) -> web.Response:
    """Block the whole loop forever, as no endpoint should."""
    note("blocked", os.getpid())
    while True:
        time.sleep(3600)


async def make_app() -> web.Application:
    """Return the application."""
    app = web.Application()
    app.router.add_route("*", "/work", work)
    app.router.add_get("/block", block)
    return app
