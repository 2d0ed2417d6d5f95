"""The application for API-Hour: the handlers of an aiohttp application, and a Container."""

import asyncio
import os
import time
from pathlib import Path

from aiohttp import web

import api_hour

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


def application() -> web.Application:
    """Return the HTTP application."""
    app = web.Application()
    app.router.add_route("*", "/work", work)
    app.router.add_get("/block", block)
    return app


class Container(api_hour.Container):
    """HTTP alone."""

    def servers(self) -> dict[str, api_hour.Server]:
        """Return the one server."""
        return {"http": api_hour.HTTPServer(application())}


class Echo(asyncio.DatagramProtocol):
    """Sends each datagram back."""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        """Keep the transport, which sends."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Send the datagram back."""
        self.transport.sendto(data, addr)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send each line back."""
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


class Several(api_hour.Container):
    """HTTP, lines over TCP, and datagrams in one daemon."""

    def servers(self) -> dict[str, api_hour.Server]:
        """Return the three servers."""
        return {
            "http": api_hour.HTTPServer(application()),
            "lines": api_hour.StreamServer(echo),
            "datagrams": api_hour.DatagramServer(Echo),
        }


class Counted(api_hour.Container):
    """HTTP, and metrics on a listener of their own."""

    def servers(self) -> dict[str, api_hour.Server]:
        """Return the two servers."""
        admin = web.Application()
        admin.router.add_get("/metrics", api_hour.show_metrics)
        return {
            "http": api_hour.HTTPServer(application()),
            "admin": api_hour.HTTPServer(admin),
        }
