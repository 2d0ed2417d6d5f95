"""What a project serves, in the loop of the test: on the runtime's own server, asked over TCP.

So a test takes the path that a client of the daemon takes, the fast path included, and only what
belongs to processes is missing: the master, signals, ``etc/``.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientTimeout, CookieJar, web
from multidict import CIMultiDictProxy

from api_hour.container import Container, Server, ServerOptions
from api_hour.exceptions import ConfigError
from api_hour.http.server import HTTPServer
from api_hour.servers.protocols import DatagramServer
from api_hour.testing.answers import Answer

TIMEOUT = 60.0  # seconds for an answer: no test hangs
DRAIN = 5.0  # seconds for what is still in flight when the test is over


class Client:
    """A client of one server; it keeps cookies and connections.

    ``address`` is host and port. ``session`` is aiohttp's, for WebSockets and for bodies that are
    read piece by piece.
    """

    def __init__(self, address: tuple[str, int], session: ClientSession) -> None:
        self.address = address
        self.session = session

    async def request(self, method: str, path: str, **options: Any) -> Answer:
        """Send a request; ``options`` are those of aiohttp: ``json``, ``data``, ``headers``, ..."""
        async with self.session.request(method, path, **options) as response:
            body = await response.read()
            return Answer(response.status, CIMultiDictProxy(response.headers.copy()), body)

    async def get(self, path: str, **options: Any) -> Answer:
        """Send a GET."""
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Answer:
        """Send a POST."""
        return await self.request("POST", path, **options)

    async def put(self, path: str, **options: Any) -> Answer:
        """Send a PUT."""
        return await self.request("PUT", path, **options)

    async def patch(self, path: str, **options: Any) -> Answer:
        """Send a PATCH."""
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str, **options: Any) -> Answer:
        """Send a DELETE."""
        return await self.request("DELETE", path, **options)


@asynccontextmanager
async def client(served: web.Application | HTTPServer) -> AsyncIterator[Client]:
    """Serve one application, or one server, and yield its client.

    An application can be served once, as aiohttp wants it: make it anew for each test.
    """
    server = served if isinstance(served, HTTPServer) else HTTPServer(served)
    async with _started("test", server) as client:
        yield client


@asynccontextmanager
async def serve(container: Container) -> AsyncIterator[dict[str, Client]]:
    """Start the servers of a Container, whose engines are open; yield the client of each listener.

    They are on free ports, and the Container is ready, until the block ends. The client of a server
    that speaks no HTTP is of use for its ``address``.
    """
    async with AsyncExitStack() as stack:
        servers = container.servers()
        if not servers:
            raise ConfigError(f"{type(container).__name__}.servers() names no server to test")
        clients = {
            name: await stack.enter_async_context(_started(name, server))
            for name, server in servers.items()
        }
        container.ready = True
        try:
            yield clients
        finally:
            container.ready = False


@asynccontextmanager
async def _started(name: str, server: Server) -> AsyncIterator[Client]:
    """Start a server on a free port; drain it without the window for idle connections."""
    if hasattr(server, "options"):
        server.options = ServerOptions(listener=name, drain_idle=0)
    kind = socket.SOCK_DGRAM if isinstance(server, DatagramServer) else socket.SOCK_STREAM
    sock = socket.socket(socket.AF_INET, kind)
    try:
        sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        sock.setblocking(False)
        address: tuple[str, int] = sock.getsockname()
        await server.start(sock)
    except BaseException:
        sock.close()
        raise
    try:
        async with ClientSession(
            f"http://{address[0]}:{address[1]}",
            cookie_jar=CookieJar(unsafe=True),  # those of an address, too
            timeout=ClientTimeout(TIMEOUT),
        ) as session:
            yield Client(address, session)
    finally:
        await server.drain(asyncio.get_running_loop().time() + DRAIN)
