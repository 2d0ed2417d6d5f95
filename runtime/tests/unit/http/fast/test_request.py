"""Every attribute of a request on the fast path reads as on aiohttp's own request."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from testkit.wire import ours, request, run_on, theirs, with_body

# They differ by class or connection, or are objects without an equality of their own.
OWN = {"ATTRS", "task", "transport", "protocol", "writer", "app", "config_dict", "loop", "content"}
ATTRIBUTES = sorted(name for name in dir(web.Request) if name[0] != "_" and name not in OWN)
REQUESTS = [
    request("/a/b?x=1&y=%26", "Cookie: a=1", "Accept: */*", "If-None-Match: *", "Range: bytes=1-2"),
    with_body("/a/c", b"{}", "Content-Type: application/json; charset=utf-8"),
    with_body("/a/d", b"", method="PUT"),
]


SEEN, OTHER = web.RequestKey("seen", str), web.RequestKey("other", str)


def read(request: web.Request, name: str) -> str:
    try:
        value = getattr(request, name)
    except (AttributeError, AssertionError, ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "method" if callable(value) else repr(value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("data", REQUESTS, ids=["GET", "POST", "PUT"])
def test_every_public_attribute_reads_the_same(data: bytes) -> None:
    async def about(request: web.Request) -> web.Response:
        lines = [f"{name}: {read(request, name)}" for name in ATTRIBUTES]
        return web.Response(text="\n".join(lines).replace(type(request).__name__, "Request"))

    async def scenario() -> None:
        heard = []
        for server in (ours, theirs):
            app = web.Application()
            app.router.add_route("*", "/a/{b}", about)
            async with server(app) as service:
                answer, _ = await service.ask(data)
                heard.append(answer.partition(b"\r\n\r\n")[2].decode().splitlines())
        assert len(heard[0]) >= len(ATTRIBUTES)
        assert set(heard[0]) ^ set(heard[1]) == set()

    run_on("asyncio", scenario())


def test_it_holds_what_a_handler_keeps_in_it() -> None:
    @web.middleware
    async def noting(request: web.Request, handler: Any) -> web.StreamResponse:
        request[SEEN] = "noted"
        response: web.StreamResponse = await handler(request)
        return response

    async def noted(request: web.Request) -> web.Response:
        return web.Response(text=f"{request[SEEN]} {len(request)} {OTHER in request}")

    async def scenario() -> None:
        app = web.Application(middlewares=[noting])
        app.router.add_get("/", noted)
        async with ours(app) as service:
            for _ in range(2):
                assert (await service.ask(request("/")))[0].endswith(b"\r\n\r\nnoted 1 False")

    run_on("asyncio", scenario())


def test_whoever_asks_for_the_protocol_does_not_overtake_the_batch() -> None:
    async def plain(request: web.Request) -> web.Response:
        return web.Response(text="<plain>")

    async def writing(request: web.Request) -> web.Response:
        protocol = request.protocol
        assert protocol.transport is not None
        protocol.transport.write(b"<raw>")
        return web.Response(text="<after>")

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/plain", plain)
        app.router.add_get("/writing", writing)
        async with ours(app) as service:
            peer = await service.connect()
            await peer.send(request("/plain") + request("/writing"))
            async with asyncio.timeout(30):
                await peer.until(lambda peer: b"<after>" in peer.heard)
            places = [peer.heard.index(text) for text in (b"<plain>", b"<raw>", b"<after>")]
            assert places == sorted(places)

    run_on("asyncio", scenario())
