"""An application on the runtime's own server, asked by a real client in the same loop."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, web
from multidict import CIMultiDict
from yarl import URL

import api_hour
from api_hour.container import ServerOptions


@dataclass
class Answer:
    """What a client got."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)  # by names in any case

    @property
    def json(self) -> Any:
        """The body, as JSON."""
        return json.loads(self.text)

    @property
    def faults(self) -> list[tuple[str, str, str]]:
        """Place, field and message of each fault."""
        return [(f["in"], f["field"], f["message"]) for f in self.json.get("errors", [])]


class Asking:
    """Asks one server."""

    def __init__(self, session: ClientSession, address: tuple[str, int]) -> None:
        self.session = session
        self.address = address

    async def __call__(self, method: str, path: str, **options: Any) -> Answer:
        """Ask as a client does; ``path`` is sent as it is written."""
        url = URL(path, encoded=True)
        async with asyncio.timeout(20), self.session.request(method, url, **options) as response:
            return Answer(response.status, await response.text(), response.headers)

    async def raw(self, head: bytes, body: bytes = b"", *, missing: int = 0) -> Answer:
        """Send a request line and headers byte for byte, and a body that lacks some bytes."""
        fixed = b"\r\nHost: test\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (
            len(body) + missing
        )
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(*self.address)
            writer.write(head + fixed + body)
            if missing:
                writer.write_eof()
            start, _, text = (await reader.read()).decode().partition("\r\n\r\n")
            writer.close()
        if not start:  # the connection was closed instead
            return Answer(0, "")
        status, *lines = start.split("\r\n")
        parted = (line.partition(": ") for line in lines)
        headers = CIMultiDict([(name, value) for name, _, value in parted])
        return Answer(int(status.split()[1]), text, headers)


class Client:
    """Asks one server, for tests without a loop."""

    def __init__(self, runner: asyncio.Runner, asking: Asking) -> None:
        self._runner = runner
        self._asking = asking

    def __call__(self, method: str, path: str, **options: Any) -> Answer:
        """Ask as a client does; ``path`` is sent as it is written."""
        return self._runner.run(self._asking(method, path, **options))

    def raw(self, head: bytes, body: bytes = b"", *, missing: int = 0) -> Answer:
        """Send a request line and headers byte for byte, and a body that lacks some bytes."""
        return self._runner.run(self._asking.raw(head, body, missing=missing))


@asynccontextmanager
async def serving(app: web.Application, *, fast: bool = True) -> AsyncIterator[tuple[Asking, Any]]:
    """Serve ``app``; yield what asks it, and its server."""
    server = api_hour.HTTPServer(app)
    server.options = ServerOptions(fast=fast, drain_idle=0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        listener.setblocking(False)
        await server.start(listener.dup())
    try:
        async with ClientSession(f"http://{host}:{port}") as session:
            yield Asking(session, (host, port)), server
    finally:
        await server.drain(asyncio.get_running_loop().time() + 5)


@contextmanager
def served(app: web.Application, *, fast: bool = True) -> Iterator[Client]:
    """Serve ``app``; yield what asks it."""
    with asyncio.Runner() as runner:
        serves = serving(app, fast=fast)
        asking, _ = runner.run(serves.__aenter__())
        try:
            yield Client(runner, asking)
        finally:
            runner.run(serves.__aexit__(None, None, None))


def ask(
    app: web.Application, method: str, path: str, *, fast: bool = True, **options: Any
) -> Answer:
    """Serve ``app`` for one request."""
    with served(app, fast=fast) as client:
        return client(method, path, **options)
