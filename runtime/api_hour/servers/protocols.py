"""Servers for every other protocol: streams, datagrams, and any library that takes a socket.

Each takes a ``farewell``: a plain or async function of the server, called when the drain begins,
to tell the peers in their protocol's way.
"""

import asyncio
import contextlib
import functools
import inspect
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

from api_hour.container import ServerOptions
from api_hour.servers.acceptor import Acceptor

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Factory = Callable[[], asyncio.BaseProtocol]
Farewell = Callable[[Any], object]

CANCELLED = 1.0  # seconds that handlers have after their deadline


class StreamServer:
    """Serve ``async def handle(reader, writer)``, or a protocol factory, on a stream listener.

    ``transports`` holds what is open. After the drain's deadline handlers are cancelled and
    connections aborted. ``limit``: bytes that a StreamReader buffers.
    """

    def __init__(
        self, serve: Handle | Factory, *, farewell: Farewell | None = None, limit: int = 65536
    ) -> None:
        self.options = ServerOptions()
        self.transports: set[asyncio.BaseTransport] = set()
        self._serve, self._farewell, self._limit = serve, farewell, limit
        self._acceptor: Acceptor | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, sock: socket.socket) -> None:
        """Accept on ``sock``; may be called again with another socket of the same listener."""
        if self._acceptor is None:
            options = self.options
            self._acceptor = Acceptor(self._make, tls=options.tls, limit=options.max_connections)
        self._acceptor.add(sock)

    async def drain(self, deadline: float) -> None:
        """Stop accepting, say farewell, and wait for the peers until ``deadline``."""
        if self._acceptor is None:
            return
        await self._acceptor.close()
        try:
            await _say(self._farewell, self)
            await self._acceptor.emptied(deadline)
        finally:
            for task in self._tasks:
                task.cancel()
            for transport in list(self.transports):
                cast(asyncio.Transport, transport).abort()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=CANCELLED)

    def _make(self) -> asyncio.BaseProtocol:
        if not inspect.iscoroutinefunction(self._serve):
            return self._counted(cast(Factory, self._serve)())
        reader = asyncio.StreamReader(limit=self._limit)
        return self._counted(asyncio.StreamReaderProtocol(reader, self._handle))

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Run the handler and close its connection, also when it forgets to."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError):
                await cast(Handle, self._serve)(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    def _counted(self, protocol: asyncio.BaseProtocol) -> asyncio.BaseProtocol:
        """Note the protocol's beginning and end beside its own methods."""
        made, lost = protocol.connection_made, protocol.connection_lost

        @functools.wraps(made)
        def connection_made(transport: asyncio.BaseTransport) -> None:
            self.transports.add(transport)
            protocol.connection_lost = functools.partial(self._lost, transport, lost)  # type: ignore[method-assign]
            made(transport)

        protocol.connection_made = connection_made  # type: ignore[method-assign]
        return protocol

    def _lost(
        self,
        transport: asyncio.BaseTransport,
        lost: Callable[[Exception | None], None],
        error: Exception | None,
    ) -> None:
        self.transports.discard(transport)
        cast(Acceptor, self._acceptor).release()
        lost(error)


class DatagramServer:
    """Serve a datagram protocol factory; what is unread at the drain waits for the next worker."""

    def __init__(
        self, factory: Callable[[], asyncio.DatagramProtocol], *, farewell: Farewell | None = None
    ) -> None:
        self._factory, self._farewell = factory, farewell
        self.transports: list[asyncio.DatagramTransport] = []

    async def start(self, sock: socket.socket) -> None:
        """Read from ``sock``."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(self._factory, sock=sock)
        self.transports.append(transport)

    async def drain(self, deadline: float) -> None:
        """Stop reading; what was read is answered by the protocol before this returns."""
        await _say(self._farewell, self)
        for transport in self.transports:
            transport.close()


class SocketServer:
    """Adapt a library whose ``serve(sock)`` returns, or awaits to, an object with ``close()``.

    ``SocketServer(lambda sock: websockets.serve(handler, sock=sock))`` fits websockets, asyncssh,
    aiosmtpd and their kind. The drain calls ``close()`` and awaits
    ``wait_closed()`` where there is one.
    """

    def __init__(
        self, serve: Callable[[socket.socket], Any], *, farewell: Farewell | None = None
    ) -> None:
        self._serve, self._farewell = serve, farewell
        self.servers: list[Any] = []  # what the library returned, kept alive

    async def start(self, sock: socket.socket) -> None:
        """Let the library accept on ``sock``."""
        served = self._serve(sock)
        self.servers.append(await served if inspect.isawaitable(served) else served)

    async def drain(self, deadline: float) -> None:
        """Close the library's server and wait for its connections until ``deadline``."""
        await _say(self._farewell, self)
        for server in self.servers:
            closing = server.close()
            if inspect.isawaitable(closing):
                await closing
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                for server in self.servers:
                    if wait := getattr(server, "wait_closed", None):
                        await wait()


async def _say(farewell: Farewell | None, server: object) -> None:
    said = farewell(server) if farewell else None
    if inspect.isawaitable(said):
        await said
