"""What a client alone causes is at most a few lines a minute, and leaves nothing behind."""

import asyncio
import os
import socket
import ssl
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
import trustme
from aiohttp import web

import api_hour
from api_hour.container import ServerOptions
from api_hour.http.connection import Connections
from api_hour.http.metrics import REFUSED
from api_hour.logs.rate_limit import MOST
from testkit.waiting import until_async
from testkit.wire import LOOPS, ours, request, run_on

TIMES = MOST + 5
RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER: close by RST
HALF_HELLO = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(60)
DISPOSITIONS = "form-data; ={}", ";{}", '"{}', "form-data; name=a; a{}*=x", "form-data; x@{}=1"
UPGRADE = (
    *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
    *("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: unknown"),
)


async def late(request: web.Request) -> web.Response:
    async with asyncio.timeout(0):
        await asyncio.sleep(60)
    raise AssertionError


async def gone(request: web.Request) -> web.Response:
    raise web.HTTPGatewayTimeout


async def form(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.post())))


async def cookies(request: web.Request) -> web.Response:
    return web.Response(text=str(len(request.cookies)))


async def talk(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse(protocols=["known"])
    await websocket.prepare(request)
    await websocket.receive_str()
    return websocket


async def read_record(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.readexactly(10)


def application() -> web.Application:
    app = web.Application()
    for endpoint in (late, gone, form, cookies, talk):
        app.router.add_route("*", f"/{endpoint.__name__}", endpoint)
    return app


def multipart(number: int) -> Iterator[bytes]:
    for disposition in DISPOSITIONS:
        header = f"Content-Disposition: {disposition.format(number)}"
        body = f"--b\r\n{header}\r\n\r\nx\r\n--b--\r\n".encode()
        kind = "Content-Type: multipart/form-data; boundary=b"
        yield request("/form", kind, f"Content-Length: {len(body)}", method="POST") + body


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
def test_requests_that_fail_by_their_client_are_told_a_few_times(
    loop: str, fast: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            for number in range(TIMES):
                for data in multipart(number):
                    await service.ask(data)
                await service.ask(request("/late"))
                await service.ask(request("/gone"))
                await service.ask(request("/cookies", f"Cookie: a@{number}=b; \\{number}; =; x"))
                await service.ask(request("/talk", *UPGRADE) + b"\x82\x80abcd")
                await service.ask(b"GARBAGE\r\n\r\n")

    with warnings.catch_warnings(record=True) as warned:
        warnings.resetwarnings()
        run_on(loop, scenario())
    assert not {"BadContentDispositionHeader", "BadContentDispositionParam"} & {
        warning.category.__name__ for warning in warned
    }
    told = Counter((record.name, str(record.msg)[:30]) for record in caplog.records)
    # A form without a name and a wrong message fail at two lines, and a late endpoint at none.
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len([record for record in tracebacks if record.name == "aiohttp.server"]) <= 4 * MOST
    assert max(number for kind, number in told.items() if kind[0] != "aiohttp.server") <= MOST


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost").configure_cert(context)
    return context


AUTHORITY = trustme.CA()
TRUSTING = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
AUTHORITY.configure_trust(TRUSTING)


@asynccontextmanager
async def serving(server: api_hour.HTTPServer | api_hour.StreamServer) -> AsyncIterator[int]:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    await server.start(sock)
    try:
        yield sock.getsockname()[1]
    finally:
        await server.drain(asyncio.get_running_loop().time())


async def throw(port: int, data: bytes) -> None:
    """Send bytes and cut the connection."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock, suppress(OSError):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, data)
        async with asyncio.timeout(0.01):
            await loop.sock_recv(sock, 1)


async def spoil(port: int, garbage: bytes) -> None:
    """Shake hands, ask, write what is not TLS into the connection, and leave."""
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=TRUSTING, server_hostname="localhost"
    )
    writer.write(request("/gone"))
    await asyncio.sleep(0)
    os.write(writer.get_extra_info("socket").fileno(), garbage)
    writer.transport.abort()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["http", "stream"])
def test_garbage_to_a_tls_port_is_not_told_and_leaves_no_connection(
    loop: str, kind: str, tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        server: api_hour.HTTPServer | api_hour.StreamServer
        server = api_hour.HTTPServer(application())
        if kind == "stream":
            server = api_hour.StreamServer(read_record)
        server.options = ServerOptions(tls=tls, drain_idle=0, metrics=True, listener=loop)
        async with serving(server) as port:
            for data in (request("/gone"), os.urandom(200), HALF_HELLO, b"") * 3:
                await throw(port, data)
            for garbage in (b"", b"what is not TLS" * 10) * TIMES:
                await spoil(port, garbage)
            if isinstance(server, api_hour.StreamServer):
                acceptor = server._acceptor
            else:
                acceptor = server._connections.acceptor if server._connections else None
            assert acceptor is not None
            await until_async(lambda: acceptor.open == 0)
            assert isinstance(server, api_hour.StreamServer) or not _open(server._connections)

    run_on(loop, scenario())
    if kind == "http":
        assert caplog.messages == []
        assert REFUSED.labels(loop)._value.get() == 12
    assert len(caplog.records) <= 3 * MOST  # that a record was cut is the handler's own exception


def _open(connections: Connections | None) -> int:
    return len(connections.open) if connections is not None else -1
