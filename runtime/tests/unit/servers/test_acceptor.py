"""The acceptor: everyone gets in, in turn, as many at once as were asked for, and no busy loop."""

import asyncio
import gc
import resource
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any

import pytest
import trustme

from api_hour.logs import rate_limit
from api_hour.servers import acceptor as module
from api_hour.servers.acceptor import BURST_GAP, EXHAUSTED_PAUSE, Acceptor
from testkit.wire import LOOPS, run_on


class Echo(asyncio.Protocol):
    """Echo, and tell the acceptor of the end."""

    def __init__(self) -> None:
        self.acceptor: Acceptor | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        assert self.acceptor is not None
        self.acceptor.release()


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answered(self, timeout: float = 30) -> bool:
        """Return whether an echo comes within ``timeout`` seconds."""
        self.writer.write(b"?")
        try:
            async with asyncio.timeout(timeout):
                return await self.reader.readexactly(1) == b"?"
        except TimeoutError:
            return False


@asynccontextmanager
async def accepting(
    limit: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Acceptor, int]]:
    def make() -> Echo:
        protocol = Echo()
        protocol.acceptor = acceptor
        return protocol

    acceptor = Acceptor(make, limit=limit, tls=tls)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    acceptor.add(sock)
    yield acceptor, sock.getsockname()[1]
    await acceptor.close()


async def connect(port: int) -> Peer:
    return Peer(*await asyncio.open_connection("127.0.0.1", port))


def test_above_the_limit_connections_wait_and_are_never_refused() -> None:
    async def scenario() -> None:
        async with accepting(limit=2) as (_, port):
            first, second, third = [await connect(port) for _ in range(3)]
            assert await first.answered()
            assert await second.answered()
            assert not await third.answered(0.2)
            first.writer.close()
            async with asyncio.timeout(30):
                assert await third.reader.readexactly(1) == b"?"
            for peer in (second, third):
                peer.writer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("quiet", "steps"), [(BURST_GAP, [*range(1, 10)]), (0.0, [1] * 45)], ids=["burst", "one by one"]
)
def test_a_burst_is_taken_by_one_more_each_turn(
    quiet: float, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> list[int]:
        async with accepting() as (acceptor, port):
            clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(45)]
            counts = [0]
            while counts[-1] < len(clients):
                await asyncio.sleep(0)
                counts.append(acceptor._open)
            for client in clients:
                client.close()
            await acceptor.emptied(asyncio.get_running_loop().time() + 30)
        return [after - before for before, after in pairwise(counts) if after > before]

    monkeypatch.setattr(module, "BURST_GAP", quiet)
    assert asyncio.run(scenario()) == steps


def test_what_is_queued_when_it_closes_is_still_accepted() -> None:
    async def scenario() -> None:
        async with accepting() as (acceptor, port):
            clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
            await acceptor.close()  # the loop had no turn to accept any of them
            for client in clients:
                client.setblocking(False)
                await asyncio.get_running_loop().sock_sendall(client, b"!")
                assert await asyncio.get_running_loop().sock_recv(client, 1) == b"!"
                client.close()
            async with asyncio.timeout(30):
                await acceptor.emptied(asyncio.get_running_loop().time() + 30)

    asyncio.run(scenario())


def test_without_descriptors_it_rests_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with accepting() as (_, port):
            served = await connect(port)
            assert await served.answered()
            waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (waiting[-1].fileno() + 1, hard))
            try:
                async with asyncio.timeout(30):
                    while "Cannot accept for now" not in caplog.text:
                        await asyncio.sleep(EXHAUSTED_PAUSE / 10)
                turns = len(caplog.records)
                limited = rate_limit.counts.copy()
                assert await served.answered()
                await asyncio.sleep(EXHAUSTED_PAUSE * 2)
                assert len(caplog.records) - turns <= 4
                assert rate_limit.counts == limited  # a busy loop would log thousands
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for client in waiting:
                client.setblocking(False)
                await asyncio.get_running_loop().sock_sendall(client, b"!")
                assert await asyncio.get_running_loop().sock_recv(client, 1) == b"!"
                client.close()
            served.writer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_factory_that_raises_costs_no_place_among_the_connections(loop: str) -> None:
    async def scenario() -> None:
        def make() -> asyncio.Protocol:
            raise ZeroDivisionError("the project's own")

        unhandled: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: unhandled.append(context)
        )
        acceptor = Acceptor(make, limit=1)
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        acceptor.add(sock)
        for _ in range(3):  # which the limit would not let in
            peer = await connect(sock.getsockname()[1])
            with suppress(ConnectionError):
                assert await peer.reader.read() == b""
            peer.writer.close()
        assert acceptor.open == 0
        await acceptor.close()
        gc.collect()
        assert [repr(context["exception"]) for context in unhandled] == [
            repr(ZeroDivisionError("the project's own"))
        ] * 3

    run_on(loop, scenario())


def secure() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    return context


def test_a_handshake_that_stalls_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HANDSHAKE_TIMEOUT", 0.2)

    async def scenario() -> None:
        async with accepting(tls=secure()) as (acceptor, port):
            silent = await connect(port)
            half = await connect(port)
            half.writer.write(b"\x16\x03\x01\x02\x00\x01")  # of a ClientHello
            async with asyncio.timeout(30):
                assert await silent.reader.read() == await half.reader.read() == b""
            assert acceptor.open == 0
            for peer in (silent, half):
                peer.writer.close()

    asyncio.run(scenario())


def test_a_handshake_that_stalls_holds_up_no_drain() -> None:
    async def scenario() -> None:
        async with accepting(tls=secure()) as (acceptor, port):
            silent = await connect(port)
            while not acceptor.open:
                await asyncio.sleep(0)
            await acceptor.close()
            acceptor.give_up()
            await acceptor.emptied(asyncio.get_running_loop().time() + 30)
            assert acceptor.open == 0
            async with asyncio.timeout(30):
                assert await silent.reader.read() == b""
            silent.writer.close()

    asyncio.run(scenario())
