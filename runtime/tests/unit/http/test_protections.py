"""What a hostile client costs is bounded: memory, and the time that it holds a connection."""

import asyncio
import contextlib
import gc
import logging
import re
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
from aiohttp import web

import api_hour
from api_hour.http.request import MAX_PREAMBLE
from api_hour.http.request_checks import MAX_SEGMENTS
from runtime.tests.unit.http.endpoints import application, soon
from testkit.wire import LOOPS, Peer, chunked, ours, peers_leave, request, run_on, with_body

MANY = 100_000  # requests
MIB = 1 << 20
PIECE = 4096  # bytes
SOON = 0.5  # seconds; ten times what a busy machine takes to connect and ask


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Return a function that runs a scenario on one of the event loops."""
    return lambda scenario: run_on(request.param, scenario)


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def fast(request: pytest.FixtureRequest) -> bool:
    """Return whether the fast path is on."""
    return bool(request.param)


def statuses(heard: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d\d\d) ", heard)]


@contextlib.contextmanager
def at_most(limit: int) -> Iterator[None]:
    """Check how much memory Python held at the most."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit, f"{peak / MIB:.1f} MiB"


async def push(peer: Peer, data: bytes) -> int:
    """Send as much of ``data`` as the server takes; return how much that was."""
    sent = quiet = 0
    view = memoryview(data)
    while sent < len(data) and quiet < 50:
        try:
            sent += peer.sock.send(view[sent : sent + 65536])
            quiet = 0
        except BlockingIOError:
            quiet += 1
        except ConnectionError:
            break
        await asyncio.sleep(0)
    return sent


def test_pipelined_requests_whose_answers_nobody_reads_are_not_taken(run: Any, fast: bool) -> None:
    data = request("/json") * MANY

    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            peer = await service.connect()
            with at_most(8 * MIB):
                sent = await push(peer, data)
            assert sent < 3 * MIB < len(data)
            assert service.connections.requests_count < MANY / 2

    run(scenario())


def test_pipelined_requests_are_all_answered_in_the_end(run: Any, fast: bool) -> None:
    count = 2000

    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            peer = await service.connect()
            data, sent, answered = request("/hello/x") * count + request("/hello/last"), 0, 0
            while not peer.heard.endswith(b"/hello/last"):
                sent += await push(peer, data[sent:])
                peer.listen()
                await asyncio.sleep(0)
                answered = peer.heard.count(b"HTTP/1.1 200 OK")
            assert answered == count + 1

    run(scenario())


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"GET /", b"414"),
        (b"POST /json?", b"414"),
        (b"GET /json HTTP/1.1\r\nHost: test\r\nX-A: ", b"431"),
        (b"GET /json HTTP/1.1\r\nHost: test\r\nX-A", b"431"),
    ],
    ids=["target", "query", "value", "name"],
)
def test_a_line_without_an_end_is_refused(
    run: Any, fast: bool, start: bytes, status: bytes
) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            peer = await service.connect()
            with at_most(2 * MIB):
                await peer.send(start)
                sent = 0
                while not peer.closed and sent < 10 * MIB:
                    sent += await push(peer, b"x" * PIECE)
                    await peer.settle(3)
            assert peer.heard.startswith(b"HTTP/1.1 " + status)
            assert sent <= 8 * PIECE

    run(scenario())


def test_headers_without_an_end_are_refused(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            peer = await service.connect()
            await peer.send(b"GET /json HTTP/1.1\r\nHost: test\r\n")
            sent = 0
            while not peer.closed and sent < 1000:
                sent += 1
                await peer.send(b"X-%d: 1\r\n" % sent)
                await peer.settle(3)
            assert peer.heard.startswith(b"HTTP/1.1 431 ")
            assert sent <= 200

    run(scenario())


@pytest.mark.parametrize("start", [b"", b"G", b"GET /json HTTP/1.1\r\nHost: test\r\nX-A"])
def test_a_connection_without_a_first_request_is_closed(run: Any, fast: bool, start: bytes) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast, header_timeout=SOON) as service:
            silent, other = await service.connect(), await service.connect()
            assert b"200 OK" in await other.get("/json")
            await silent.send(start)
            await silent.until(lambda peer: peer.closed)
            assert silent.heard == b""
            assert b"200 OK" in await other.get("/json")

    run(scenario())


