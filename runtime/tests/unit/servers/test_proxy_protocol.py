"""The PROXY protocol: the client is whom a trusted proxy names, and nobody else is let in."""

import asyncio
import ipaddress
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

import api_hour
from api_hour.container import ServerOptions
from api_hour.logs import rate_limit
from api_hour.servers import acceptor, proxy_protocol
from testkit.wire import LOOPS, run_on

SIGNATURE = proxy_protocol.SIGNATURE
CLIENT = socket.inet_aton("192.0.2.7")
LOCAL = socket.inet_aton("127.0.0.1")
CLIENT6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7")
EXTENSION = b"\x04\x00\x03abc"  # PP2_TYPE_NOOP
ASK = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


def version_2(command: int, family: int, data: bytes, version: int = 2) -> bytes:
    return SIGNATURE + struct.pack("!BBH", version << 4 | command, family, len(data)) + data


TCP4 = CLIENT + LOCAL + struct.pack("!HH", 4711, 80)
TCP6 = CLIENT6 * 2 + struct.pack("!HH", 4711, 80)
GOOD = {
    "v1": (b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n", "192.0.2.7"),
    "v1, IPv6": (b"PROXY TCP6 2001:db8::7 2001:db8::8 4711 80\r\n", "2001:db8::7"),
    "v1, the longest": (
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535".ljust(105) + b"\r\n",
        "127.0.0.1",
    ),
    "v1, unknown": (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    "v2": (version_2(1, 0x11, TCP4), "192.0.2.7"),
    "v2, IPv6": (version_2(1, 0x21, TCP6), "2001:db8::7"),
    "v2, with extensions": (version_2(1, 0x11, TCP4 + EXTENSION * 100), "192.0.2.7"),
    "v2, IPv4 as IPv6 maps it": (
        version_2(1, 0x21, b"\0" * 10 + b"\xff\xff" + CLIENT + CLIENT6 + TCP6[-4:]),
        "192.0.2.7",
    ),
    "v2, unix": (version_2(1, 0x31, b"/run/a".ljust(108, b"\0") * 2), "/run/a"),
    "v2, unix, odd": (
        version_2(1, 0x31, b'\0a" \x1b\xff\xe2\x80\xae'.ljust(108, b"\0") * 2),
        "%00a%22%20%1B%FF%E2%80%AE",
    ),
    "v2, local": (version_2(0, 0x11, TCP4), "127.0.0.1"),
    "v2, local without addresses": (version_2(0, 0, b""), "127.0.0.1"),
    "v2, unspecified": (version_2(1, 0, b""), "127.0.0.1"),
    "v2, unspecified with more": (version_2(1, 0, EXTENSION), "127.0.0.1"),
}
BAD = {
    "none": ASK,
    "other": b"PROXX TCP4 192.0.2.7 127.0.0.1 4711 80\r\n",
    "v1, no end": b"PROXY TCP4 " + b"1" * 200,
    "v1, no return": b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\n",
    "v1, too few": b"PROXY TCP4 192.0.2.7 127.0.0.1 4711\r\n",
    "v1, two spaces": b"PROXY TCP4  192.0.2.7 127.0.0.1 4711 80\r\n",
    "v1, family": b"PROXY TCP6 192.0.2.7 127.0.0.1 4711 80\r\n",
    "v1, a name": b"PROXY TCP4 localhost 127.0.0.1 4711 80\r\n",
    "v1, port": b"PROXY TCP4 192.0.2.7 127.0.0.1 70000 80\r\n",
    "v1, no ASCII": b"PROXY TCP4 192.0.2.7 127.0.0.1 \xb2 80\r\n",
    "v2, version": version_2(1, 0x11, TCP4, 3),
    "v2, command": version_2(2, 0x11, TCP4),
    "v2, too few": version_2(1, 0x11, TCP4[:-1]),
    "v2, too many": SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 0xFFFF) + b"x" * 100,
}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Return a function that runs a scenario on one of the event loops."""
    return lambda scenario: run_on(request.param, scenario)


async def who(request: web.Request) -> web.Response:
    return web.Response(text=f"{request.remote}|{request.host}")


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    peer = writer.get_extra_info("peername")
    host = peer if isinstance(peer, str) else peer[0]
    writer.write(f"HTTP/1.1 200 OK\r\n\r\n{host}|test".encode())
    await writer.drain()


def http(**options: Any) -> api_hour.HTTPServer:
    app = web.Application()
    app.router.add_get("/", who)
    server = api_hour.HTTPServer(app)
    server.options = ServerOptions(drain_idle=0, **options)
    return server


def stream(**options: Any) -> api_hour.StreamServer:
    server = api_hour.StreamServer(handle)
    server.options = ServerOptions(**{name: options[name] for name in options if name != "fast"})
    return server


@asynccontextmanager
async def serving(make: Any, **options: Any) -> AsyncIterator[int]:
    """Serve on a port that speaks the PROXY protocol."""
    defaults = {"proxy_protocol": True, "trusted_proxies": ("127.0.0.0/8",)}
    server = make(**(defaults | options))
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    try:
        await server.start(sock)
        yield sock.getsockname()[1]
    finally:
        await server.drain(asyncio.get_running_loop().time())
        sock.close()  # of a server that did not start


async def ask(port: int, *pieces: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("make", [http, stream])
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
def test_the_client_is_whom_the_proxy_names(run: Any, fast: bool, make: Any) -> None:
    async def scenario() -> None:
        async with serving(make, fast=fast) as port:
            for name, (header, client) in GOOD.items():
                answer = await ask(port, header + ASK)
                assert answer.endswith(f"\r\n\r\n{client}|test".encode()), name

    run(scenario())


def test_a_header_may_come_in_pieces(run: Any) -> None:
    async def scenario() -> None:
        async with serving(http) as port:
            for name in ("v1", "v2"):
                header, client = GOOD[name]
                answer = await ask(port, *(bytes([byte]) for byte in header), ASK)
                assert answer.endswith(f"\r\n\r\n{client}|test".encode()), name

    run(scenario())


@pytest.mark.parametrize("make", [http, stream])
def test_anything_else_is_refused(run: Any, make: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with serving(make) as port:
            for name, header in BAD.items():
                assert await ask(port, header + ASK) == b"", name
            header, _ = GOOD["v1"]
            assert b"192.0.2.7" in await ask(port, header + ASK)

    run(scenario())
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == rate_limit.MOST  # not one for each of them
    assert warnings[0].startswith("Refused a connection of 127.0.0.1 (proxy_protocol): ")


def test_only_trusted_proxies_may_send_it(run: Any) -> None:
    async def scenario() -> None:
        header, _ = GOOD["v1"]
        async with serving(http, trusted_proxies=("10.0.0.0/8", "unix")) as port:
            assert await ask(port, header + ASK) == b""

    run(scenario())


def test_a_client_that_is_a_trusted_proxy_too_is_asked_for_its_own(run: Any) -> None:
    async def scenario() -> None:
        more = ASK.replace(b"Host", b"X-Forwarded-For: 198.51.100.1\r\nHost")
        header, _ = GOOD["v1"]
        async with serving(http, trusted_proxies=("127.0.0.1", "192.0.2.7")) as port:
            assert b"\r\n\r\n198.51.100.1|" in await ask(port, header + more)
        async with serving(http) as port:
            assert b"\r\n\r\n192.0.2.7|" in await ask(port, header + more)

    run(scenario())


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
def test_where_nobody_is_named_the_headers_are_not_a_proxys(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        more = b"X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\nHost"
        names_nobody = {name: case for name, case in GOOD.items() if case[1] == "127.0.0.1"}
        assert len(names_nobody) == 6
        async with serving(http, fast=fast) as port:
            for name, (header, _) in names_nobody.items():
                answer = await ask(port, header + ASK.replace(b"Host", more))
                assert answer.endswith(b"\r\n\r\n127.0.0.1|test"), name

    run(scenario())


@pytest.mark.parametrize("data", [b"", b"PROXY TCP4 192", SIGNATURE], ids=["nothing", "v1", "v2"])
def test_a_header_that_does_not_come_is_waited_for_so_long(
    run: Any, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "HANDSHAKE_TIMEOUT", 0.1)

    async def scenario() -> None:
        async with serving(http) as port:
            assert await ask(port, data) == b""

    run(scenario())


def test_a_header_that_does_not_come_holds_up_no_drain(run: Any) -> None:
    async def scenario() -> None:
        async with serving(http) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0)
        assert await reader.read() == b""
        writer.close()

    run(scenario())


@pytest.mark.parametrize("make", [http, stream])
def test_a_listener_that_trusts_nobody_is_refused_with_the_cure(run: Any, make: Any) -> None:
    async def scenario() -> None:
        with pytest.raises(
            api_hour.ConfigError,
            match=r"^listener web speaks the PROXY protocol, but no proxy is trusted: name",
        ):
            async with serving(make, listener="web", trusted_proxies=()):
                pass

    run(scenario())


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21"]))
def test_no_bytes_make_anything_but_addresses_or_a_refusal(data: bytes, start: bytes) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            ours.sendall(start + data)
            ours.shutdown(socket.SHUT_WR)
            try:
                await proxy_protocol.read(theirs)
            except proxy_protocol.ProxyProtocolError:
                return

    asyncio.run(scenario())


WORDS = st.sampled_from(
    [
        *(b"PROXY", b"TCP4", b"TCP6", b"UNKNOWN", b"192.0.2.1", b"2001:db8::1", b"::ffff:1.2.3.4"),
        *(
            b"80",
            b"65536",
            b"-1",
            b"0",
            b"",
            b"\xd9\xa1",
            b"1e3",
            b"127.1",
            b"::1%lo",
            b"\r",
            b"\0",
        ),
    ]
)
VERSION_1 = st.lists(WORDS, max_size=7).map(lambda words: b" ".join([b"PROXY", *words]) + b"\r\n")
VERSION_2 = st.builds(
    lambda head, family, data, claimed: (
        SIGNATURE + bytes([head, family]) + (claimed or len(data)).to_bytes(2, "big") + data
    ),
    st.sampled_from([0x20, 0x21, 0x22, 0x11, 0x2F, 0]),
    st.sampled_from([0, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32, 0xFF]),
    st.binary(max_size=300),
    st.sampled_from([0, 0, 0, 0, 1, 12, 36, 216, 4096, 4097, 65535]),
)


@settings(max_examples=2 * settings().max_examples)
@given(VERSION_1 | VERSION_2, st.binary(max_size=20))
def test_a_header_of_parts_makes_addresses_or_a_refusal_and_no_byte_more_is_read(
    header: bytes, rest: bytes
) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            ours.sendall(header + rest)
            ours.shutdown(socket.SHUT_WR)
            try:
                found = await proxy_protocol.read(theirs)
            except proxy_protocol.ProxyProtocolError:
                return
            left = theirs.recv(65536)
            assert (header + rest).endswith(left)
            assert len(left) >= len(rest) or header[14:16] != len(header[16:]).to_bytes(2, "big")
            if found is not None and isinstance(found.peer, tuple):
                for host, port, *_ in (found.peer, found.local):
                    ipaddress.ip_address(host)
                    assert 0 <= port <= 65535

    asyncio.run(scenario())
