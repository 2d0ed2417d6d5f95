"""Applications and Containers, served in the loop of a test."""

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

import api_hour
from api_hour import testing
from api_hour.http.fast.request import FastRequest

TIMEOUT = 60.0  # seconds


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, TIMEOUT))


async def seen(request: web.Request) -> api_hour.JSON:
    body = await request.text()
    fast = isinstance(request, FastRequest)
    return api_hour.JSON({"fast": fast, "body": body, "cookies": dict(request.cookies)})


async def log_in(request: web.Request) -> web.Response:
    response = web.Response(text="welcome")
    response.set_cookie("user", "me")
    return response


async def talk(request: web.Request) -> web.WebSocketResponse:
    peer = web.WebSocketResponse()
    await peer.prepare(request)
    await peer.send_str(await peer.receive_str())
    return peer


async def double(number: int) -> dict[str, int]:
    return {"double": number * 2}


def application() -> web.Application:
    app = web.Application(middlewares=[])
    app.router.add_route("*", "/", seen)
    app.router.add_post("/login", log_in)
    app.router.add_get("/talk", talk)
    return app


def test_an_application_is_served_as_the_daemon_does_it() -> None:
    async def scenario() -> None:
        async with testing.client(application()) as client:
            answer = await client.get("/")
            assert (answer.status, answer.json()["fast"]) == (200, True)
            assert answer.headers["content-TYPE"] == "application/json; charset=utf-8"
            for send in (client.post, client.put, client.patch, client.delete):
                assert (await send("/", json={"a": 1})).json()["body"] == '{"a": 1}'

    run(scenario())


def test_a_client_keeps_its_cookies() -> None:
    async def scenario() -> None:
        async with testing.client(application()) as client:
            assert (await client.post("/login")).text == "welcome"
            assert (await client.get("/")).json()["cookies"] == {"user": "me"}

    run(scenario())


def test_a_websocket_is_opened_by_the_session() -> None:
    async def scenario() -> None:
        async with (
            testing.client(application()) as client,
            client.session.ws_connect("/talk") as peer,
        ):
            await peer.send_str("hello")
            assert await peer.receive_str() == "hello"

    run(scenario())


def test_one_typed_endpoint_needs_an_api_of_the_test_only() -> None:
    async def scenario() -> None:
        app = web.Application()
        api_hour.API(app, title="Test", version="1").get("/{number}", double)
        async with testing.client(app) as client:
            assert (await client.get("/21")).json() == {"double": 42}
            assert (await client.get("/x")).status == 404

    run(scenario())


def test_a_body_that_is_not_json_is_shown() -> None:
    async def scenario() -> None:
        async with testing.client(application()) as client:
            answer = await client.post("/login")
        with pytest.raises(AssertionError, match=r"the body is not JSON.*status=200.*b'welcome'"):
            answer.json()

    run(scenario())


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.transport.sendto(data, address)


class Container(api_hour.Container):
    open = False

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        self.open = True
        yield
        self.open = False

    async def state(self, request: web.Request) -> api_hour.JSON:
        return api_hour.JSON({"open": self.open, "ready": self.ready})

    def servers(self) -> Mapping[str, api_hour.Server]:
        app = web.Application()
        app.router.add_get("/state", self.state)
        servers: dict[str, api_hour.Server] = {"http": api_hour.HTTPServer(application())}
        servers["admin"] = api_hour.HTTPServer(app)
        servers["echo"] = api_hour.DatagramServer(Echo)
        return servers


def test_a_container_is_ready_while_it_is_served() -> None:
    async def scenario() -> None:
        container = Container()
        async with container.engines(), testing.serve(container) as clients:
            assert (await clients["http"].get("/")).status == 200
            state = await clients["admin"].get("/state")
            assert state.json() == {"open": True, "ready": True}
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.connect(clients["echo"].address)
                sock.send(b"hello")
                assert await asyncio.get_running_loop().sock_recv(sock, 9) == b"hello"
        assert not container.open
        assert not container.ready
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(clients["http"].address, TIMEOUT)

    run(scenario())


def test_a_container_without_a_server_is_refused() -> None:
    async def scenario() -> None:
        with pytest.raises(
            api_hour.ConfigError, match=r"^Container\.servers\(\) names no server to test$"
        ):
            async with testing.serve(api_hour.Container()):
                raise AssertionError("unreachable")

    run(scenario())


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'api_hour\.testing' has no attribute 'nothing'"):
        _ = testing.nothing
