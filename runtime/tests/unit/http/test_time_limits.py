"""No client holds a connection by doing nothing, or next to nothing; and no slow one is cut off."""

import asyncio
import gc
import socket
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import REGISTRY

import api_hour
from api_hour.container import ServerOptions
from testkit.waiting import until_async
from testkit.wire import LOOPS, Peer, ours, request, run_on, with_body

SOON = 0.2  # seconds: a limit that is meant to be exceeded
NEVER = 60.0  # seconds: one that is not
MIB = 1 << 20
HEAD = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n"
BEGUN = HEAD + b"x" * 500


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Return a function that runs a scenario on one of the event loops."""
    return lambda scenario: run_on(request.param, scenario)


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def fast(request: pytest.FixtureRequest) -> bool:
    """Return whether the fast path is on."""
    return bool(request.param)


def struck(kind: str) -> float:
    """Return how many limits of a kind the metrics have counted."""
    return REGISTRY.get_sample_value("http_timeouts_total", {"kind": kind}) or 0.0


async def closed(peer: Peer) -> None:
    await peer.until(lambda peer: peer.closed)


async def trickle(peer: Peer, piece: bytes) -> None:
    """Send a piece now and then, until the server closes."""
    while not peer.closed:
        await peer.send(piece)
        await asyncio.sleep(SOON / 10)
        peer.listen()


class Endpoints:
    """Endpoints that a body, or a reader, keeps waiting."""

    def __init__(self) -> None:
        self.never = asyncio.Event()
        self.ended: list[BaseException] = []

    async def read(self, request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def ignore(self, request: web.Request) -> web.Response:
        try:
            await self.never.wait()
        except asyncio.CancelledError as error:
            self.ended.append(error)
            raise
        return web.Response()

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """Send a part of an answer without a length, then wait for the body."""
        response = web.StreamResponse(headers={"Connection": "close"})
        await response.prepare(request)
        await response.write(b"a part")
        try:
            await request.read()
        except ConnectionError as error:
            self.ended.append(error)
            raise
        return response

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        except ConnectionResetError as error:
            self.ended.append(error)
            raise

    async def echo(self, request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            await websocket.send_str(message.data)
        return websocket

    async def flood(self, request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        try:
            while True:
                await websocket.send_bytes(b"x" * 65536)
        except ConnectionResetError as error:
            self.ended.append(error)
            raise

    def application(self, *middlewares: Any) -> web.Application:
        app = web.Application(middlewares=middlewares, client_max_size=100 * MIB)
        for name in ("ignore", "begin", "stream", "echo", "flood"):
            app.router.add_route("*", f"/{name}", getattr(self, name))
        app.router.add_post("/", self.read)
        return app


@pytest.mark.parametrize(
    "data",
    [
        BEGUN,
        HEAD,
        HEAD.replace(b"Content-Length: 1000", b"Content-Length: 1000\r\nExpect: 100-continue"),
        HEAD.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n",
        HEAD.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked") + b"3\r\na",
    ],
    ids=["half", "not begun", "expected", "chunk without a next", "half a chunk"],
)
def test_a_body_that_stops_is_answered_408_and_closed(run: Any, fast: bool, data: bytes) -> None:
    async def scenario() -> None:
        before, app = struck("body"), Endpoints().application(api_hour.json_errors)
        async with ours(app, fast=fast, body_timeout=SOON, metrics=True) as service:
            peer = await service.connect()
            await peer.send(data)
            await closed(peer)
            _, _, answer = peer.heard.rpartition(b"HTTP/1.1 408 Request Timeout\r\n")
            assert b"Connection: close" in answer
            assert answer.endswith(
                b'"error":{"status":408,"message":'
                b'"408: The body of the request did not come in time"}}'
            )
            assert struck("body") == before + 1

    run(scenario())


def test_an_argument_of_the_server_replaces_the_setting(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        server = api_hour.HTTPServer(web.Application(), body_timeout=0, send_timeout=5)
        server.options = ServerOptions(fast=fast, body_timeout=1, send_timeout=1, header_timeout=1)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            sock.setblocking(False)
            await server.start(sock.dup())
            assert server._connections is not None
            limits = server._connections.limits
            kinds = (limits.body, limits.sending, limits.header)
            assert [watch.limit for watch in kinds] == [0, 5, 1]
            await server.drain(0)

    run(scenario())


def test_an_endpoint_that_does_not_read_the_body_is_cancelled(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        endpoints = Endpoints()
        async with ours(endpoints.application(), fast=fast, body_timeout=SOON) as service:
            peer = await service.connect()
            await peer.send(BEGUN.replace(b"POST /", b"POST /ignore"))
            await closed(peer)
            assert peer.heard.startswith(b"HTTP/1.1 408 ")
            assert len(endpoints.ended) == 1

    run(scenario())


def test_a_body_below_the_least_rate_is_answered_408(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        limits = {"body_timeout": SOON, "body_min_rate": 1000}
        async with ours(Endpoints().application(), fast=fast, **limits) as service:
            peer = await service.connect()
            await peer.send(HEAD)
            await trickle(peer, b"x")
            assert peer.heard.startswith(b"HTTP/1.1 408 ")
            assert b"\r\n\r\n408: The body" in peer.heard

    run(scenario())


def test_a_body_that_goes_on_may_take_its_time(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        limits = {"body_timeout": 0.5, "body_min_rate": 1}
        async with ours(Endpoints().application(), fast=fast, **limits) as service:
            slow, silent = await service.connect(), await service.connect()
            await slow.send(HEAD)
            await silent.send(BEGUN)
            for _ in range(1000):
                await slow.send(b"x")
                if not silent.closed:  # until another is cut off
                    await asyncio.sleep(0.005)
                    silent.listen()
            await slow.until(lambda peer: bool(peer.heard))
            assert slow.heard.endswith(b"\r\n\r\n1000")

    run(scenario())


def test_a_body_that_the_server_does_not_take_is_not_the_clients_fault(
    run: Any, fast: bool
) -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()

        async def read_late(request: web.Request) -> web.Response:
            await go_on.wait()
            return web.Response(text=str(len(await request.read())))

        app = Endpoints().application()
        app.router.add_post("/late", read_late)
        async with ours(app, fast=fast, body_timeout=SOON) as service:
            patient, other = await service.connect(), await service.connect()
            sending = asyncio.create_task(patient.send(with_body("/late", b"x" * 4 * MIB)))
            for _ in range(3):
                await other.send(BEGUN)
                await closed(other)
                assert other.heard.startswith(b"HTTP/1.1 408 ")
                other = await service.connect()
            go_on.set()
            await sending
            await patient.until(lambda peer: bool(peer.heard))
            assert patient.heard.endswith(str(4 * MIB).encode())

    run(scenario())


def test_a_part_of_an_answer_is_never_taken_for_the_whole(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        endpoints = Endpoints()
        async with ours(endpoints.application(), fast=fast, body_timeout=SOON) as service:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(BEGUN.replace(b"POST /", b"POST /begin"))
            assert (await reader.readuntil(b"a part")).count(b"HTTP/1.1") == 1
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
            assert len(endpoints.ended) == 1

    run(scenario())


def test_an_answer_that_takes_too_long_becomes_a_504(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        before, endpoints = struck("request"), Endpoints()
        app = endpoints.application()
        async with ours(app, fast=fast, request_timeout=SOON, metrics=True) as service:
            peer = await service.connect()
            answer = await peer.get("/ignore")
            assert answer.startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
            assert answer.endswith(b"\r\n\r\n504: The answer took too long")
            assert len(endpoints.ended) == 1
            assert struck("request") == before + 1
            await peer.send(with_body("/", b"123"))  # the connection is as good as before
            await peer.until(lambda peer: peer.heard.endswith(b"\r\n\r\n3"))

    run(scenario())


def test_an_answer_that_has_begun_is_reset_when_it_takes_too_long(run: Any, fast: bool) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Connection": "close"})
        await response.prepare(request)
        await response.write(b"a part")
        await asyncio.Event().wait()
        return response

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/", endless)
        async with ours(app, fast=fast, request_timeout=SOON) as service:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(request("/"))
            assert (await reader.readuntil(b"a part")).count(b"HTTP/1.1") == 1
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    run(scenario())


UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)
MESSAGE = b"\x81\x84\0\0\0\0word"  # masked by zeros


def test_a_websocket_may_last_longer_than_an_answer(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        async with ours(Endpoints().application(), fast=fast, request_timeout=SOON) as service:
            socket, other = await service.connect(), await service.connect()
            await socket.send(request("/echo", *UPGRADE))
            for _ in range(2):
                assert b"504 Gateway Timeout" in await other.get("/ignore")
            await socket.send(MESSAGE)
            await socket.until(lambda peer: peer.heard.endswith(b"\x81\x04word"))

    run(scenario())


def _read_all(peer: socket.socket) -> None:
    while peer.recv(MIB):
        pass


@pytest.mark.parametrize("path", ["/stream", "/flood"])
def test_a_peer_that_does_not_read_is_cut_off(run: Any, fast: bool, path: str) -> None:
    async def scenario() -> None:
        before, endpoints = struck("send"), Endpoints()
        app = endpoints.application()
        async with ours(app, fast=fast, send_timeout=SOON, metrics=True) as service:
            with socket.create_connection(("127.0.0.1", service.port)) as peer:
                peer.sendall(request(path, *(UPGRADE if path == "/flood" else ())))
                await until_async(lambda: endpoints.ended)
                assert struck("send") == before + 1
                with pytest.raises(ConnectionResetError):
                    _read_all(peer)

    run(scenario())


def test_a_client_that_only_sends_requests_is_cut_off(run: Any, fast: bool) -> None:
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/", hello)
        async with ours(app, fast=fast, send_timeout=SOON) as service:
            peer = await service.connect()
            sending = asyncio.create_task(peer.send(request("/") * 10_000))
            await until_async(lambda: service.connections.open)
            await until_async(lambda: not service.connections.open)
            await sending
            assert service.connections.requests_count < 10_000

    run(scenario())


def test_a_closing_connection_is_not_held_by_a_peer_that_does_not_read(
    run: Any, fast: bool
) -> None:
    size = 8 * MIB

    async def last(request: web.Request) -> web.Response:
        response = web.Response(body=b"x" * size)
        response.force_close()
        return response

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/", last)
        async with ours(app, fast=fast, send_timeout=SOON) as service:
            peer = await service.connect()
            await peer.send(request("/"))
            await until_async(lambda: not service.connections.open)
            await closed(peer)
            assert len(peer.heard) < size

    run(scenario())


def test_a_peer_that_reads_slowly_gets_the_whole_answer(run: Any, fast: bool) -> None:
    size = 4 * MIB

    async def big(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * size)

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/", big)
        async with ours(app, fast=fast, send_timeout=4 * SOON) as service:
            loop = asyncio.get_running_loop()
            slow, silent = await service.connect(), await service.connect()
            start = loop.time()
            for peer in (slow, silent):
                await peer.send(request("/"))
            received = 0
            while received < size:
                received += len(await loop.sock_recv(slow.sock, 65536))
                if len(service.connections.open) == 2:  # until the other is cut off
                    await asyncio.sleep(SOON / 4)
            assert loop.time() - start > 4 * SOON
            await closed(silent)

    run(scenario())


def test_half_a_head_is_not_waited_for_as_long_as_a_next_request(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        before, app = struck("header"), Endpoints().application()
        limits = {"header_timeout": SOON, "keepalive_timeout": NEVER}
        async with ours(app, fast=fast, metrics=True, **limits) as service:
            idle, half, slow = [await service.connect() for _ in range(3)]
            for peer in (idle, half, slow):
                await peer.send(with_body("/", b"123"))
                await peer.until(lambda peer: peer.heard.endswith(b"\r\n\r\n3"))
            await half.send(b"GET / HTTP/1.1\r\nX-A: ")
            await closed(half)
            await slow.send(b"GET / HTTP/1.1\r\nX-A: ")
            await trickle(slow, b"x")
            assert half.heard.count(b"HTTP/1.1") == slow.heard.count(b"HTTP/1.1") == 1
            assert struck("header") == before + 2
            await idle.settle()
            assert not idle.closed

    run(scenario())


def test_a_head_that_comes_in_time_is_served(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        async with ours(Endpoints().application(), fast=fast, header_timeout=1.0) as service:
            steady, silent = await service.connect(), await service.connect()
            count = 0
            data = with_body("/", b"123")
            while not silent.closed:  # for longer than the limit, and each in two pieces
                await steady.send(data[:20])
                await asyncio.sleep(0.01)
                await steady.send(data[20:])
                count += 1
                await steady.until(lambda peer: peer.heard.count(b"HTTP/1.1 200") == count)  # noqa: B023
                silent.listen()
            assert not steady.closed

    run(scenario())


def test_answers_do_not_pile_up_behind_a_peer_that_does_not_read(run: Any, fast: bool) -> None:
    size, served = MIB, []

    async def big(request: web.Request) -> web.Response:
        served.append(request.path)
        return web.Response(body=b"x" * size)

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/", big)
        async with ours(app, fast=fast) as service:
            together, apart = await service.connect(), await service.connect()
            await together.send(request("/") * 3)
            for _ in range(3):
                await apart.send(request("/"))
                for _ in range(10):
                    await asyncio.sleep(0)
            assert len(served) == 2
            for peer in (together, apart):
                await peer.until(lambda peer: len(peer.heard) > 3 * size)
                assert peer.heard.count(b"HTTP/1.1 200") == 3

    run(scenario())


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
def test_a_body_whose_client_left_is_freed_at_once(run: Any, fast: bool) -> None:
    half = request("/", f"Content-Length: {MIB}", method="POST") + b"x" * (MIB // 2)

    async def scenario() -> None:
        async with ours(Endpoints().application(api_hour.json_errors), fast=fast) as service:
            before, _ = tracemalloc.get_traced_memory()
            peers = [await service.connect() for _ in range(20)]
            for peer in peers:
                await peer.send(half)
            await until_async(lambda: tracemalloc.get_traced_memory()[0] > before + 8 * MIB)
            await service.hang_up()
            await until_async(lambda: not service.connections.open)
            await until_async(lambda: tracemalloc.get_traced_memory()[0] < before + 4 * MIB)

    run(scenario())
