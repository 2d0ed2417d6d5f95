"""Servers for every other protocol: streams, datagrams, and any library that takes a socket.

Each takes ``on_drain``: a plain or an async function of the server, called when the drain begins,
to tell the peers in their protocol's own way.
"""

import asyncio
import contextlib
import functools
import inspect
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

from api_hour.container import ServerOptions
from api_hour.exceptions import ConfigError
from api_hour.logs import rate_limit
from api_hour.servers import proxy_protocol
from api_hour.servers.acceptor import Acceptor
from api_hour.servers.proxy_protocol import Addresses, ProxiedTransport
from api_hour.servers.time_limits import SendTimeout

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Factory = Callable[[], asyncio.BaseProtocol]
OnDrain = Callable[[Any], object]

CANCEL_GRACE = 1.0  # seconds that cancelled handlers have after the deadline
log = logging.getLogger(__name__)
rate_limit.limit_tracebacks(__name__)


class StreamServer:
    """Serves ``async def handle(reader, writer)``, or a protocol factory, on a stream listener.

    What can be called with two arguments is a handler, and what can be called without any is a
    factory; raises ConfigError for anything else. ``transports`` holds the open connections. At
    the drain's deadline the handlers are cancelled and the connections aborted. ``limit``: bytes
    that a StreamReader buffers. ``send_timeout`` replaces the setting of that name for this
    server; 0 means no limit.
    """

    def __init__(
        self,
        serve: Handle | Factory,
        *,
        on_drain: OnDrain | None = None,
        limit: int = 65536,
        send_timeout: float | None = None,
    ) -> None:
        self.options = ServerOptions()
        self.transports: set[asyncio.BaseTransport] = set()
        self._serve, self._on_drain, self._limit = serve, on_drain, limit
        self._makes_protocols = _is_factory(serve)
        self._send_timeout = send_timeout
        self._acceptor: Acceptor | None = None
        self._sending: SendTimeout | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, sock: socket.socket) -> None:
        """Accept on ``sock``; may be called again with another socket of the same listener."""
        if self._acceptor is None:
            options, limit = self.options, self._send_timeout
            if options.hosts is not None:
                raise ConfigError(f"listener {options.listener}: hosts belongs to HTTP: remove it")
            self._sending = SendTimeout(options.send_timeout if limit is None else limit)
            self._acceptor = Acceptor(
                self._make_protocol,
                tls=options.tls,
                limit=options.max_connections,
                proxies=proxy_protocol.trusted(options),
            )
        self._acceptor.add(sock)

    async def drain(self, deadline: float) -> None:
        """Stop accepting, call ``on_drain``, and wait for the peers until ``deadline``."""
        if self._acceptor is None:
            return
        await self._acceptor.close()
        try:
            await _call_on_drain(self._on_drain, self)
            await self._acceptor.emptied(deadline)
        finally:
            for task in self._tasks:
                task.cancel()
            self._acceptor.give_up()
            cast(SendTimeout, self._sending).close()
            for transport in list(self.transports):
                cast(asyncio.Transport, transport).abort()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=CANCEL_GRACE)

    def _make_protocol(self, addresses: Addresses | None = None) -> asyncio.BaseProtocol:
        if self._makes_protocols:
            try:
                return self._observe(cast(Factory, self._serve)(), addresses)
            except BaseException as error:
                log.error("The protocol of a connection cannot be made", exc_info=error)
                raise ConnectionAbortedError("it has no protocol") from error
        reader = asyncio.StreamReader(limit=self._limit)
        return self._observe(asyncio.StreamReaderProtocol(reader, self._handle), addresses)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Run the handler, and close its connection even if it forgets to."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError):
                await cast(Handle, self._serve)(reader, writer)
        except (SystemExit, KeyboardInterrupt) as error:  # they would end the worker
            raise RuntimeError(f"The handler raised {error!r}") from error
        finally:
            self._tasks.discard(task)
            writer.close()
            self._limit_sending(writer.transport)

    def _limit_sending(self, transport: asyncio.BaseTransport) -> None:
        """Limit the time in which the peer may leave unread what was sent."""
        cast(SendTimeout, self._sending).watch(cast(asyncio.Transport, transport))

    def _observe(
        self, protocol: asyncio.BaseProtocol, addresses: Addresses | None
    ) -> asyncio.BaseProtocol:
        """Add the connection's begin and end to the protocol's own methods.

        The methods are replaced on the instance, because the class belongs to the project or to a
        library, and a wrapper around the protocol would cost a call for each piece of data.
        """
        made, lost = protocol.connection_made, protocol.connection_lost
        pause_writing = protocol.pause_writing

        @functools.wraps(made)
        def connection_made(transport: asyncio.BaseTransport) -> None:
            if addresses is not None:
                transport = cast(asyncio.BaseTransport, ProxiedTransport(transport, addresses))
            self.transports.add(transport)
            protocol.connection_lost = functools.partial(self._lost, transport, lost)  # type: ignore[method-assign]
            protocol.pause_writing = functools.partial(self._paused, transport, pause_writing)  # type: ignore[method-assign]
            try:
                made(transport)
            except BaseException as error:
                log.error("connection_made() failed", exc_info=error)
                cast(asyncio.Transport, transport).abort()

        protocol.connection_made = connection_made  # type: ignore[method-assign]
        return protocol

    def _paused(self, transport: asyncio.BaseTransport, pause_writing: Callable[[], None]) -> None:
        self._limit_sending(transport)
        pause_writing()

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
    """Serves a datagram protocol factory; what is unread at the drain waits for the next worker."""

    def __init__(
        self, factory: Callable[[], asyncio.DatagramProtocol], *, on_drain: OnDrain | None = None
    ) -> None:
        self._factory, self._on_drain = factory, on_drain
        self.transports: list[asyncio.DatagramTransport] = []

    async def start(self, sock: socket.socket) -> None:
        """Read from ``sock``; raises ConfigError for a socket of connections."""
        if sock.type != socket.SOCK_DGRAM:
            raise ConfigError(
                f"{sock.getsockname()} accepts connections, and its server wants datagrams: give "
                "the listener a udp:// or unixgram: address"
            )
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(self._factory, sock=sock)
        self.transports.append(transport)

    async def drain(self, deadline: float) -> None:
        """Call ``on_drain`` and stop reading; what was read is answered before this returns."""
        await _call_on_drain(self._on_drain, self)
        for transport in self.transports:
            transport.close()