@pytest.mark.parametrize(
    "data",
    [request("/json"), with_body("/json", b"{}"), chunked("/json", [b"{}"])],
    ids=["get", "body", "chunked"],  # aiohttp's own loop serves the last one on the fast path too
)
def test_an_idle_connection_outlives_the_time_limit_of_a_first_request(
    run: Any, fast: bool, data: bytes
) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast, header_timeout=SOON) as service:
            idle = await service.connect()
            await idle.send(data)
            await idle.until(lambda peer: bool(peer.heard) or peer.closed)
            silent = await service.connect()
            await silent.until(lambda peer: peer.closed)
            await idle.settle()
            assert idle.heard.count(b"HTTP/1.1 20") == 1
            assert not idle.closed
            assert b"200 OK" in await idle.get("/json")

    run(scenario())


def test_a_second_request_that_never_ends_is_closed(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast, keepalive_timeout=SOON) as service:
            peer = await service.connect()
            await peer.send(request("/json") + b"GET /js")
            await peer.until(lambda peer: peer.closed)
            assert peer.heard.count(b"HTTP/1.1") == 1

    run(scenario())


def test_a_body_that_nobody_reads_is_not_taken(run: Any, fast: bool) -> None:
    gate = asyncio.Event()

    async def scenario() -> None:
        async def waiting(request: web.Request) -> web.Response:
            await gate.wait()
            return web.Response()

        app = web.Application(client_max_size=100 * MIB)
        app.router.add_post("/", waiting)
        async with ours(app, fast=fast) as service:
            peer = await service.connect()
            data = with_body("/", b"x" * 50 * MIB)
            with at_most(4 * MIB):
                sent = await push(peer, data)
            assert sent < 4 * MIB
            gate.set()
            await peers_leave()

    run(scenario())


def test_a_body_that_does_not_come_ends_with_the_connection(run: Any, fast: bool) -> None:
    async def unread(request: web.Request) -> web.Response:
        return web.Response(text="early")

    async def scenario() -> None:
        app = web.Application()
        app.router.add_post("/", unread)
        async with ours(app, fast=fast, lingering_time=SOON) as service:
            peer = await service.connect()
            await peer.send(with_body("/", b"x" * 100)[:-50])
            await peer.until(lambda peer: peer.closed)
            assert b"early" in peer.heard

    run(scenario())


@pytest.mark.parametrize(
    "path", ["/sneaky-header", "/sneaky-late", "/sneaky-name", "/sneaky-reason"]
)
def test_control_characters_never_reach_the_head_of_an_answer(
    run: Any, fast: bool, path: str
) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            heard, closed = await service.ask(request(path))
            assert b"X-B" not in heard
            assert b"\0" not in heard
            assert closed

    run(scenario())


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\0b", "a\r\n\r\nb"])
@pytest.mark.parametrize("place", ["name", "value", "reason", "cookie"])
def test_no_part_of_a_head_may_hold_them(run: Any, fast: bool, place: str, value: str) -> None:
    async def endpoint(request: web.Request) -> web.Response:
        if request.query:
            await soon()
        if place == "cookie":
            response = web.Response(text="x")
            response.cookies.load({"c": value})
            return response
        if place == "reason":
            return web.Response(text="x", reason=value)
        headers = {value: "x"} if place == "name" else {"X-A": value}
        return web.Response(text="x", headers=headers)

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/", endpoint)
        async with ours(app, fast=fast) as service:
            for path in ("/", "/?late=1"):
                heard, _ = await service.ask(request(path))
                assert value.encode() not in heard

    run(scenario())


