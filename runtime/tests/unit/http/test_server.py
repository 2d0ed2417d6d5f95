"""HTTPServer on real sockets: a drain answers everyone who may still ask."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp import web
from aiohttp.abc import AbstractMatchInfo, AbstractRouter

import api_hour
from api_hour.container import ServerOptions
from api_hour.http.connection import Connections
from testkit.waiting import until_async
from testkit.wire import ours, request

Run = Callable[[Coroutine[None, None, None]], None]
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Return a function that runs a coroutine on one of the event loops."""

    def run_on(coroutine: Coroutine[None, None, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(asyncio.wait_for(coroutine, 60))

    return run_on


async def hello(request: web.Request) -> web.Response:
    return web.json_response({"message": "hello"})


class Gate:
    """An endpoint that answers when the test says so."""

    def __init__(self) -> None:
        self.entered, self.opened = asyncio.Event(), asyncio.Event()

    async def __call__(self, request: web.Request) -> web.Response:
        self.entered.set()
        await self.opened.wait()
        return web.Response(text="late")


@asynccontextmanager
async def served(app: web.Application, **options: float) -> AsyncIterator["Service"]:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    server = api_hour.HTTPServer(app)
    server.options = ServerOptions(**options)  # type: ignore[arg-type]
    await server.start(sock.dup())
    service = Service(server, sock.getsockname()[1])
    try:
        yield service
    finally:
        await service.drain(0)
        for client in service.clients:
            client.writer.close()
        sock.close()


class Service:
    def __init__(self, server: api_hour.HTTPServer, port: int) -> None:
        self.server, self.port = server, port
        self.clients: list[Client] = []
        self._drained = False

    @property
    def connections(self) -> Connections:
        assert self.server._connections is not None
        return self.server._connections

    async def drain(self, seconds: float) -> None:
        if not self._drained:
            self._drained = True
            await self.server.drain(asyncio.get_running_loop().time() + seconds)

    async def connect(self) -> "Client":
        self.clients.append(Client(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.clients[-1]


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, path: str) -> None:
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())

    async def answer(self) -> tuple[int, bool]:
        """Return the status, and whether the answer says ``Connection: close``."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        length = next(int(line.partition(":")[2]) for line in lines if "content-length" in line)
        await self.reader.readexactly(length)
        return int(lines[0].split()[1]), "connection: close" in lines

    async def ended(self) -> bool:
        """Wait for the end of the stream; return whether nothing came before it."""
        return await self.reader.read() == b""


def app_with(
    **endpoints: Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]],
) -> web.Application:
    app = web.Application()
    app.router.add_get("/", hello)
    for name, endpoint in endpoints.items():
        app.router.add_get(f"/{name}", endpoint)
    return app


def gated(gate: Gate) -> Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]:
    async def endpoint(request: web.Request) -> web.StreamResponse:
        return await gate(request)

    return endpoint


def test_a_drain_answers_fresh_idle_and_busy_connections_and_closes_each(run: Run) -> None:
    async def scenario() -> None:
        gate = Gate()
        async with served(app_with(gate=gated(gate)), drain_idle=30) as service:
            fresh, idle, busy = [await service.connect() for _ in range(3)]
            idle.send("/")
            assert await idle.answer() == (200, False)
            busy.send("/gate")
            await gate.entered.wait()
            drain = asyncio.create_task(service.drain(30))
            await until_draining(service)
            fresh.send("/")
            idle.send("/")
            gate.opened.set()
            for client in (fresh, idle, busy):
                assert await client.answer() == (200, True)
                assert await client.ended()
            await drain

    run(scenario())


async def until_draining(service: Service) -> None:
    while not service.connections.closing:
        await asyncio.sleep(0)


def test_idle_connections_are_closed_when_their_window_is_over(run: Run) -> None:
    async def scenario() -> None:
        async with served(app_with(), drain_idle=0.1) as service:
            client = await service.connect()
            client.send("/")
            assert await client.answer() == (200, False)
            await service.drain(30)
            assert await client.ended()

    run(scenario())


def test_a_request_that_has_begun_to_arrive_is_waited_for(run: Run) -> None:
    async def scenario() -> None:
        async with served(app_with(), drain_idle=0.05) as service:
            client = await service.connect()
            client.writer.write(b"GET / HTTP/1.1\r\nHo")
            await until_begun(service)
            drain = asyncio.create_task(service.drain(30))
            await asyncio.sleep(0.3)
            client.writer.write(b"st: test\r\n\r\n")
            assert await client.answer() == (200, True)
            await drain

    run(scenario())


async def until_begun(service: Service) -> None:
    while not any(connection._arriving for connection in service.connections.open):
        await asyncio.sleep(0)


def test_work_that_overstays_the_deadline_is_cancelled(run: Run) -> None:
    async def scenario() -> None:
        cancelled = asyncio.Event()

        async def endless(request: web.Request) -> web.Response:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return web.Response()

        entered = asyncio.Event()
        async with served(app_with(endless=endless), drain_idle=0) as service:
            client = await service.connect()
            client.send("/endless")
            await entered.wait()
            await service.drain(0.1)
            assert cancelled.is_set()
            assert await client.ended()

    run(scenario())


def test_a_stream_that_began_before_the_drain_ends_whole(run: Run) -> None:
    async def scenario() -> None:
        gate = Gate()

        async def stream(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": "10"})
            await response.prepare(request)
            await response.write(b"first")
            await gate(request)
            await response.write(b"later")
            return response

        async with served(app_with(stream=stream), drain_idle=0) as service:
            client = await service.connect()
            client.send("/stream")
            await gate.entered.wait()
            drain = asyncio.create_task(service.drain(30))
            await asyncio.sleep(0)
            gate.opened.set()
            assert (await client.answer())[0] == 200
            assert await client.ended()
            await drain

    run(scenario())


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("place", ["server", "application"])
def test_an_unknown_argument_is_refused_at_the_start(run: Run, fast: bool, place: str) -> None:
    wrong = {"keep_alive": 5}

    async def scenario() -> None:
        app = web.Application(handler_args=wrong if place == "application" else None)
        server = api_hour.HTTPServer(app, **(wrong if place == "server" else {}))
        server.options = ServerOptions(fast=fast)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            with pytest.raises(api_hour.ConfigError, match="argument 'keep_alive': they take"):
                await server.start(sock)
            assert server.requests == 0

    run(scenario())


@pytest.mark.parametrize("fast", [True, False])
def test_a_request_that_is_cancelled_is_neither_answered_nor_logged_as_an_error(
    run: Run, fast: bool, caplog: pytest.LogCaptureFixture
) -> None:
    entered = 0

    async def itself(request: web.Request) -> web.Response:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        raise AssertionError

    async def enter(wait: Coroutine[Any, Any, Any]) -> web.Response:
        nonlocal entered
        entered += 1
        await wait
        raise AssertionError

    async def waits(request: web.Request) -> web.Response:
        return await enter(asyncio.Event().wait())

    async def reads(request: web.Request) -> web.Response:
        return await enter(request.read())

    async def scenario() -> None:
        app = app_with(itself=itself, waits=waits, reads=reads)
        async with ours(app, fast=fast) as service:
            assert await service.ask(request("/itself")) == (b"", True)
            late = [await service.connect() for _ in range(2)]
            await late[0].send(request("/waits"))
            await late[1].send(request("/reads", "Content-Length: 5"))
            await until_async(lambda: entered == 2)
            await service.connections.shutdown(0.01)  # as a drain does at its deadline
            for peer in late:
                await peer.until(lambda peer: peer.closed)
                assert peer.heard == b""

    caplog.set_level("INFO", logger="aiohttp.server")
    run(scenario())
    assert not [record for record in caplog.records if record.name.startswith("aiohttp")]


def test_a_plain_function_is_refused_by_name_with_the_cure(run: Run) -> None:
    async def scenario() -> None:
        def report(request: web.Request) -> web.Response:
            return web.Response()

        app = web.Application()
        with pytest.warns(DeprecationWarning, match="Bare functions"):
            app.router.add_get("/", report)  # type: ignore[arg-type]
        with (
            socket.socket() as sock,
            pytest.raises(api_hour.ConfigError, match=r"report \(.*\) is a plain.*@api_hour\.thr"),
        ):
            await api_hour.HTTPServer(app).start(sock)

    run(scenario())


@web.middleware
async def good_middleware(request: web.Request, handler: Any) -> web.StreamResponse:
    response: web.StreamResponse = await handler(request)
    return response


async def of_aiohttp_2(app: web.Application, handler: Any) -> Any:
    return handler


def never_awaited(app: web.Application, handler: Any) -> Any:
    return handler


async def undecorated(request: web.Request, handler: Any) -> Any:
    return await handler(request)


async def started(app: web.Application) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        server = api_hour.HTTPServer(app)
        await server.start(sock)
        await server.drain(0)


@pytest.mark.filterwarnings("ignore:old-style middleware")
@pytest.mark.parametrize(
    "middleware",
    [undecorated, never_awaited, hello, None, "x"],
    ids=["undecorated", "never awaited", "an endpoint", "None", "a text"],
)
def test_what_is_no_middleware_is_refused_with_the_cure(middleware: Any) -> None:
    app = web.Application()
    app.add_subapp("/sub", web.Application(middlewares=[good_middleware, middleware]))
    with pytest.raises(api_hour.ConfigError, match=r"middleware .* write @web\.middleware above"):
        asyncio.run(started(app))


@pytest.mark.filterwarnings("ignore:old-style middleware")
def test_middlewares_that_work_are_left_alone() -> None:
    middlewares: Any = [good_middleware, of_aiohttp_2, api_hour.json_errors]
    app = web.Application(middlewares=middlewares)
    app.add_subapp("/sub", web.Application(middlewares=[good_middleware]))
    asyncio.run(started(app))


@pytest.mark.parametrize("name", ["body_timeout", "keepalive_timeout"])
@pytest.mark.parametrize("value", ["x", -1])
def test_a_limit_that_is_no_number_is_refused(name: str, value: Any) -> None:
    with pytest.raises(api_hour.ConfigError, match=f"{name} must be zero or more, got {value!r}"):
        api_hour.HTTPServer(web.Application(), **{name: value})


class Chat:
    """A WebSocket that answers each message, with a pause before the answer."""

    def __init__(self, code: int | None = None) -> None:
        self.received: list[str] = []
        self.goes_on = asyncio.Event()
        self.app = web.Application()
        self.app.router.add_get("/", self.endpoint)
        self._code = code
        if code:
            self.app.on_shutdown.append(self.close)

    async def endpoint(self, request: web.Request) -> web.WebSocketResponse:
        self.socket = web.WebSocketResponse()
        await self.socket.prepare(request)
        async for message in self.socket:
            self.received.append(message.data)
            await self.goes_on.wait()
            await self.socket.send_str(message.data)
        return self.socket

    async def close(self, app: web.Application) -> None:
        await self.socket.close(code=self._code or 0)


@asynccontextmanager
async def talking(
    service: Service, messages: int
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{service.port}/"
        async with session.ws_connect(url) as socket:
            for number in range(messages):
                await socket.send_str(str(number))
            yield socket


def test_a_websocket_is_told_of_the_drain_when_it_has_answered(run: Run) -> None:
    async def scenario() -> None:
        chat = Chat()
        async with served(chat.app, drain_idle=0) as service, talking(service, 20) as socket:
            await until_async(lambda: chat.received)
            drain = asyncio.create_task(service.drain(30))
            await until_draining(service)
            chat.goes_on.set()
            assert [await socket.receive_str() for _ in range(20)] == [str(n) for n in range(20)]
            assert (await socket.receive()).data == 1012
            await drain

    run(scenario())


def test_a_websocket_is_told_even_if_there_is_no_time_left(run: Run) -> None:
    async def scenario() -> None:
        chat = Chat()
        async with served(chat.app, drain_idle=30) as service, talking(service, 1) as socket:
            await until_async(lambda: chat.received)
            drain = asyncio.create_task(service.drain(0))
            assert (await socket.receive()).data == 1012
            await drain

    run(scenario())


def test_a_project_may_close_its_websockets_in_its_own_way(run: Run) -> None:
    async def scenario() -> None:
        chat = Chat(4000)
        async with served(chat.app, drain_idle=0) as service, talking(service, 0) as socket:
            drain = asyncio.create_task(service.drain(30))
            assert (await socket.receive()).data == 4000
            await drain

    run(scenario())


def test_the_drain_waits_for_a_thread_whose_client_has_left(run: Run) -> None:
    async def scenario() -> None:
        entered, left, done = threading.Event(), threading.Event(), []

        @api_hour.threaded
        def work(request: web.Request) -> web.Response:
            entered.set()
            left.wait(30)
            done.append(True)
            return web.Response()

        async with served(app_with(work=work), drain_idle=0) as service:
            client = await service.connect()
            client.send("/work")
            await until_async(entered.is_set)
            client.writer.transport.abort()
            await until_async(lambda: not service.connections.open)
            asyncio.get_running_loop().call_later(0.1, left.set)
            await service.drain(30)
            assert done

    run(scenario())


class OwnMatch(AbstractMatchInfo):
    """What a router of the project's own finds: a handler, and no route."""

    def __init__(self) -> None:
        self._apps: list[web.Application] = []

    http_exception = None
    expect_handler = None  # type: ignore[assignment]

    @property
    def handler(self) -> Any:
        return self.answer

    @property
    def apps(self) -> tuple[web.Application, ...]:
        return tuple(self._apps)

    async def answer(self, request: web.Request) -> web.Response:
        return web.Response(text=f"found {request.path}")

    def get_info(self) -> dict[str, Any]:
        return {}

    def add_app(self, app: web.Application) -> None:
        self._apps.append(app)

    def freeze(self) -> None:
        pass


class OwnRouter(AbstractRouter):
    async def resolve(self, request: web.Request) -> AbstractMatchInfo:
        return OwnMatch()


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
@pytest.mark.filterwarnings("ignore:router argument is deprecated")
def test_an_application_may_bring_a_router_of_its_own(fast: bool) -> None:
    async def scenario() -> None:
        app = web.Application(router=OwnRouter())  # type: ignore[arg-type]
        async with ours(app, fast=fast, metrics=True) as service:
            data = request("/any")
            for pieces in ((data,), (data[:9], data[9:])):
                heard, _ = await service.ask(*pieces)
                assert heard.endswith(b"found /any")

    asyncio.run(scenario())
