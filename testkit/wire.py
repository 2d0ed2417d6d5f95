"""Bytes into a server and out of it, over socket pairs, in the event loop of the server."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

import uvloop
from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE

import api_hour
from api_hour.container import ServerOptions
from testkit.waiting import TIMEOUT

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
QUIET = 12  # turns of the loop without a byte, after which the server has nothing more to send
DATE = re.compile(rb"\r\nDate: [^\r]+")
SOFTWARE = f"\r\nServer: {SERVER_SOFTWARE}".encode()  # what we send is shorter, on purpose

Heard = tuple[bytes, bool]  # the bytes received, and whether the server closed


def run_on(name: str, scenario: Coroutine[Any, Any, None]) -> None:
    """Run a scenario on the event loop of that name."""
    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        runner.run(asyncio.wait_for(scenario, TIMEOUT))


class Peer:
    """The client's end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.heard = b""
        self.closed = False

    async def send(self, data: bytes) -> None:
        """Send all of ``data``, even if the server has closed."""
        with contextlib.suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    def listen(self) -> bool:
        """Read what has arrived; tell whether that was anything."""
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return False
        except ConnectionError:
            data = b""
        news = bool(data) or not self.closed
        self.heard += data
        self.closed = self.closed or not data
        return news

    async def settle(self, turns: int = QUIET) -> Heard:
        """Read until nothing arrives for that many turns of the loop."""
        quiet = 0
        while quiet < turns:
            await asyncio.sleep(0)
            quiet = 0 if self.listen() else quiet + 1
        return undated(self.heard), self.closed

    async def until(self, reached: Callable[["Peer"], bool]) -> None:
        """Read until ``reached(self)``, however long it takes."""
        while not reached(self):
            self.listen()
            await asyncio.sleep(0)

    async def ask(self, *pieces: bytes) -> Heard:
        """Send the pieces one after the other; return everything that came."""
        for piece in pieces:
            await self.send(piece)
            await self.settle()
        return await self.settle()

    async def get(self, path: str, *headers: str) -> bytes:
        """Send a GET; return the whole response."""
        before = len(self.heard)
        await self.send(request(path, *headers))
        await self.until(lambda peer: len(peer.heard) > before or peer.closed)
        await self.settle()
        return self.heard[before:]


class Memory(asyncio.Transport):
    """The server's end of a connection without a socket; it keeps what is sent."""

    def __init__(self, factory: Callable[[], Any]) -> None:
        super().__init__()
        self.heard, self.closed = b"", False
        self.protocol = factory()
        self.protocol.connection_made(self)

    def receive(self, data: bytes) -> None:
        """Let the server receive ``data``, unless it has closed."""
        if data and not self.closed:
            self.protocol.data_received(data)

    def write(self, data: Any) -> None:
        """Keep what the server sends."""
        self.heard += bytes(data)

    def close(self) -> None:
        """Close the connection, as either end may."""
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        """Return whether an end has closed."""
        return self.closed

    def get_write_buffer_size(self) -> int:
        """Return 0: the peer has read everything."""
        return 0

    def pause_reading(self) -> None:
        """Do nothing: the peer sends little."""

    def resume_reading(self) -> None:
        """Do nothing."""


class Service:
    """A server, as a factory of protocols."""

    def __init__(self, factory: Callable[[], Any], port: int = 0) -> None:
        self.factory, self.port = factory, port
        self.peers: list[Peer] = []

    async def connect(self) -> Peer:
        """Open a connection."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(self.factory, theirs)
        self.peers.append(Peer(ours))
        return self.peers[-1]

    async def ask(self, *pieces: bytes) -> Heard:
        """Send the pieces on a new connection, and close it."""
        peer = await self.connect()
        heard = await peer.ask(*pieces)
        peer.sock.close()
        await peers_leave()
        self.peers.remove(peer)
        return heard

    async def ask_at_cuts(self, data: bytes, cuts: Iterable[int]) -> dict[int, Heard]:
        """Send ``data`` in two pieces, cut at each of ``cuts``, on a connection of its own each."""
        ends = {cut: Memory(self.factory) for cut in cuts}
        loop = asyncio.get_running_loop()
        for first in (True, False):
            for cut, end in ends.items():
                piece = data[:cut] if first else data[cut:]
                loop.call_soon(end.receive, piece)  # not in a task: no transport does that
            quiet, before = 0, -1
            while quiet < QUIET:
                await asyncio.sleep(0)
                now = sum(len(end.heard) + end.closed for end in ends.values())
                quiet, before = quiet + 1 if now == before else 0, now
        heard = {cut: (undated(end.heard), end.closed) for cut, end in ends.items()}
        for end in ends.values():
            end.close()
        return heard

    async def hang_up(self) -> None:
        """Close every connection."""
        for peer in self.peers:
            peer.sock.close()
        await peers_leave()

    @property
    def connections(self) -> Any:
        """Return what our server shares between its connections."""
        return cast(Any, self.factory)


async def peers_leave() -> None:
    """Give the server the turns of the loop in which it notices that a peer has closed."""
    for _ in range(3):
        await asyncio.sleep(0)


def undated(heard: bytes) -> bytes:
    """Return answers without what differs from server to server, and from second to second."""
    return DATE.sub(b"\r\nDate: now", heard).replace(SOFTWARE, b"\r\nServer: api_hour")


@asynccontextmanager
async def ours(app: web.Application, **handler_args: Any) -> AsyncIterator[Service]:
    """Serve ``app`` with HTTPServer."""
    options = {
        name: handler_args.pop(name)
        for name in (
            *("fast", "access_log", "access_log_skip", "metrics", "proxy_headers"),
            *("trusted_proxies", "hosts"),
        )
        if name in handler_args
    }
    server = api_hour.HTTPServer(app, **handler_args)
    server.options = ServerOptions(**options, drain_idle=0)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    await server.start(sock)
    service = Service(cast(Any, server._connections), sock.getsockname()[1])
    await peers_leave()
    try:
        yield service
    finally:
        await service.hang_up()
        await server.drain(asyncio.get_running_loop().time())


@asynccontextmanager
async def theirs(app: web.Application, **handler_args: Any) -> AsyncIterator[Service]:
    """Serve ``app`` with aiohttp alone."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, **handler_args)
    await runner.setup()
    service = Service(cast(Any, runner.server))
    try:
        yield service
    finally:
        await service.hang_up()
        await runner.cleanup()


def request(target: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    """Return a request without a body, or the head of one with a body."""
    lines = [f"{method} {target} HTTP/{version}", "Host: test", *headers, "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


def with_body(target: str, body: bytes, *headers: str, method: str = "POST") -> bytes:
    """Return a request with a body."""
    return request(target, f"Content-Length: {len(body)}", *headers, method=method) + body


def chunked(target: str, chunks: Iterable[bytes], *headers: str) -> bytes:
    """Return a request with a chunked body."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return (
        request(target, "Transfer-Encoding: chunked", *headers, method="POST") + body + b"0\r\n\r\n"
    )