@pytest.mark.parametrize(
    "data",
    [
        request("/json"),
        request("/own"),
        request("/stream"),
        request("/nothing"),
        request("/fails"),
        request("/json", "Host: two"),
        b"GARBAGE\r\n\r\n",
        request(
            "/socket", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"
        ),
    ],
    ids=["simple", "own", "stream", "404", "500", "400", "no HTTP", "upgrade"],
)
def test_no_answer_tells_versions(run: Any, fast: bool, data: bytes) -> None:
    async def json(request: web.Request) -> web.Response:
        return api_hour.JSON({})

    async def own(request: web.Request) -> web.Response:
        return web.Response(headers={"Server": "own"})

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        return response

    async def fails(request: web.Request) -> web.Response:
        raise ZeroDivisionError

    async def socket(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        return response

    async def scenario() -> None:
        app = web.Application()
        for endpoint in (json, own, stream, fails, socket):
            app.router.add_get(f"/{endpoint.__name__}", endpoint)
        async with ours(app, fast=fast) as service:
            peer = await service.connect()
            await peer.send(data)
            await peer.until(lambda peer: b"\r\n\r\n" in peer.heard)
            expected = b"own" if b"/own" in data else b"api_hour"
            assert re.findall(rb"Server: (.*)\r", peer.heard) == [expected]
            assert b"aiohttp" not in peer.heard
            assert b"Python" not in peer.heard

    run(scenario())


HOSTS = {  # by what the listener was asked for
    "ops.example": 200,
    "OPS.example.:8001": 200,
    "localhost": 200,
    "localhost:1": 200,
    "127.0.0.1": 200,
    "127.0.0.1:8001": 200,
    "[::1]": 200,
    "[fe80::1]:8001": 200,
    "[::ffff:127.0.0.1]": 200,
    "LOCALHOST.:8001": 200,
    "127.0.0.1:": 200,
    "evil.example": 421,
    "evil.example:8001": 421,
    "ops.example.evil.example": 421,
    "localhost.evil.example": 421,
    "127.0.0.1.evil.example": 421,
    "127.1": 421,
    "2130706433": 421,
    "127.0.0.1.nip.io": 421,
    "127.0.0.1.": 421,  # clients turn it, and the two above, into an address
    "rebound.localhost": 421,
    "xn--ops-example": 421,
    "127.0.0.1:1:1": 400,
    "127.0.0.1:evil.example": 400,
    "127.0.0.1:99999999": 400,
    "ops.example@127.0.0.1": 400,
    "evil.example, ops.example": 400,
    "\u0661.0.0.1": 400,
    "[fe80::1%25eth0]": 400,
    "[::1": 400,
    "": 400,
}
RAW_HOSTS = {  # what has a host elsewhere, in two places, or in none
    b"GET http://evil.example/json HTTP/1.1\r\nHost: ops.example\r\n\r\n": 421,
    b"GET http://ops.example/json HTTP/1.1\r\nHost: evil.example\r\n\r\n": 421,
    b"GET http://ops.example@evil.example/json HTTP/1.1\r\nHost: ops.example\r\n\r\n": 421,
    b"GET http://ops.example:8001/json HTTP/1.1\r\nHost: ops.example:8001\r\n\r\n": 200,
    b"GET //evil.example/json HTTP/1.1\r\nHost: ops.example\r\n\r\n": 404,
    b"GET /json HTTP/1.1\r\nHost: ops.example\r\nHost: evil.example\r\n\r\n": 400,
    b"GET /json HTTP/1.1\r\nX-Forwarded-Host: ops.example\r\nHost: evil.example\r\n\r\n": 421,
    b"GET /json HTTP/1.1\r\n\r\n": 400,
    b"GET /json HTTP/1.0\r\n\r\n": 200,  # HAProxy's default check; no browser sends it
    b"GET /json HTTP/1.0\r\nHost: evil.example\r\n\r\n": 421,
    b"CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80\r\n\r\n": 421,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 505,
    b"OPTIONS * HTTP/1.1\r\nHost: evil.example\r\n\r\n": 421,
    b"OPTIONS /json HTTP/1.1\r\nHost: ops.example\r\nOrigin: http://evil.example\r\n"
    b"Access-Control-Request-Method: POST\r\n\r\n": 405,
    b"GET /json HTTP/1.1\r\nHost: ops.example\r\nOrigin: http://evil.example\r\n\r\n": 200,
}


def test_only_the_hosts_of_a_listener_are_answered(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast, hosts=("ops.example",)) as service:
            peer = await service.connect()  # whose last host was another good one
            for host, status in HOSTS.items():
                if status == 200:
                    await peer.send(request("/json").replace(b"test", host.encode()))
                both = (request("/json") + request("/suspended")).replace(b"test", host.encode())
                heard, _ = await service.ask(both)
                expected = [200, 200] if status == 200 else [status]
                assert statuses(heard) == expected, host
            await peer.settle()
            assert statuses(peer.heard) == [200] * list(HOSTS.values()).count(200)
            upgrade = "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"
            heard, _ = await service.ask(request("/socket", *upgrade))
            assert heard.startswith(b"HTTP/1.1 421 ")

    run(scenario())


def test_no_request_has_another_host_than_the_one_that_is_checked(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast, hosts=("ops.example",)) as service:
            for data, status in RAW_HOSTS.items():
                heard, _ = await service.ask(data)
                assert int(heard[9:12]) == status, data
                assert b"access-control" not in heard.lower()

    run(scenario())


@pytest.mark.parametrize("path", ["/x", "/hello/x", "/%78"])
def test_a_path_of_very_many_segments_is_refused(run: Any, fast: bool, path: str) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            for count, status in ((MAX_SEGMENTS - 3, b"404"), (MAX_SEGMENTS, b"414")):
                heard, _ = await service.ask(request(path + "/x" * count))
                assert heard.startswith(b"HTTP/1.1 " + status)
            heard, _ = await service.ask(request("/json?" + "/x" * MAX_SEGMENTS))
            assert heard.startswith(b"HTTP/1.1 200 ")

    run(scenario())


PART = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n"
PREAMBLE = b"for readers of mail\r\n" * (MAX_PREAMBLE - 1)
FORMS = {
    "many lines before the first part": PREAMBLE + b"\r\n" + PART + b"--b--\r\n",
    "no boundary in the body": b"plain text",
    "a part without a name": b"--b\r\nX-A: b\r\n\r\nx\r\n--b--\r\n",
    "a wrong boundary": b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--bb\r\n",
    "many headers": b"--b\r\n" + b"X-A: b\r\n" * 200 + b"\r\nx\r\n--b--\r\n",
    "a long header": b"--b\r\nX-A: " + b"b" * 9000 + b"\r\n\r\nx\r\n--b--\r\n",
    "an unknown charset": b"--b\r\nContent-Disposition: form-data; name=a\r\n"
    b"Content-Type: text/plain; charset=none\r\n\r\nx\r\n--b--\r\n",
    "no UTF-8": b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\xff\r\n--b--\r\n",
    "a long default charset": b"--b\r\nContent-Disposition: form-data; name=_charset_\r\n\r\n"
    + b"x" * 40
    + b"\r\n--b--\r\n",
    "parts in a part": b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c--\r\n"
    b"--b--\r\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_a_malformed_form_is_the_fault_of_its_client(
    run: Any, fast: bool, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def endpoint(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.post())))

    async def scenario() -> None:
        app = web.Application()
        app.router.add_post("/", endpoint)
        async with ours(app, fast=fast) as service:
            form = "Content-Type: multipart/form-data; boundary=b"
            heard, _ = await service.ask(with_body("/", FORMS[name], form))
            assert heard.startswith(b"HTTP/1.1 400 ")
            assert heard.endswith(b"\r\n\r\nThe body is not a form")

    run(scenario())
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_the_loop_goes_on_between_the_parts_of_a_form(run: Any, fast: bool) -> None:
    count, turns = 100, 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def endpoint(request: web.Request) -> web.Response:
        counting = asyncio.create_task(other())
        found = len(await request.post())
        counting.cancel()
        return web.Response(text=str(found))

    async def scenario() -> None:
        app = web.Application()
        app.router.add_post("/", endpoint)
        async with ours(app, fast=fast) as service:
            form = "Content-Type: multipart/form-data; boundary=b"
            peer = await service.connect()
            await peer.send(with_body("/", PREAMBLE + PART * count + b"--b--\r\n", form))
            await peer.until(lambda peer: b"\r\n\r\n" in peer.heard)
            assert peer.heard.endswith(b"\r\n\r\n%d" % count)
            assert turns >= count

    run(scenario())


@contextlib.asynccontextmanager
async def idle(count: int, fast: bool) -> AsyncIterator[None]:
    async with ours(application(), fast=fast) as service:
        for _ in range(count):
            await (await service.connect()).get("/json")
        yield


def test_an_idle_connection_costs_little(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        with at_most(200 * 48 * 1024):
            async with idle(200, fast):
                gc.collect()

    run(scenario())
