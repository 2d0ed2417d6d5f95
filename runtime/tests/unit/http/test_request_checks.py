"""What HTTPServer refuses and aiohttp does not, on the fast path and beside it."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from aiohttp import web

from runtime.tests.unit.http.endpoints import application
from testkit.wire import LOOPS, ours, request

Ask = Callable[..., bytes]


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Return a function that sends one request on a fresh connection and returns the answer."""
    fast = request.param

    async def talk(data: bytes) -> bytes:
        async with ours(application(), fast=fast) as service:
            heard, closed = await service.ask(data)
        return heard + (b"(closed)" if closed else b"(open)")

    with asyncio.Runner(loop_factory=LOOPS["uvloop"]) as runner:

        def run(data: bytes) -> bytes:
            coroutine: Coroutine[Any, Any, bytes] = talk(data)
            return runner.run(asyncio.wait_for(coroutine, 30))

        yield run


def with_host(host: str) -> bytes:
    return f"GET /json HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


HOSTS = [
    "", " ", "user@test", "user:secret@test", "test/path", "test?query", "test#part", "a, b", "a,b",
    "a b", "test:port", "test:80:80", "test:123456", "[::1", "::1", "[::g]", "t\u00e9st", "<test>",
    "test\\x",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_that_names_no_host_is_refused(ask: Ask, host: str) -> None:
    answer = ask(with_host(host))
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.endswith(b"(closed)")


@pytest.mark.parametrize("host", ["test", "test:", "test:8000", "127.0.0.1:80", "[::1]", "[::1]:8"])
def test_a_host_and_its_port_are_taken(ask: Ask, host: str) -> None:
    answer = ask(with_host(host))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"(open)")


def test_a_request_of_http_1_1_without_a_host_is_refused(ask: Ask) -> None:
    answer = ask(b"GET /json HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")  # by the parser
    assert answer.endswith(b"(closed)")


def test_a_request_of_http_1_0_needs_no_host(ask: Ask) -> None:
    assert ask(b"GET /json HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 OK\r\n")


def test_two_hosts_are_refused(ask: Ask) -> None:
    data = b"GET /json HTTP/1.1\r\nHost: test\r\nHost: other\r\n\r\n"
    assert ask(data).startswith(b"HTTP/1.1 400 ")  # by the parser


@pytest.mark.parametrize("coding", ["", " ", "identity", "gzip"])
def test_a_transfer_encoding_other_than_chunked_is_refused(ask: Ask, coding: str) -> None:
    answer = ask(request("/echo", f"Transfer-Encoding: {coding}", method="POST"))
    assert re.match(rb"HTTP/1\.[01] 400 Bad Request\r\n", answer)  # 1.0 when the parser refuses
    assert answer.endswith(b"(closed)")


@pytest.mark.parametrize("target", ["https://evil.org/stock", "ftp://evil.org/stock"])
def test_a_whole_url_never_decides_the_scheme(target: str) -> None:
    async def scenario() -> bytes:
        async def url(request: web.Request) -> web.Response:
            return web.Response(text=f"{request.scheme} {request.secure} {request.url}")

        app = web.Application()
        app.router.add_get("/stock", url)
        async with ours(app) as service:
            heard, _ = await service.ask(request(target))
        return heard

    with asyncio.Runner() as runner:
        assert runner.run(scenario()).endswith(b"\r\n\r\nhttp False http://evil.org/stock")


def test_options_of_everything_are_answered(ask: Ask) -> None:
    answer = ask(request("*", method="OPTIONS"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n")
    assert answer.endswith(b"(open)")


def test_a_tunnel_is_refused(ask: Ask) -> None:
    answer = ask(request("other:443", method="CONNECT"))
    assert answer.startswith(b"HTTP/1.1 501 Not Implemented\r\n")
    assert answer.endswith(b"(closed)")
