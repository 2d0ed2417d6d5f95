"""An application that keeps a ledger of the requests it has begun and finished."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

import api_hour

RELEASE = "1"


class Container(api_hour.Container):
    """A server whose work takes a given time and returns a given size."""

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        """Open this worker's ledger; each write appends a line."""
        path = Path(os.environ["CHAOS_LEDGER"], str(os.getpid()))
        self.ledger = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            yield
        finally:
            os.close(self.ledger)

    def servers(self) -> Mapping[str, api_hour.Server]:
        """Return the HTTP server."""
        app = web.Application()
        app.router.add_route("*", "/work", self.work)
        app.router.add_get("/stream", self.stream)
        app.router.add_get("/block", self.block)
        app.router.add_get("/grow", self.grow)
        app.router.add_get("/metrics", api_hour.show_metrics)
        return {"http": api_hour.HTTPServer(app)}

    async def work(self, request: web.Request) -> web.Response:
        """Sleep, then answer with the id, padded to the size."""
        ident = request.query["id"]
        self.note("+", ident)
        if "unread" not in request.query:
            await request.read()
        await asyncio.sleep(float(request.query.get("sleep", 0)))
        if "gate" in request.query:
            await self.gate()
        body = ident.encode().ljust(int(request.query.get("size", 0)), b".")
        self.note("-", ident)
        return web.Response(body=body, headers=self.origin())

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Send the head and one byte at once, and the last byte when the gate opens."""
        response = web.StreamResponse(headers=self.origin())
        response.content_length = 2
        await response.prepare(request)
        await response.write(b".")
        await self.gate()
        await response.write(b".")
        return response

    async def gate(self) -> None:
        """Wait until the test opens the gate."""
        while not Path(os.environ["CHAOS_LEDGER"], "gate").exists():
            await asyncio.sleep(0.05)

    async def block(self, request: web.Request) -> web.Response:
        """Block the event loop, as no endpoint should."""
        time.sleep(float(request.query["seconds"]))  # BLOCKS: the log must name this line
        return web.Response(headers=self.origin())

    async def grow(self, request: web.Request) -> web.Response:
        """Allocate memory of the given size and keep it."""
        self.kept = b"." * int(request.query["size"])
        return web.Response(headers=self.origin())

    def note(self, sign: str, ident: str) -> None:
        """Append a line to the ledger."""
        os.write(self.ledger, f"{sign}{ident}\n".encode())

    def origin(self) -> dict[str, str]:
        """Return headers that name the worker and the release that answer."""
        return {"X-Worker": str(os.getpid()), "X-Release": RELEASE}
