"""Threaded endpoints: they run in a thread, and reach the loop from there."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aiohttp import web

import api_hour
from api_hour.http.threads import Threads
from testkit.waiting import TIMEOUT
from testkit.wire import LOOPS, ours, request, run_on


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


@pytest.mark.parametrize("loop", LOOPS)
def test_endpoints_that_wait_for_the_loops_own_threads_never_lock_each_other(loop: str) -> None:
    count = 30  # of 32 threads; the loop's own pool has fewer than that on a small machine

    async def nested() -> str:
        return await asyncio.to_thread(lambda: "from another thread")

    @api_hour.threaded
    def report(request: web.Request) -> web.Response:
        everybody.wait(TIMEOUT)
        return web.Response(text=api_hour.from_thread(nested()))

    everybody = threading.Barrier(count)

    async def scenario() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        app = web.Application()
        app.router.add_get("/report", report)
        async with ours(app) as service:
            peers = [await service.connect() for _ in range(count)]
            for peer in peers:
                await peer.send(request("/report"))
            for peer in peers:
                await peer.until(lambda peer: peer.heard.endswith(b"\r\n\r\nfrom another thread"))

    run_on(loop, scenario())


def test_no_more_threads_than_asked_for_and_each_serves_again() -> None:
    threads = Threads(2, "test")
    names = [threads.submit(lambda: threading.current_thread().name) for _ in range(50)]
    assert {future.result(TIMEOUT) for future in names} <= {"test-1", "test-2"}


def test_a_call_that_fails_is_told_and_its_thread_lives_on() -> None:
    threads = Threads(1, "test")
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 / 0).result(TIMEOUT)
    assert threads.submit(lambda: "alive").result(TIMEOUT) == "alive"


def test_a_call_that_is_cancelled_before_its_turn_is_never_made() -> None:
    threads, gate, made = Threads(1, "test"), threading.Event(), list[int]()
    first = threads.submit(gate.wait, TIMEOUT)
    second = threads.submit(made.append, 1)
    assert second.cancel()
    gate.set()
    assert first.result(TIMEOUT)
    threads.submit(made.append, 2).result(TIMEOUT)
    assert made == [2]


def test_a_call_for_which_no_thread_can_be_started_is_not_made_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads, made = Threads(1, "test"), list[int]()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="start new thread"):
            threads.submit(made.append, 1)
    threads.submit(made.append, 2).result(TIMEOUT)
    assert made == [2]


def test_a_call_that_fails_while_the_drain_waits_for_it_is_not_told_by_the_loop() -> None:
    unhandled, gate = list[dict[str, Any]](), threading.Event()

    def fail() -> None:
        gate.wait(TIMEOUT)
        raise web.HTTPNotFound

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: unhandled.append(context))
        threads = Threads(1, "test")
        calls = [threads.submit(fail), threads.submit(fail)]
        loop.call_later(0.01, gate.set)
        await threads.finish(loop.time() + TIMEOUT)
        assert all(call.done() for call in calls)
        gate.clear()
        threads.submit(fail)
        await threads.finish(loop.time())  # which is over before the call is
        gate.set()
        await threads.finish(loop.time() + TIMEOUT)
        await asyncio.sleep(0)
        gc.collect()

    asyncio.run(scenario())
    assert unhandled == []
