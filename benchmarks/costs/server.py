"""The application that is asked: one HTTP server in one process, ``python server.py PORT``."""

import asyncio
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
import uvloop
from aiohttp import web

import api_hour
from api_hour.container import ServerOptions

PAGE = Path(__file__).with_name("page.txt")
LIMIT = 1 << 20  # bytes of a body
routes = web.RouteTableDef()


class Record(msgspec.Struct):
    """What a project may validate."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z]+(-[a-z]+)*$", max_length=100_000)]
    tags: Annotated[list[str], msgspec.Meta(max_length=1000)] = []


@routes.get("/plain")
@routes.post("/plain")
async def plain(request: web.Request) -> web.Response:
    """Read nothing."""
    return web.Response(text="plain")


@routes.post("/read")
async def read(request: web.Request) -> web.Response:
    """Read a body, up to the limit."""
    return web.Response(text=str(len(await request.read())))


@routes.post("/stream")
async def stream(request: web.Request) -> web.Response:
    """Read a body of any size, piece by piece."""
    return web.Response(text=str(sum([len(piece) async for piece in request.content.iter_any()])))


@routes.post("/json")
async def json(request: web.Request) -> web.Response:
    """Read any JSON."""
    return api_hour.JSON(type(await api_hour.read_json(request)).__name__)


@routes.post("/record")
async def record(request: web.Request) -> web.Response:
    """Read JSON of a type, and write it again."""
    return web.Response(body=msgspec.json.encode(await api_hour.read_json(request, Record)))


@routes.post("/form")
async def form(request: web.Request) -> web.Response:
    """Read a form of either kind."""
    return web.Response(text=str(len(await request.post())))


@routes.post("/parts")
async def parts(request: web.Request) -> web.Response:
    """Read the parts of a multipart body."""
    sizes = [len(await part.read(decode=True)) async for part in await request.multipart()]  # type: ignore[union-attr]
    return web.Response(text=str(sum(sizes)))


@routes.get("/query")
async def query(request: web.Request) -> web.Response:
    """Read the query."""
    return web.Response(text=str(len(request.query)))


@routes.get("/cookies")
async def cookies(request: web.Request) -> web.Response:
    """Read the cookies."""
    return web.Response(text=str(len(request.cookies)))


@routes.get("/client")
async def client(request: web.Request) -> web.Response:
    """Tell who the client is, by what the proxy says."""
    return web.Response(text=f"{request.remote} {request.scheme} {request.host}")


@routes.get(r"/items/{id:[0-9]+}")
async def item(request: web.Request) -> web.Response:
    """Take a part of the path."""
    return web.Response(text=request.match_info["id"])


@routes.get("/compressed")
async def compressed(request: web.Request) -> web.Response:
    """Answer in the coding that the client prefers."""
    response = web.Response(text="x" * 2000)
    response.enable_compression()
    return response


@routes.get("/page")
async def page(request: web.Request) -> web.FileResponse:
    """Send a file, or a part of it."""
    return web.FileResponse(PAGE)


@routes.get("/socket")
async def socket_(request: web.Request) -> web.WebSocketResponse:
    """Read messages."""
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for _ in websocket:
        pass
    return websocket


async def serve(port: int, *, fast: bool) -> None:
    """Serve until TERM."""
    app = web.Application(client_max_size=LIMIT, middlewares=[api_hour.json_errors])
    app.add_routes(routes)
    app.router.add_static("/static", PAGE.parent)
    server = api_hour.HTTPServer(app)
    headers = ("x-forwarded-for", "x-forwarded-proto", "forwarded")
    trusted = ServerOptions(fast=fast, trusted_proxies=("127.0.0.1",), proxy_headers=headers)
    server.options = replace(trusted, hosts=("test", "one.example", "two.example"))
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await server.start(socket.create_server(("127.0.0.1", port)))
    await stopped.wait()
    await server.drain(asyncio.get_running_loop().time())


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), fast="slow" not in sys.argv))
