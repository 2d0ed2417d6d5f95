"""An application on the runtime's own server, asked by a real client in the same loop."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, web

import api_hour
from api_hour.container import ServerOptions


@dataclass
class Answer:
    """What a client got."""

    status: int
    text: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        """The body, as JSON."""
        return json.loads(self.text)

    @property
    def faults(self) -> list[tuple[str, str, str]]:
        """Place, field and message of each fault."""
        return [(f["in"], f["field"], f["message"]) for f in self.json.get("errors", [])]


Ask = Callable[..., Awaitable[Answer]]


@asynccontextmanager
async def serving(app: web.Application, *, fast: bool = True) -> AsyncIterator[tuple[Ask, Any]]:
    """Serve ``app``; yield a function that asks it, and its server."""
    server = api_hour.HTTPServer(app)
    server.options = ServerOptions(fast=fast, drain_idle=0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "http://{}:{}".format(*listener.getsockname())
        listener.setblocking(False)
        await server.start(listener.dup())
    async with ClientSession(address) as session:

        async def ask(method: str, path: str, **options: Any) -> Answer:
            async with session.request(method, path, **options) as response:
                return Answer(response.status, await response.text(), dict(response.headers))

        yield ask, server
    await server.drain(asyncio.get_running_loop().time() + 5)


@contextmanager
def served(app: web.Application, *, fast: bool = True) -> Iterator[Callable[..., Answer]]:
    """Serve ``app``; yield a function that asks it, for tests without a loop."""
    with asyncio.Runner() as runner:
        serves = serving(app, fast=fast)
        asking, _ = runner.run(serves.__aenter__())
        yield lambda *request, **options: runner.run(_soon(asking(*request, **options)))
        runner.run(serves.__aexit__(None, None, None))


async def _soon(answer: Awaitable[Answer]) -> Answer:
    async with asyncio.timeout(20):
        return await answer


def ask(
    app: web.Application, method: str, path: str, *, fast: bool = True, **options: Any
) -> Answer:
    """Serve ``app`` for one request."""

    async def run() -> Answer:
        async with serving(app, fast=fast) as (asking, _):
            return await _soon(asking(method, path, **options))

    return asyncio.run(run())
