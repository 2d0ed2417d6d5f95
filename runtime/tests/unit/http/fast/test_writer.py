"""The writer renders what it knows; a kept head is never older than its second."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.http import HttpVersion, HttpVersion10, HttpVersion11
from aiohttp.test_utils import make_mocked_request

from api_hour import HTML, JSON
from api_hour.container import ServerOptions
from api_hour.http.connection import Connections
from api_hour.http.fast import writer
from api_hour.http.fast.writer import ResponseWriter
from api_hour.http.request import Request
from testkit.wire import run_on


def asked(method: str = "GET", version: HttpVersion = HttpVersion11, **options: Any) -> Any:
    """Return a request as the fast path gives it."""
    request = make_mocked_request(method, "/", version=version, **options)
    request.__class__ = Request
    return request


def with_writer(check: Callable[[ResponseWriter, Connections], None], **options: Any) -> None:
    """Run ``check`` with the writer of a server."""

    async def scenario() -> None:
        app = web.Application()
        app.freeze()
        connections = Connections(app, ServerOptions(**options))
        check(ResponseWriter(connections, app), connections)

    run_on("asyncio", scenario())


def test_json_and_pages_are_rendered_whole() -> None:
    def check(writer: ResponseWriter, _connections: Connections) -> None:
        for response, media, body in (
            (JSON({"a": 1}), b"application/json", b'{"a":1}'),
            (HTML("<p>"), b"text/html", b"<p>"),
        ):
            data = writer.render(asked(), response)
            assert data is not None
            head, _, rest = data.partition(b"\r\n\r\n")
            assert rest == body
            assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: " + media)
            assert b"\r\nContent-Length: %d\r\n" % len(body) in head

    with_writer(check)


@pytest.mark.parametrize("case", ["HEAD", "HTTP/1.0", "closing"])
def test_what_aiohttp_frames_otherwise_is_left_to_it(case: str) -> None:
    request = {
        "HEAD": asked("HEAD"),
        "HTTP/1.0": asked(version=HttpVersion10),
        "closing": asked(closing=True),
    }[case]
    with_writer(lambda writer, _: assert_left(writer, request, JSON([])))


def assert_left(writer: ResponseWriter, request: Any, response: web.StreamResponse) -> None:
    assert writer.render(request, response) is None
    assert response.keep_alive is None  # nothing was changed


def closing() -> web.Response:
    response = web.Response(text="x")
    response.force_close()
    return response


def compressed() -> web.Response:
    response = web.Response(text="x")
    response.enable_compression()
    return response


def test_a_response_that_takes_more_than_a_head_and_a_body_is_left_to_aiohttp() -> None:
    def check(writer: ResponseWriter, _connections: Connections) -> None:
        for response in (
            web.StreamResponse(),
            compressed(),
            web.Response(status=204),
            web.Response(headers={"Content-Length": "3"}),
            web.HTTPConflict(),  # aiohttp warns of one that is returned
        ):
            assert writer.render(asked(), response) is None
        assert writer.render(asked(), closing()) is None

    with_writer(check)


def test_a_raised_error_is_rendered() -> None:
    def check(writer: ResponseWriter, _connections: Connections) -> None:
        data = writer.render(asked(), web.HTTPConflict(), raised=True)
        assert data is not None
        assert data.startswith(b"HTTP/1.1 409 Conflict\r\n")

    with_writer(check)


def test_while_the_worker_drains_nothing_is_rendered() -> None:
    def check(writer: ResponseWriter, connections: Connections) -> None:
        assert writer.render(asked(), JSON([])) is not None
        connections.closing = True
        assert writer.render(asked(), JSON([])) is None

    with_writer(check)


class Shouting(web.Response):
    """A response that is sent in a way of its own."""

    async def prepare(self, request: web.BaseRequest) -> Any:
        return await super().prepare(request)


def test_a_subclass_that_changes_how_it_is_sent_is_left_to_aiohttp() -> None:
    def check(writer: ResponseWriter, _connections: Connections) -> None:
        assert writer.render(asked(), Shouting(text="x")) is None

    with_writer(check)


def test_a_signal_on_responses_leaves_all_of_them_to_aiohttp() -> None:
    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Signed"] = "yes"

    async def scenario() -> None:
        app = web.Application()
        app.on_response_prepare.append(sign)
        app.freeze()
        connections = Connections(app, ServerOptions())
        assert ResponseWriter(connections, app).render(asked(), JSON([])) is None

    run_on("asyncio", scenario())


def test_a_request_id_is_a_header_of_each_answer() -> None:
    def check(writer: ResponseWriter, _connections: Connections) -> None:
        for identity in ("one", "two"):
            request = asked()
            request._id = identity
            for response in (JSON([]), web.Response(text="x")):
                data = writer.render(request, response)
                assert data is not None
                head = data.partition(b"\r\n\r\n")[0]
                assert head.count(f"X-Request-ID: {identity}".encode()) == 1

    with_writer(check, request_ids=True)


def test_a_kept_head_ends_with_its_second(monkeypatch: pytest.MonkeyPatch) -> None:
    dates = iter(["Fri, 27 Nov 2026 08:00:00 GMT", "Fri, 27 Nov 2026 08:00:01 GMT"])
    monkeypatch.setattr(writer, "rfc822_formatted_time", lambda: next(dates))

    async def scenario() -> None:
        app = web.Application()
        app.freeze()
        ours = ResponseWriter(Connections(app, ServerOptions()), app)

        def date() -> str:
            data = ours.render(asked(), JSON([])) or b""
            found = re.search(rb"Date: .*(\d\d) GMT", data)
            assert found
            return found[1].decode()

        assert [date(), date()] == ["00", "00"]
        async with asyncio.timeout(30):
            while date() == "00":
                await asyncio.sleep(0.01)
        assert date() == "01"

    run_on("asyncio", scenario())
