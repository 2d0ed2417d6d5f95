"""The servers of other protocols, on real sockets: on_drain, then the end that each has."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from aiohttp import web

import api_hour
from api_hour.container import ServerOptions
from api_hour.exceptions import ConfigError
from testkit.waiting import until_async
from testkit.wire import LOOPS, run_on

Run = Callable[[Coroutine[Any, Any, None]], None]
SOON = 30.0  # seconds that anything may take


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Return a function that runs a scenario on one of the event loops."""
    return lambda scenario: run_on(request.param, scenario)


def listening(kind: socket.SocketKind = socket.SOCK_STREAM) -> tuple[socket.socket, int]:
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind(("127.0.0.1", 0))
    if kind is socket.SOCK_STREAM:
        sock.listen()
    sock.setblocking(False)
    return sock, sock.getsockname()[1]


def deadline(seconds: float = SOON) -> float:
    return asyncio.get_running_loop().time() + seconds


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()


def close_all(server: api_hour.StreamServer) -> None:
    for transport in cast(list[asyncio.Transport], list(server.transports)):
        transport.write(b"bye\n")
        transport.close()


async def close_all_later(server: api_hour.StreamServer) -> None:
    await asyncio.sleep(0)
    close_all(server)


@pytest.mark.parametrize("on_drain", [close_all, close_all_later], ids=["plain", "async"])
def test_on_drain_tells_the_peers_of_a_stream(
    run: Run, on_drain: Callable[[api_hour.StreamServer], object]
) -> None:
    async def scenario() -> None:
        server = api_hour.StreamServer(echo, on_drain=on_drain)
        sock, port = listening()
        await server.start(sock)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"line\n")
        assert await reader.readline() == b"line\n"
        await server.drain(deadline())
        assert await reader.read() == b"bye\n"
        assert server.transports == set()
        writer.close()

    run(scenario())


def test_a_handler_that_overstays_the_deadline_is_cancelled(run: Run) -> None:
    async def scenario() -> None:
        entered, cancelled = asyncio.Event(), asyncio.Event()

        async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        server = api_hour.StreamServer(endless)
        sock, port = listening()
        await server.start(sock)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await entered.wait()
        await server.drain(deadline(0.05))
        assert cancelled.is_set()
        with contextlib.suppress(ConnectionError):  # it was aborted
            assert await reader.read() == b""
        writer.close()

    run(scenario())


def test_a_handler_that_forgets_to_close_is_closed_for(run: Run) -> None:
    async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")

    async def scenario() -> None:
        server = api_hour.StreamServer(greeting)
        sock, port = listening()
        await server.start(sock)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b"hello\n"
        writer.close()
        await server.drain(deadline())

    run(scenario())


