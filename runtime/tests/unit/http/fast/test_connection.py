"""What endpoints and clients may rely on, with the fast path and without it."""

import asyncio
import contextlib
import gc
import logging
import socket
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from api_hour import JSON
from runtime.tests.unit.http.endpoints import application, colored, soon
from testkit.waiting import until_async
from testkit.wire import LOOPS, ours, peers_leave, request, run_on, with_body

Scenario = Callable[[bool], Coroutine[Any, Any, None]]
Endpoint = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]
IN_PLACE = "request"  # the name of the task that answers in place


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Return a function that runs a scenario on one of the event loops."""
    return lambda scenario: run_on(request.param, scenario)


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def fast(request: pytest.FixtureRequest) -> bool:
    """Return whether the fast path is on."""
    return bool(request.param)


def app_with(**endpoints: Endpoint) -> web.Application:
    app = web.Application()
    for name, endpoint in endpoints.items():
        app.router.add_route("*", f"/{name}", endpoint)
    return app


def body_of(answer: bytes) -> str:
    return answer.partition(b"\r\n\r\n")[2].decode()


async def named(request: web.Request) -> web.Response:
    """Answer with the name of the task that serves."""
    task = asyncio.current_task()
    assert task is not None
    return web.Response(text=task.get_name())


# What takes the fast path.


@web.middleware
async def passing(request: web.Request, handler: Any) -> Any:
    return await handler(request)


async def names_of_tasks(middlewares: list[Any]) -> list[str]:
    """Return the names of the tasks that serve simple requests of every kind."""
    app = web.Application(middlewares=middlewares)
    app.router.add_route("*", "/static", named)
    app.router.add_route("*", "/dynamic/{name}/{number:[0-9]+}", named)
    sub = web.Application(middlewares=middlewares)
    sub.router.add_get("/static", named)
    app.add_subapp("/sub", sub)
    requests = [
        request("/static"), request("/static?x=1"), request("/dynamic/a/2"), request("/sub/static"),
        request("/static", method="DELETE"), with_body("/static", b"{}"),
        with_body("/static", b"{}", method="PUT"), with_body("/dynamic/b/3", b"{}", method="PATCH"),
    ]  # fmt: skip
    async with ours(app) as service:
        return [body_of((await service.ask(data))[0]) for data in requests]


@pytest.mark.parametrize("middlewares", [[], [passing, passing]], ids=["plain", "middlewares"])
def test_simple_requests_are_answered_in_place(run: Any, middlewares: list[Any]) -> None:
    async def scenario() -> None:
        assert await names_of_tasks(middlewares) == [IN_PLACE] * 8

    run(scenario())


def test_the_first_request_of_a_connection_is_answered_in_place(run: Any) -> None:
    async def scenario() -> None:
        async with ours(app_with(named=named)) as service:
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", service.port)) as client:
                    client.sendall(request("/named"))  # before the server runs again
                    client.setblocking(False)
                    answer = await asyncio.get_running_loop().sock_recv(client, 4096)
                assert body_of(answer) == IN_PLACE

    run(scenario())


def test_the_fast_path_can_be_turned_off(run: Any) -> None:
    async def scenario() -> None:
        async with ours(app_with(named=named), fast=False) as service:
            assert body_of((await service.ask(request("/named")))[0]) != IN_PLACE

    run(scenario())


def test_answers_of_one_batch_go_out_in_order_with_one_write(run: Any) -> None:
    async def numbered(request: web.Request) -> web.Response:
        return web.Response(text=f"<{request.query['n']}>")

    async def scenario() -> None:
        async with ours(app_with(numbered=numbered)) as service:
            peer = await service.connect()
            await peer.get("/numbered?n=0")
            (connection,) = service.connections.open
            transport = connection.transport = Counting(connection.transport)
            await peer.send(b"".join(request(f"/numbered?n={n}") for n in range(20)))
            await peer.until(lambda peer: b"<19>" in peer.heard)
            connection.transport = transport.real
            places = [peer.heard.index(f"<{n}>".encode()) for n in range(20)]
            assert places == sorted(places)
            assert transport.writes == 1

    run(scenario())


class Counting:
    """A transport that counts its writes."""

    def __init__(self, real: Any) -> None:
        self.real, self.writes = real, 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        self.real.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def test_every_request_is_counted_once(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            peer = await service.connect()
            for path in ("/json", "/suspended", "/hello/x", "/missing", "/streamed"):
                await peer.get(path)
            await peer.send(request("/json") * 5)
            await peer.settle()
            assert service.connections.requests_count == 10

    run(scenario())


# Tasks.


def test_a_handler_stays_in_one_task_of_its_own(run: Any, fast: bool) -> None:
    seen: list[Any] = []

    async def endpoint(request: web.Request) -> web.Response:
        before = asyncio.current_task()
        await soon()
        assert asyncio.current_task() is before
        assert before in asyncio.all_tasks()
        seen.append(before)
        return web.Response()

    async def scenario() -> None:
        async with ours(app_with(at=endpoint), fast=fast) as service:
            peers = [await service.connect() for _ in range(3)]
            await asyncio.gather(*(peer.send(request("/at") * 2) for peer in peers))
            for peer in peers:
                await peer.until(lambda peer: peer.heard.count(b"200 OK") == 2)
            assert len(set(seen)) == 6

    run(scenario())


@pytest.mark.parametrize("seconds", [0, 0.01])
def test_a_timeout_ends_what_takes_too_long(run: Any, fast: bool, seconds: float) -> None:
    async def endpoint(request: web.Request) -> web.Response:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.sleep(3600)
        task = asyncio.current_task()
        return web.Response(text=f"in time, {task and task.cancelling()}")

    async def scenario() -> None:
        async with ours(app_with(at=endpoint), fast=fast) as service:
            peer = await service.connect()
            for _ in range(3):
                assert body_of(await peer.get("/at")) == "in time, 0"

    run(scenario())


def test_a_task_group_runs_and_fails_as_a_whole(run: Any, fast: bool) -> None:
    async def failing() -> None:
        await soon()
        raise ValueError("one of them")

    async def endpoint(request: web.Request) -> web.Response:
        waiting = None
        try:
            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(asyncio.sleep(3600))
                group.create_task(failing())
        except* ValueError as errors:
            text = str(errors.exceptions[0])
        return web.Response(text=f"{text}, {waiting and waiting.cancelled()}")

    async def scenario() -> None:
        async with ours(app_with(at=endpoint), fast=fast) as service:
            peer = await service.connect()
            for _ in range(3):
                assert body_of(await peer.get("/at")) == "one of them, True"

    run(scenario())


def test_a_handler_that_cancels_its_task_harms_no_other(run: Any, fast: bool) -> None:
    async def cancelling(request: web.Request) -> web.Response:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return web.Response(text="cancelling")

    async def scenario() -> None:
        async with ours(app_with(at=cancelling, named=named), fast=fast) as service:
            for _ in range(3):
                await service.ask(request("/at"))
                peer = await service.connect()
                assert b"200 OK" in await peer.get("/named")
                await soon()
                assert b"200 OK" in await peer.get("/named")

    run(scenario())


def test_context_variables_do_not_leak_into_the_next_request(run: Any, fast: bool) -> None:
    async def late(request: web.Request) -> web.Response:
        await soon()
        answer = await colored(request)
        await soon()
        return answer

    async def scenario() -> None:
        async with ours(app_with(now=colored, late=late), fast=fast) as service:
            peer = await service.connect()
            for path in ("/now", "/now", "/late", "/now", "/late", "/late"):
                assert body_of(await peer.get(path)) == "none"
            await peer.send(request("/now") * 3)
            heard, _ = await peer.settle()
            assert b"red" not in heard

    run(scenario())


def test_many_handlers_wait_at_once(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()

        async def waiting(request: web.Request) -> web.Response:
            await gate.wait()
            return web.Response(text=request.query["n"])

        async with ours(app_with(waiting=waiting), fast=fast) as service:
            peers = [await service.connect() for _ in range(400)]  # 800 of 1,024 descriptors
            for number, peer in enumerate(peers):
                await peer.send(request(f"/waiting?n={number}"))
            await soon()
            gate.set()
            for number, peer in enumerate(peers):
                await peer.until(lambda peer: bool(peer.heard) or peer.closed)
                assert body_of(peer.heard) == str(number)

    run(scenario())


# Clients that leave.


def test_a_handler_may_be_cancelled_when_its_client_leaves(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        left = asyncio.Event()

        async def waiting(request: web.Request) -> web.Response:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                left.set()
                raise
            return web.Response()

        app = app_with(waiting=waiting)
        async with ours(app, fast=fast, handler_cancellation=True) as service:
            peer = await service.connect()
            await peer.send(request("/waiting"))
            await peers_leave()
            peer.sock.close()
            await left.wait()
            await until_async(lambda: not service.connections.open)

    run(scenario())


def test_a_handler_goes_on_when_its_client_leaves(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        gate, done = asyncio.Event(), asyncio.Event()

        async def waiting(request: web.Request) -> web.Response:
            await gate.wait()
            done.set()
            return web.Response(text=f"{request.remote} {request.transport}")

        async with ours(app_with(waiting=waiting), fast=fast) as service:
            peer = await service.connect()
            await peer.send(request("/waiting"))
            await peers_leave()
            peer.sock.close()
            await until_async(lambda: not service.connections.open)
            gate.set()
            await done.wait()

    run(scenario())


def test_nothing_of_a_request_is_kept_when_it_is_over(run: Any, fast: bool) -> None:
    kept: list[weakref.ref[web.Request]] = []

    async def endpoint(request: web.Request) -> web.Response:
        kept.append(weakref.ref(request))
        if "late" in request.query:
            await soon()
        return JSON([1])

    async def scenario() -> None:
        async with ours(app_with(at=endpoint), fast=fast) as service:
            peer = await service.connect()
            for path in ("/at", "/at?late=1", "/at"):
                await peer.get(path)
            await peer.send(request("/json"))  # aiohttp keeps the last one
            await peer.settle()
            gc.collect()
            assert [reference() for reference in kept] == [None] * 3

    run(scenario())


# Requests and responses of every kind, by aiohttp's own client.


@contextlib.asynccontextmanager
async def client(app: web.Application, fast: bool) -> AsyncIterator[aiohttp.ClientSession]:
    async with ours(app, fast=fast) as service:
        base = f"http://127.0.0.1:{service.port}"
        async with aiohttp.ClientSession(base) as session:
            yield session


def test_a_websocket_echoes(run: Any, fast: bool) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    async def scenario() -> None:
        async with client(app_with(ws=echo, named=named), fast) as session:
            await session.get("/named")
            async with session.ws_connect("/ws") as socket:
                for word in ("one", "two"):
                    await socket.send_str(word)
                    assert await socket.receive_str() == word.upper()

    run(scenario())


def test_files_come_whole_in_ranges_and_not_again(run: Any, fast: bool, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    (tmp_path / "data.bin").write_bytes(content)

    async def scenario() -> None:
        app = app_with(named=named)
        app.router.add_static("/files", tmp_path)
        async with client(app, fast) as session:
            answer = await session.get("/files/data.bin")
            assert await answer.read() == content
            tag = {"If-None-Match": answer.headers["ETag"]}
            assert (await session.get("/files/data.bin", headers=tag)).status == 304
            part = await session.get("/files/data.bin", headers={"Range": "bytes=5-9"})
            assert (part.status, await part.read()) == (206, content[5:10])
            assert (await session.get("/files/none")).status == 404

    run(scenario())


def test_forms_with_files_are_read(run: Any, fast: bool) -> None:
    async def form(request: web.Request) -> web.Response:
        data = await request.post()
        upload = data["file"]
        assert isinstance(upload, web.FileField)
        size = len(upload.file.read())
        return web.Response(text=f"{data['word']!r} {upload.filename} {size}")

    async def scenario() -> None:
        async with client(app_with(form=form), fast) as session:
            for size in (10, 300_000):
                data = aiohttp.FormData({"word": "one"})
                data.add_field("file", b"x" * size, filename="a.bin")
                answer = await session.post("/form", data=data)
                assert await answer.text() == f"'one' a.bin {size}"

    run(scenario())


def test_chunked_and_expected_bodies_are_read(run: Any, fast: bool) -> None:
    async def size(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            await soon()
            yield b"x" * 1000

    async def scenario() -> None:
        async with client(app_with(size=size), fast) as session:
            assert await (await session.post("/size", data=pieces())).text() == "5000"
            answer = await session.put("/size", data=b"x" * 9, expect100=True)
            assert await answer.text() == "9"

    run(scenario())


def test_answers_are_compressed_on_demand(run: Any, fast: bool) -> None:
    async def page(request: web.Request) -> web.Response:
        response = web.Response(text="page " * 1000)
        response.enable_compression()
        return response

    async def scenario() -> None:
        async with client(app_with(page=page), fast) as session:
            answer = await session.get("/page")
            assert answer.headers["Content-Encoding"] in ("gzip", "deflate")
            assert await answer.text() == "page " * 1000

    run(scenario())


def test_a_body_above_the_limit_is_refused(run: Any, fast: bool) -> None:
    async def size(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def scenario() -> None:
        app = web.Application(client_max_size=1000)
        app.router.add_post("/size", size)
        async with client(app, fast) as session:
            assert (await session.post("/size", data=b"x" * 1000)).status == 200
            assert (await session.post("/size", data=b"x" * 1001)).status == 413

    run(scenario())


def test_a_request_knows_its_connection(run: Any, fast: bool) -> None:
    async def about(request: web.Request) -> web.Response:
        assert request.transport is not None
        assert request.transport is request.protocol.transport
        peer = request.transport.get_extra_info("peername")
        return web.Response(text=f"{request.remote} {peer[0]} {request.scheme} {request.secure}")

    async def scenario() -> None:
        async with client(app_with(about=about), fast) as session:
            for _ in range(2):
                answer = await session.get("/about")
                assert await answer.text() == "127.0.0.1 127.0.0.1 http False"

    run(scenario())


def test_what_a_handler_writes_itself_comes_in_order(run: Any) -> None:
    async def raw(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.write(b"<raw>")
        return web.Response(text="<after>")

    async def scenario() -> None:
        async with ours(app_with(raw=raw, named=named)) as service:
            peer = await service.connect()
            await peer.send(request("/named") + request("/raw"))
            await peer.until(lambda peer: b"<after>" in peer.heard)
            parts = [IN_PLACE.encode(), b"<raw>", b"<after>"]
            places = [peer.heard.index(part) for part in parts]
            assert places == sorted(places)

    run(scenario())


# Connections.


def test_an_idle_connection_is_closed_after_its_time(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        async with ours(app_with(named=named), fast=fast, keepalive_timeout=0.05) as service:
            peer = await service.connect()
            await peer.get("/named")
            await peer.until(lambda peer: peer.closed)

    run(scenario())


def test_the_access_log_says_the_same(
    run: Any, fast: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        form = '%r %s %b "%{User-Agent}i" %{Content-Type}o'
        async with ours(
            application(), fast=fast, access_log=True, access_log_format=form
        ) as service:
            peer = await service.connect()
            for path in ("/json", "/suspended", "/hello/x?y=1", "/missing"):
                await peer.get(path, "User-Agent: one")

    with caplog.at_level(logging.INFO, "gunicorn.access"):
        run(scenario())
    lines = [record.getMessage() for record in caplog.records if record.name == "gunicorn.access"]
    assert len(lines) == 4
    assert lines[0].startswith("GET /json HTTP/1.1 200 ")
    assert lines[0].endswith(' "one" application/json; charset=utf-8')
    assert lines[1].startswith("GET /suspended HTTP/1.1 200 ")
    assert lines[2].startswith("GET /hello/x?y=1 HTTP/1.1 200 ")
    assert lines[3].startswith("GET /missing HTTP/1.1 404 ")


def test_a_failing_handler_is_logged_with_its_traceback(
    run: Any, fast: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            for path in ("/failing", "/late-failing"):
                heard, closed = await service.ask(request(path))
                assert heard.startswith(b"HTTP/1.1 500 ")
                assert closed

    run(scenario())
    causes = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert causes == [RuntimeError, KeyError]


def test_a_drain_waits_for_handlers_and_says_close(run: Any, fast: bool) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()

        async def waiting(request: web.Request) -> web.Response:
            await gate.wait()
            return JSON([1])

        async with ours(app_with(waiting=waiting, named=named), fast=fast) as service:
            busy, idle = await service.connect(), await service.connect()
            await idle.get("/named")
            await busy.send(request("/waiting"))
            await peers_leave()
            service.connections.closing = True
            assert b"\r\nConnection: close\r\n" in await idle.get("/named")
            gate.set()
            await busy.until(lambda peer: peer.closed)
            assert b"\r\nConnection: close\r\n" in busy.heard
            assert idle.closed

    run(scenario())
