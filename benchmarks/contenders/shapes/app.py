"""An aiohttp application beyond JSON; it does not know which server runs it."""

import asyncio
from pathlib import Path

from aiohttp import web

PIECE = b"x" * 10_000
BODY = b"x" * 1_000_000

routes = web.RouteTableDef()
routes.static("/static", Path(__file__).with_name("static"))


@routes.get("/await")
async def awaits_once(request):
    await asyncio.sleep(0)
    return web.Response(text="Hello, World!")


@routes.post("/upload")
async def upload(request):
    return web.Response(text=str(len(await request.read())))


@routes.get("/download")
async def download(request):
    return web.Response(body=BODY)


@routes.get("/stream")
async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(10):
        await response.write(PIECE)
    await response.write_eof()
    return response


@routes.get("/websocket")
async def websocket(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


@routes.get("/error")
async def error(request):
    raise RuntimeError("This endpoint always fails")


def make():
    app = web.Application(client_max_size=2 * len(BODY))
    app.add_routes(routes)
    return app


async def make_app():
    return make()
