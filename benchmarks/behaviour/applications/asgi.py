"""The application for uvicorn, Granian and hypercorn: plain ASGI."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

RELEASE = "1"
LEDGER = Path(os.environ["LEDGER"])

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def note(name: str, text: object) -> None:
    """Append a line to a file of the ledger."""
    with (LEDGER / name).open("a") as file:
        file.write(f"{text}\n")


note("starts", f"{os.getpid()} {RELEASE}")


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer a request or a lifespan."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["path"] == "/block":
        block()
    else:
        await work(dict(parse_qsl(scope["query_string"].decode())), receive, send)


async def lifespan(receive: Receive, send: Send) -> None:
    """Confirm start and stop; a start-up that raises is reported, as frameworks do it."""
    await receive()
    try:
        start_up()
    except Exception as error:
        await send({"type": "lifespan.startup.failed", "message": repr(error)})
        return
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def start_up() -> None:
    """Open nothing; a trial puts a function that raises in its place."""


async def work(query: dict[str, str], receive: Receive, send: Send) -> None:
    """Wait as long as asked, then answer the id, padded to the size."""
    while (await receive()).get("more_body"):
        pass
    seconds = float(query["sleep"])
    if seconds >= 1:
        note("begun", query["id"])
    await asyncio.sleep(seconds)
    body = query["id"].encode().ljust(int(query["size"]), b".")
    headers = [(b"content-length", b"%d" % len(body)), (b"x-worker", b"%d" % os.getpid())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def block() -> None:
    """Block the whole loop forever, as no endpoint should."""
    note("blocked", os.getpid())
    while True:
        time.sleep(3600)
