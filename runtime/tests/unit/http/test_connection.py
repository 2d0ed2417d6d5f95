"""A connection's timers: one limit for the first request, another for an idle connection."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

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

    run_on(loop, scenario())
