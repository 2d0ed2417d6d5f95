"""One chat room across all workers, over WebSockets and PostgreSQL.

``python -m api_hour.plugins.embedded -- api_hour chat:Container`` in this folder; it needs
``pip install asyncpg``. Open http://127.0.0.1:8000/ in two windows.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import api_hour
import msgspec
from aiohttp import WSCloseCode, WSMsgType, web
from room import Room, Said, opened

ROOM = web.AppKey("ROOM", Room)
SOCKETS = web.AppKey("SOCKETS", set[web.WebSocketResponse])


async def index(request: web.Request) -> web.FileResponse:
    return web.FileResponse("chat.html")


async def chat(request: web.Request) -> web.WebSocketResponse:
    """Pass on what the peer says, and send it every message after the one that it names."""
    room, sockets = request.app[ROOM], request.app[SOCKETS]
    socket = web.WebSocketResponse(heartbeat=20)
    await socket.prepare(request)
    sockets.add(socket)
    try:
        async with asyncio.TaskGroup() as tasks:
            last = int(request.match_info["last"])
            sending = tasks.create_task(send_messages(socket, room, last))
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await room.say(msgspec.json.decode(message.data, type=Said))
            sending.cancel()
    except* msgspec.DecodeError:
        await socket.close(code=WSCloseCode.INVALID_TEXT)
    except* api_hour.DatabaseError:
        await socket.close(code=WSCloseCode.TRY_AGAIN_LATER)
    finally:
        sockets.discard(socket)
    return socket


async def send_messages(socket: web.WebSocketResponse, room: Room, last: int) -> None:
    with suppress(ConnectionError):  # the loop that reads from the socket ends as well
        async for heard in room.messages(last):
            await socket.send_str(msgspec.json.encode(heard).decode())


async def farewell(app: web.Application) -> None:
    """Close with 1012: peers reconnect, and repeat what they did not hear."""
    closing = [socket.close(code=WSCloseCode.SERVICE_RESTART) for socket in app[SOCKETS]]
    await asyncio.gather(*closing)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dsn: str


class Container(api_hour.Container):
    settings = Settings

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        async with opened(self.config.dsn) as self.room:
            yield

    def servers(self) -> dict[str, api_hour.Server]:
        app = web.Application()
        app[ROOM], app[SOCKETS] = self.room, set()
        app.add_routes([web.get("/", index), web.get(r"/chat/{last:\d{1,18}}", chat)])
        app.on_shutdown.append(farewell)
        return {"http": api_hour.HTTPServer(app)}