class Answering(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.transport.sendto(data.upper(), address)


def test_a_datagram_server_answers_until_it_drains(run: Run) -> None:
    async def scenario() -> None:
        drained: list[object] = []
        server = api_hour.DatagramServer(Answering, on_drain=drained.append)
        sock, port = listening(socket.SOCK_DGRAM)
        await server.start(sock)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(("127.0.0.1", port))
            await loop.sock_sendall(client, b"word")
            assert await loop.sock_recv(client, 100) == b"WORD"
        await server.drain(deadline())
        assert drained == [server]
        assert all(transport.is_closing() for transport in server.transports)

    run(scenario())


def test_a_library_that_takes_a_socket_is_closed_and_waited_for(run: Run) -> None:
    async def scenario() -> None:
        order: list[str] = []

        class Library:
            async def close(self) -> None:
                order.append("close")

            async def wait_closed(self) -> None:
                order.append("wait_closed")

        server = api_hour.SocketServer(
            lambda sock: Library(), on_drain=lambda server: order.append("on_drain")
        )
        with socket.socket() as sock:
            await server.start(sock)
        await server.drain(deadline())
        assert order == ["on_drain", "close", "wait_closed"]

    run(scenario())


def test_a_library_that_never_ends_is_left_at_the_deadline(run: Run) -> None:
    async def scenario() -> None:
        class Library:
            def close(self) -> None:
                pass

            async def wait_closed(self) -> None:
                await asyncio.Event().wait()

        async def serve(sock: socket.socket) -> Library:
            return Library()

        server = api_hour.SocketServer(serve)
        with socket.socket() as sock:
            await server.start(sock)
        async with asyncio.timeout(SOON):
            await server.drain(deadline(0.05))

    run(scenario())


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def last_words(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"x" * (8 << 20))


class Flood(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(b"x" * (8 << 20))


@pytest.mark.parametrize("serve", [flood, last_words, Flood])
def test_a_peer_that_does_not_read_is_cut_off(run: Run, serve: Any) -> None:
    async def scenario() -> None:
        server = api_hour.StreamServer(serve, send_timeout=0.2)
        sock, port = listening()
        await server.start(sock)
        with socket.create_connection(("127.0.0.1", port)) as peer:
            await until_async(lambda: server.transports)
            await until_async(lambda: not server.transports)
            with pytest.raises(ConnectionResetError):
                _read_all(peer)
        await server.drain(deadline())

    run(scenario())


def _read_all(peer: socket.socket) -> None:
    while peer.recv(1 << 20):
        pass


class Broken(asyncio.Protocol):
    """A protocol whose class or instance fails at its first connections."""

    left = 0

    def __init__(self, error: BaseException, in_init: bool) -> None:
        self.error, self.in_init = error, in_init
        if in_init:
            self._fail()

    def _fail(self) -> None:
        if Broken.left:
            Broken.left -= 1
            raise self.error

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self.in_init:
            self._fail()
        cast(asyncio.Transport, transport).write(b"served\n")


@pytest.mark.parametrize("in_init", [True, False], ids=["factory", "connection_made"])
@pytest.mark.parametrize(
    "error", [ValueError("mine"), OSError("mine"), SystemExit("mine")], ids=repr
)
def test_a_protocol_that_fails_loses_its_connection_only(
    run: Run, caplog: pytest.LogCaptureFixture, error: BaseException, in_init: bool
) -> None:
    async def scenario() -> None:
        Broken.left = 2
        server = api_hour.StreamServer(lambda: Broken(error, in_init))
        server.options = ServerOptions(max_connections=1)
        sock, port = listening()
        await server.start(sock)
        for expected in (b"", b"", b"served\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.timeout(SOON):
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.readline() == expected
            writer.close()
        await server.drain(deadline())
        assert server.transports == set()

    run(scenario())
    told = [r for r in caplog.records if r.name == "api_hour.servers.protocols"]
    assert len(told) == 2
    assert all(r.exc_info and r.exc_info[1] is error for r in told)


def test_a_handler_that_exits_ends_its_connection_only(run: Run) -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise SystemExit(2)

    async def scenario() -> None:
        server = api_hour.StreamServer(leave)
        sock, port = listening()
        await server.start(sock)
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: errors.append(context["exception"])
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        await server.drain(deadline())
        assert [repr(error) for error in errors] == [
            "RuntimeError('The handler raised SystemExit(2)')"
        ]

    run(scenario())


class Echo:
    """A handler that is an object."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await echo(reader, writer)


@pytest.mark.parametrize(
    "handler",
    [echo, Echo(), functools.partial(echo), lambda reader, writer: echo(reader, writer)],
    ids=["function", "object", "partial", "wrapper"],
)
def test_whatever_takes_a_reader_and_a_writer_is_a_handler(run: Run, handler: Any) -> None:
    async def scenario() -> None:
        sock, port = listening()
        server = api_hour.StreamServer(handler)
        await server.start(sock)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        assert await asyncio.wait_for(reader.readline(), SOON) == b"hello\n"
        writer.close()
        await server.drain(deadline())

    run(scenario())


@pytest.mark.parametrize(
    "serve",
    [None, asyncio.Protocol(), lambda reader: None, "echo"],
    ids=["nothing", "protocol", "one argument", "text"],
)
def test_what_neither_handles_nor_makes_a_protocol_is_refused(serve: Any) -> None:
    with pytest.raises(ConfigError, match=r"StreamServer needs async def handle.*; got"):
        api_hour.StreamServer(serve)


def test_a_server_of_the_other_kind_of_socket_is_refused(run: Run) -> None:
    async def scenario() -> None:
        app = web.Application()
        datagrams = cast(Any, asyncio.DatagramProtocol)
        for server, kind, cure in (
            (api_hour.HTTPServer(app), socket.SOCK_DGRAM, "give the listener a tcp:// or unix:"),
            (api_hour.StreamServer(echo), socket.SOCK_DGRAM, "give the listener a tcp:// or unix:"),
            (api_hour.DatagramServer(datagrams), socket.SOCK_STREAM, "a udp:// or unixgram: addr"),
        ):
            with listening(kind)[0] as sock, pytest.raises(ConfigError, match=cure):
                await cast(api_hour.Server, server).start(sock)

    run(scenario())
