"""One exchange with an application on a real server: a request as bytes, and the whole answer."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web, web_response
from aiohttp.test_utils import TestServer

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
ZIPPED = GET.replace(b"Host", b"Accept-Encoding: gzip, deflate\r\nHost")
HEAD = GET.replace(b"GET", b"HEAD")
OLD = b"GET / HTTP/1.0\r\n\r\n"
OLD_KEPT = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + OLD
KEPT = GET.replace(b"Connection: close\r\n", b"") + GET

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def exchange(app: web.Application, request: bytes) -> bytes:
    """Serve ``app``, send ``request`` and return all bytes until the server closes."""

    async def run() -> bytes:
        async with TestServer(app) as server, asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(request)
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

    return asyncio.run(run())


def one(handler: Handler, *middlewares: Any) -> web.Application:
    app = web.Application(middlewares=middlewares)
    app.router.add_route("*", "/", handler)
    return app


def told(status: int, detail: str, field: str = "", message: str = "") -> dict[str, Any]:
    """Return the body of an error; with a ``message`` it is about one fault of the body."""
    error: dict[str, Any] = {"status": status, "message": detail}
    faults = [{"in": "body", "field": field, "message": message}] if message else []
    return {
        "type": "about:blank",
        "title": web_response.REASON_PHRASES[status],
        "status": status,
        "detail": detail,
        **({"errors": faults} if faults else {}),
        "error": error | ({"field": field} if field else {}),
    }


def parts(answer: bytes) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and the JSON of one answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, json.loads(body)