class SocketServer:
    """Adapts a library whose ``serve(sock)`` returns, or awaits to, an object with ``close()``.

    ``SocketServer(lambda sock: websockets.serve(handler, sock=sock))`` fits websockets, asyncssh,
    aiosmtpd and similar libraries. The drain calls ``close()``, then awaits ``wait_closed()`` if
    there is one.
    """

    def __init__(
        self, serve: Callable[[socket.socket], Any], *, on_drain: OnDrain | None = None
    ) -> None:
        self._serve, self._on_drain = serve, on_drain
        self.servers: list[Any] = []  # what the library returned, kept alive

    async def start(self, sock: socket.socket) -> None:
        """Let the library accept on ``sock``."""
        served = self._serve(sock)
        self.servers.append(await served if inspect.isawaitable(served) else served)

    async def drain(self, deadline: float) -> None:
        """Call ``on_drain``, close the library's servers, and wait for them until ``deadline``."""
        await _call_on_drain(self._on_drain, self)
        for server in self.servers:
            closing = server.close()
            if inspect.isawaitable(closing):
                await closing
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                for server in self.servers:
                    if wait := getattr(server, "wait_closed", None):
                        await wait()


def _is_factory(serve: object) -> bool:
    """Return whether ``serve`` makes protocols, rather than handles a connection."""
    if callable(serve):
        try:
            signature = inspect.signature(serve)
        except ValueError:  # a class in C
            return True
        if not inspect.iscoroutinefunction(serve):
            with contextlib.suppress(TypeError):
                signature.bind()
                return True
        with contextlib.suppress(TypeError):
            signature.bind(None, None)
            return False
    raise ConfigError(
        "StreamServer needs async def handle(reader, writer), or a function without arguments "
        f"that returns a protocol; got {serve!r}"
    )


async def _call_on_drain(on_drain: OnDrain | None, server: object) -> None:
    result = on_drain(server) if on_drain else None
    if inspect.isawaitable(result):
        await result
