"""Threaded endpoints: they run in a thread, and reach the loop from there."""

import asyncio
import threading

import pytest
from aiohttp import web

import api_hour
from testkit.wire import LOOPS, ours, run_on


@pytest.mark.parametrize("loop", LOOPS)
def test_a_threaded_endpoint_runs_in_a_thread_and_reaches_the_loop(loop: str) -> None:
    @api_hour.threaded
    def report(request: web.Request) -> web.Response:
        assert threading.current_thread() is not threading.main_thread()
        return web.Response(text=api_hour.from_thread(asyncio.sleep(0, "from the loop")))

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/report", report)
        async with ours(app) as service:
            peer = await service.connect()
            assert (await peer.get("/report")).endswith(b"\r\n\r\nfrom the loop")

    run_on(loop, scenario())


def test_from_thread_outside_a_threaded_endpoint_says_where_it_works() -> None:
    async def answer() -> int:
        return 1

    with pytest.raises(RuntimeError, match=r"inside an @api_hour\.threaded endpoint only"):
        api_hour.from_thread(answer())


def test_from_thread_on_the_loop_itself_is_refused_instead_of_waiting_forever() -> None:
    @api_hour.threaded
    def report(request: web.Request) -> web.Response:
        async def nested() -> None:
            with pytest.raises(RuntimeError, match=r"inside an @api_hour\.threaded endpoint only"):
                api_hour.from_thread(asyncio.sleep(0))

        api_hour.from_thread(nested())
        return web.Response(text="refused")

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/report", report)
        async with ours(app) as service:
            peer = await service.connect()
            assert (await peer.get("/report")).endswith(b"\r\n\r\nrefused")

    run_on("asyncio", scenario())
