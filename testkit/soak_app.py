"""An application with an endpoint for every kind of traffic of the soak."""

import asyncio
import os
from collections.abc import Mapping

from aiohttp import web

import api_hour

PIECE = b"." * 1000  # of a stream


class Container(api_hour.Container):
    """Plain answers, uploads, downloads, streams, WebSockets and endpoints that fail."""

    def servers(self) -> Mapping[str, api_hour.Server]:
        """Return the HTTP server."""
        app = web.Application(middlewares=[api_hour.json_errors])
        app.router.add_route("*", "/work", work)
        app.router.add_get("/stream", stream)
        app.router.add_get("/echo", echo)
        app.router.add_get("/fail", fail)
        app.router.add_get("/threaded", threaded)
        return {"http": api_hour.HTTPServer(app)}


async def work(request: web.Request) -> web.Response:
    """Read the body, sleep, and answer with the id, padded to the size."""
    await request.read()
    await asyncio.sleep(float(request.query.get("sleep", 0)))
    body = request.query["id"].encode().ljust(int(request.query.get("size", 0)), b".")
    return web.Response(body=body, headers={"X-Worker": str(os.getpid())})


async def stream(request: web.Request) -> web.StreamResponse:
    """Send pieces at an even pace."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(int(request.query["pieces"])):
        await response.write(PIECE)
        await asyncio.sleep(0.1)
    return response


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Send every message back."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def fail(request: web.Request) -> web.Response:
    """Raise, as a mistake in an endpoint does."""
    raise RuntimeError("this endpoint always fails")


@api_hour.threaded
def threaded(request: web.Request) -> web.Response:
    """Answer from a thread."""
    return web.Response(text="threaded")
