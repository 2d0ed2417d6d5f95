"""A connection: its timers, how it ends, and what it takes for the beginning of a request."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from api_hour.http import server
from runtime.tests.unit.http.endpoints import application
from testkit.wire import LOOPS, Service, ours, request, run_on

FIRST, IDLE = 20.0, 300.0  # seconds

pytestmark = [
    pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"]),
    pytest.mark.parametrize("loop", LOOPS),
]


def seconds_left(service: Service) -> float:
    """Return when the only connection is closed if nothing comes."""
    (connection,) = service.connections.open
    assert connection._keepalive_handle is not None
    seconds: float = connection._next_keepalive_close_time - asyncio.get_running_loop().time()
    return seconds


def serving(fast: bool, **timeouts: float) -> Any:
    return ours(application(), fast=fast, **timeouts)


def test_a_new_connection_has_the_time_of_a_first_request(loop: str, fast: bool) -> None:
    async def scenario() -> None:
        async with serving(fast, header_timeout=FIRST, keepalive_timeout=IDLE) as service:
            await service.connect()
            assert 0 < seconds_left(service) <= FIRST

    run_on(loop, scenario())


def test_the_shorter_of_both_limits_holds_for_a_first_request(loop: str, fast: bool) -> None:
    async def scenario() -> None:
        async with serving(fast, header_timeout=IDLE, keepalive_timeout=FIRST) as service:
            await service.connect()
            assert 0 < seconds_left(service) <= FIRST

    run_on(loop, scenario())


@pytest.mark.parametrize(
    "path", ["/json", "/suspended", "/streamed", "/missing", "http://test/json"]
)
def test_after_a_request_a_connection_has_the_time_of_an_idle_one(
    loop: str, fast: bool, path: str
) -> None:
    async def scenario() -> None:
        async with serving(fast, header_timeout=FIRST, keepalive_timeout=IDLE) as service:
            peer = await service.connect()
            for _ in range(2):
                await peer.ask(request(path))
                assert FIRST < seconds_left(service) < IDLE + 1  # uvloop counts milliseconds

    run_on(loop, scenario())


def test_without_limits_there_is_no_timer(loop: str, fast: bool) -> None:
    async def index(request: web.Request) -> web.Response:
        return web.Response()

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/", index)
        async with ours(app, fast=fast, header_timeout=0, keepalive_timeout=0) as service:
            await service.connect()
            (connection,) = service.connections.open
            assert connection._keepalive_handle is None
            # It is fresh all the same, so a drain does not close it before its window is over.
            service.connections.close_idle(asyncio.get_running_loop().time() - 1)
            assert service.connections.open == {connection}
            assert not connection._force_close

    run_on(loop, scenario())


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("path", ["/json", "/suspended", "/streamed", "/missing"])
def test_without_keepalive_each_answer_is_the_last(
    loop: str, fast: bool, path: str, version: str
) -> None:
    async def scenario() -> None:
        async with serving(fast, keepalive_timeout=0) as service:
            peer = await service.connect()
            heard, closed = await peer.ask(
                request(path, "Connection: keep-alive", version=version) + request("/json")
            )
            assert closed
            assert heard.count(b"HTTP/1.") == 1
            assert (b"\r\nConnection: close\r\n" in heard) is (version == "1.1")

    run_on(loop, scenario())


def test_empty_lines_begin_no_request(loop: str, fast: bool) -> None:
    async def scenario() -> None:
        async with serving(fast) as service:
            peer = await service.connect()
            (connection,) = service.connections.open
            for data, arriving in (
                (request("/json"), False),
                (b"\r\n", False),
                (b"\r\n\r\n", False),
                (request("/json")[:9], True),
                (b"\r\n", True),
            ):
                await peer.ask(data)
                assert bool(connection.arriving) is arriving
                assert bool(len(service.connections.limits.header)) is arriving

    run_on(loop, scenario())


UPGRADE = request(
    "/", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
)  # fmt: skip
PING = b"\x89\x80\0\0\0\0"


async def socket(request: web.Request) -> web.WebSocketResponse:
    opened = web.WebSocketResponse()
    await opened.prepare(request)
    await opened.receive()
    return opened


def test_frames_of_a_websocket_begin_no_request(loop: str, fast: bool) -> None:
    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/", socket)
        async with ours(app, fast=fast) as service:
            peer = await service.connect()
            (connection,) = service.connections.open
            heard, _ = await peer.ask(UPGRADE, PING, PING[:3])
            assert heard.startswith(b"HTTP/1.1 101 ")
            assert heard.endswith(b"\x8a\0")  # the pong
            assert not connection.arriving
            assert not len(service.connections.limits.header)

    run_on(loop, scenario())


def test_a_websocket_that_a_signal_refuses_is_not_closed_by_a_drain(loop: str, fast: bool) -> None:
    async def refuse(request: web.Request, response: web.StreamResponse) -> None:
        raise web.HTTPForbidden

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/", socket)
        app.on_response_prepare.append(refuse)
        async with ours(app, fast=fast) as service:
            peer = await service.connect()
            (connection,) = service.connections.open
            heard, _ = await peer.ask(UPGRADE)
            assert not heard.startswith(b"HTTP/1.1 101 ")
            assert connection.take_websocket() is None

    logging.disable(logging.CRITICAL)
    run_on(loop, scenario())
    logging.disable(logging.NOTSET)


# An answer that fails when a part of it has been sent.


async def begin(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"begun")
    return response


async def whole(request: web.Request) -> web.StreamResponse:
    return await begin(request)


async def fails(request: web.Request) -> web.StreamResponse:
    await begin(request)
    raise KeyError


async def fails_late(request: web.Request) -> web.StreamResponse:
    await begin(request)
    await asyncio.sleep(0)
    raise KeyError


async def is_missing(request: web.Request) -> web.StreamResponse:
    await begin(request)
    raise web.HTTPNotFound


async def answers_twice(request: web.Request) -> web.StreamResponse:
    await begin(request)
    return web.Response(text="another")


async def is_cancelled(request: web.Request) -> web.StreamResponse:
    await begin(request)
    raise asyncio.CancelledError


async def lasts(request: web.Request) -> web.StreamResponse:
    await begin(request)
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def answered_before(request: web.Request) -> web.StreamResponse:
    await (await begin(request)).write_eof()
    return web.Response(text="another")


ENDS = {
    whole: False,
    answered_before: False,
    **dict.fromkeys((fails, fails_late, is_missing, answers_twice, is_cancelled, lasts), True),
}


@pytest.fixture
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)  # endpoints fail on purpose
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_answer_that_fails_on_its_way_ends_with_a_reset(
    loop: str, fast: bool, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CANCEL_GRACE", 0.01)

    async def end(service: Service, path: str) -> tuple[bytes, bool]:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(request(path, "Connection: close", version=version))
        heard = await reader.readuntil(b"begun")
        if path == "/lasts":  # until the drain's deadline
            draining.set()
        try:
            heard += await reader.read()
        except ConnectionResetError:
            return heard, True
        finally:
            writer.close()
        return heard, False

    draining = asyncio.Event()

    async def scenario() -> None:
        app = web.Application()
        for handler in ENDS:
            app.router.add_get(f"/{handler.__name__}", handler)
        async with ours(app, fast=fast) as service:
            for handler, reset in ENDS.items():
                if handler is not lasts:
                    heard, was_reset = await end(service, f"/{handler.__name__}")
                    assert heard.count(b"HTTP/1.") == 1, handler
                    assert was_reset is reset, handler
            last = asyncio.create_task(end(service, "/lasts"))
            await draining.wait()
        assert (await last)[1]

    run_on(loop, scenario())
