"""JSON() and HTML() against web.Response on a real server, and json_errors."""

import asyncio
import copy
import json
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

import api_hour
from api_hour.http.responses import JSON, as_json, dumps

DATA = {"message": "Hello, Wörld! </script>", "ids": [1, 2.5, None, True]}
PAGE = "<h1>Grüezi</h1>"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
ZIPPED = GET.replace(b"Host", b"Accept-Encoding: gzip, deflate\r\nHost")
HEAD = GET.replace(b"GET", b"HEAD")
OLD = b"GET / HTTP/1.0\r\n\r\n"
OLD_KEPT = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + OLD
KEPT = GET.replace(b"Connection: close\r\n", b"") + GET
REQUESTS = [GET, ZIPPED, HEAD, OLD, OLD_KEPT, KEPT]

Maker = Callable[..., web.Response]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def ours_json(**given: Any) -> web.Response:
    return api_hour.JSON(DATA, **given)


def stock_json(**given: Any) -> web.Response:
    text = json.dumps(DATA, ensure_ascii=False, separators=(",", ":"))
    return web.Response(text=text, content_type="application/json", **given)


def ours_html(**given: Any) -> web.Response:
    return api_hour.HTML(PAGE, **given)


def stock_html(**given: Any) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html", **given)


PAIRS = [
    pytest.param(ours_json, stock_json, id="JSON"),
    pytest.param(ours_html, stock_html, id="HTML"),
]


def exchange(app: web.Application, request: bytes) -> bytes:
    """Serve ``app``, send ``request`` and return all bytes until the server closes."""

    async def run() -> bytes:
        async with TestServer(app) as server, asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(request)
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

    return asyncio.run(run())


def one(handler: Handler, *middlewares: Any) -> web.Application:
    app = web.Application(middlewares=middlewares)
    app.router.add_route("*", "/", handler)
    return app


def undated(answer: bytes) -> bytes:
    text, count = re.subn(rb"\r\nDate: [^\r]+", b"", answer)
    assert count >= 1, answer
    return text


def parts(answer: bytes) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and the JSON of one answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, json.loads(body)


# What an endpoint, a middleware or a signal may do to a response before it is sent.
def add_headers(response: web.Response) -> None:
    response.headers["X-One"] = "1"
    response.headers.add("X-One", "2")


def drop_content_type(response: web.Response) -> None:
    del response.headers["Content-Type"]


def set_cookies(response: web.Response) -> None:
    response.set_cookie("a", "1", httponly=True, max_age=5)
    response.set_cookie("b", "x; y", samesite="Lax")
    response.del_cookie("c")


def compress(response: web.Response) -> None:
    response.enable_compression()


def force_gzip(response: web.Response) -> None:
    response.enable_compression(web.ContentCoding.gzip)


def force_close(response: web.Response) -> None:
    response.force_close()


def set_reason(response: web.Response) -> None:
    response.set_status(418, "Short and stout")


def set_status(response: web.Response) -> None:
    response.set_status(404)


def no_content(response: web.Response) -> None:
    response.set_status(204)


def not_modified(response: web.Response) -> None:
    response.set_status(304)


def set_etag(response: web.Response) -> None:
    response.etag = "abc"
    response.last_modified = 1_700_000_000


def set_type(response: web.Response) -> None:
    response.content_type = "application/problem+json"


def set_charset(response: web.Response) -> None:
    response.charset = "utf-16"


def set_text(response: web.Response) -> None:
    response.text = "other"


def append_text(response: web.Response) -> None:
    response.text = (response.text or "") + "!"


def set_body(response: web.Response) -> None:
    response.body = b"\x00\x01"


def empty_body(response: web.Response) -> None:
    response.body = None


def stream_body(response: web.Response) -> None:
    response.body = iter_body()


async def iter_body() -> Any:
    yield b"one"
    yield b"two"


def read_everything(response: web.Response) -> None:
    assert response.status == 200
    assert response.content_length == len(response.body or b"")  # type: ignore[arg-type]
    assert response.charset == "utf-8"
    assert "OK not prepared" in repr(response)
    assert not response.prepared


def chunk(response: web.Response) -> None:
    response.enable_chunked_encoding()


def keep_state(response: web.Response) -> None:
    response[web.ResponseKey("state", int)] = 1
    response.marker = "mine"  # type: ignore[attr-defined]


TOUCHES = [
    add_headers,
    append_text,
    compress,
    drop_content_type,
    empty_body,
    force_close,
    force_gzip,
    keep_state,
    no_content,
    not_modified,
    read_everything,
    set_body,
    set_charset,
    set_cookies,
    set_etag,
    set_reason,
    set_status,
    set_text,
    set_type,
    stream_body,
]
CONSTRUCTED: list[dict[str, Any]] = [
    {},
    {"status": 201, "headers": {"Location": "/records/1"}},
    {"status": HTTPStatus.ACCEPTED, "headers": [("X-A", "1"), ("X-A", "2")]},
    {"status": 500},
    {"status": 599},
    {"headers": {}},
]


def handed(make: Maker, touch: Callable[[web.Response], None]) -> web.Application:
    async def endpoint(request: web.Request) -> web.Response:
        response = make()
        touch(response)
        return response

    return one(endpoint)


@pytest.mark.parametrize(("ours", "stock"), PAIRS)
@pytest.mark.parametrize("given", CONSTRUCTED, ids=str)
@pytest.mark.parametrize("request_bytes", REQUESTS)
def test_the_same_bytes_go_out_as_from_web_response(
    ours: Maker, stock: Maker, given: dict[str, Any], request_bytes: bytes
) -> None:
    async def mine(request: web.Request) -> web.Response:
        return ours(**given)

    async def theirs(request: web.Request) -> web.Response:
        return stock(**given)

    answer = exchange(one(mine), request_bytes)
    assert undated(answer) == undated(exchange(one(theirs), request_bytes))
    assert answer.count(b"Content-Type: ") == answer.count(b"HTTP/1.") == answer.count(b"\r\nDate")


@pytest.mark.parametrize(("ours", "stock"), PAIRS)
@pytest.mark.parametrize("touch", TOUCHES)
@pytest.mark.parametrize("request_bytes", REQUESTS)
def test_a_changed_response_sends_the_same_bytes_as_a_changed_web_response(
    ours: Maker,
    stock: Maker,
    touch: Callable[[web.Response], None],
    request_bytes: bytes,
) -> None:
    answer = exchange(handed(ours, touch), request_bytes)
    assert undated(answer) == undated(exchange(handed(stock, touch), request_bytes))


@pytest.mark.parametrize(("ours", "stock"), PAIRS)
def test_a_chunked_response_sends_the_same_bytes(ours: Maker, stock: Maker) -> None:
    answer = exchange(handed(ours, chunk), GET)
    assert b"Transfer-Encoding: chunked" in answer
    assert undated(answer) == undated(exchange(handed(stock, chunk), GET))


@pytest.mark.parametrize(("ours", "stock"), PAIRS)
@pytest.mark.parametrize("touch", TOUCHES)
def test_middlewares_and_signals_may_change_it_as_they_change_a_web_response(
    ours: Maker, stock: Maker, touch: Callable[[web.Response], None]
) -> None:
    def app(make: Maker) -> web.Application:
        async def endpoint(request: web.Request) -> web.Response:
            return make()

        @web.middleware
        async def change(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = await handler(request)
            assert isinstance(response, web.Response)
            touch(response)
            return response

        async def sign(request: web.Request, response: web.StreamResponse) -> None:
            response.headers["X-Length"] = str(response.content_length)
            response.headers["X-Type"] = response.content_type

        application = one(endpoint, change)
        application.on_response_prepare.append(sign)
        return application

    answer = exchange(app(ours), ZIPPED)
    assert b"X-Length: " in answer
    assert undated(answer) == undated(exchange(app(stock), ZIPPED))


@pytest.mark.parametrize(("ours", "stock"), PAIRS)
def test_an_endpoint_may_prepare_and_finish_it_by_itself(ours: Maker, stock: Maker) -> None:
    def app(make: Maker) -> web.Application:
        async def endpoint(request: web.Request) -> web.Response:
            response = make()
            await response.prepare(request)
            await response.write_eof()
            return response

        return one(endpoint)

    assert undated(exchange(app(ours), GET)) == undated(exchange(app(stock), GET))


ATTRIBUTES = [name for name in dir(web.Response) if not name.startswith("_")]


def outcome(response: web.Response, name: str) -> object:
    try:
        value = getattr(response, name)
    except (AssertionError, DeprecationWarning, KeyError) as error:
        return type(error)
    return "method" if callable(value) else value


@pytest.mark.parametrize(("ours", "stock"), PAIRS)
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_public_attribute_reads_as_on_a_web_response(
    ours: Maker, stock: Maker, name: str
) -> None:
    assert outcome(ours(), name) == outcome(stock(), name)


def test_it_is_a_mutable_mapping_with_an_identity_as_every_response_is() -> None:
    response, other = ours_json(), ours_json()
    key = web.ResponseKey("key", int)
    response[key] = 1
    assert (list(response), response[key], len(response), len(other)) == ([key], 1, 1, 0)
    assert bool(other)
    assert response != other
    assert len({response, other, response}) == 2
    assert copy.copy(response).text == response.text


@pytest.mark.parametrize("make", [ours_json, ours_html])
@pytest.mark.parametrize("touch", TOUCHES)
def test_it_knows_that_someone_touched_it(
    make: Callable[..., Any], touch: Callable[[web.Response], None]
) -> None:
    response = make()
    assert not response._touched
    touch(response)
    assert response._touched


@pytest.mark.parametrize("make", [ours_json, ours_html])
def test_the_fast_path_gets_status_type_and_body_without_touching(
    make: Callable[..., Any],
) -> None:
    response = make(status=201)
    body, media = response._render(), response._media
    assert (response.status, response._touched) == (201, False)
    assert (body, media) == (response.body, response.headers["Content-Type"])
    assert make(headers={"X-A": "1"})._touched


def test_another_content_type_may_be_given() -> None:
    headers = {"content-type": "application/problem+json"}
    assert dict(JSON({}, headers=headers).headers) == headers


def test_a_status_that_is_no_number_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        JSON({}, status="teapot")  # type: ignore[arg-type]


def loop_of_lists() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


UNWRITABLE = [object(), float("nan"), {"a": [float("inf")]}, b"bytes", {1, 2}, loop_of_lists()]


@pytest.mark.parametrize("data", UNWRITABLE, ids=lambda data: type(data).__name__)
@pytest.mark.parametrize("request_bytes", [GET, HEAD, KEPT], ids=["GET", "HEAD", "kept"])
def test_an_answer_that_cannot_be_written_is_a_500_and_one_log_record(
    data: object, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def endpoint(request: web.Request) -> web.Response:
        response = JSON(data, headers={"Cache-Control": "max-age=60"})
        response.set_cookie("a", "1")
        return response

    answer = exchange(one(endpoint), request_bytes)
    requests = request_bytes.count(b"HTTP/1.1")
    assert answer.count(b"HTTP/1.1 500 Internal Server Error\r\n") == requests
    assert b"Cache-Control" not in answer
    assert b"Set-Cookie" not in answer
    assert answer.count(b'"message":"Internal Server Error"') == (request_bytes != HEAD) * requests
    method = request_bytes.split()[0].decode()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [f"{method} /: the answer cannot be written"] * requests


def test_a_page_with_a_lone_surrogate_is_a_500_and_one_log_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def endpoint(request: web.Request) -> web.Response:
        return api_hour.HTML("\ud800")

    status, headers, body = parts(exchange(one(endpoint), GET))
    assert (status, headers["Content-Type"]) == (500, JSON._media)
    assert body == {"error": {"status": 500, "message": "Internal Server Error"}}
    assert "surrogates not allowed" in caplog.text
    assert len(caplog.records) == 1


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda values: st.lists(values) | st.dictionaries(st.text(st.characters()), values),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_what_is_written_reads_back_the_same(data: Any) -> None:
    assert json.loads(dumps(data)) == data
    assert json.loads(JSON(data).text or "") == data


def test_json_is_written_without_needless_escapes() -> None:
    assert dumps({"é": "</a>", "b": 1}) == '{"é":"</a>","b":1}'.encode()


def test_a_lone_surrogate_is_written_as_its_escape() -> None:
    assert dumps(["\ud83d", "\U0001f600"]) == b'["\\ud83d","\xf0\x9f\x98\x80"]'


# json_errors


def failing(error: BaseException | None = None) -> web.Application:
    async def endpoint(request: web.Request) -> web.Response:
        if error is not None:
            raise error
        return web.Response(text="fine")

    app = web.Application(middlewares=[api_hour.json_errors])
    app.router.add_get("/", endpoint)
    return app


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records]


RAISED = [
    (web.HTTPNotFound(), 404, "Not Found"),
    (web.HTTPNotFound(text="There is no record 7"), 404, "There is no record 7"),
    (web.HTTPNotFound(reason="No Such Record"), 404, "No Such Record"),
    (web.HTTPBadRequest(text="<p>", content_type="text/html"), 400, "Bad Request"),
    (web.HTTPConflict(text=""), 409, "Conflict"),
    (web.HTTPRequestEntityTooLarge(10, 20), 413, "Maximum request body size 10 exceeded."),
    (web.HTTPTooManyRequests(headers={"Retry-After": "9"}), 429, "Too Many Requests"),
]


@pytest.mark.parametrize(("error", "status", "message"), RAISED, ids=repr)
def test_a_4xx_that_is_raised_goes_out_as_json_and_is_not_logged(
    error: web.HTTPException, status: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    sent, headers, body = parts(exchange(failing(error), GET))
    assert sent == status
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert body == {"error": {"status": status, "message": message}}
    assert headers.get("Retry-After") == error.headers.get("Retry-After")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("request_bytes", "status", "message"),
    [
        (GET.replace(b"GET /", b"GET /nowhere"), 404, "Not Found"),
        (GET.replace(b"GET", b"POST"), 405, "Method Not Allowed"),
    ],
)
def test_a_route_that_does_not_exist_is_answered_as_json(
    request_bytes: bytes, status: int, message: str
) -> None:
    sent, headers, body = parts(exchange(failing(), request_bytes))
    assert sent == status
    assert body == {"error": {"status": status, "message": message}}
    assert headers.get("Allow") == ("GET,HEAD" if status == 405 else None)


def test_headers_and_cookies_of_the_error_are_kept_but_those_of_its_old_body() -> None:
    headers = {"WWW-Authenticate": "Basic", "Content-Encoding": "gzip", "Content-Length": "3"}
    error = web.HTTPUnauthorized(headers=headers)
    error.set_cookie("seen", "1")
    status, sent, body = parts(exchange(failing(error), GET))
    assert (status, body["error"]["message"]) == (401, "Unauthorized")
    assert (sent["WWW-Authenticate"], sent["Set-Cookie"]) == ("Basic", "seen=1; Path=/")
    assert "Content-Encoding" not in sent
    assert int(sent["Content-Length"]) == len(dumps(body))


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 302 Found", b"Location: /there", b"Content-Type: text/plain"]
)
def test_a_redirect_is_left_alone(answer: bytes) -> None:
    assert answer in exchange(failing(web.HTTPFound("/there")), GET)


def test_an_error_that_is_returned_is_left_alone() -> None:
    async def endpoint(request: web.Request) -> web.Response:
        return web.Response(status=404, text="mine")

    answer = exchange(one(endpoint, api_hour.json_errors), GET)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"\r\n\r\nmine")


def test_an_error_that_is_json_already_is_left_alone() -> None:
    error = as_json(web.HTTPUnprocessableEntity(), "name is missing", "name")
    expected = {"status": 422, "message": "name is missing", "field": "name"}
    assert parts(exchange(failing(error), GET))[2] == {"error": expected}


DATABASE = [
    (api_hour.DatabaseUnavailable("host secret is down"), 503, "The database is unavailable", "1"),
    (api_hour.PoolExhausted("pool secret"), 503, "The database is busy", "1"),
    (api_hour.QueryTimeout("select secret"), 504, "The database took too long", None),
    (TimeoutError("secret"), 504, "The answer took too long", None),
]


@pytest.mark.parametrize(("error", "status", "message", "retry"), DATABASE, ids=repr)
def test_an_error_of_the_database_is_answered_without_details_and_logged_once(
    error: Exception,
    status: int,
    message: str,
    retry: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent, headers, body = parts(exchange(failing(error), GET))
    assert (sent, headers.get("Retry-After")) == (status, retry)
    assert body == {"error": {"status": status, "message": message}}
    assert levels(caplog) == ["WARNING"]
    assert caplog.messages == [f"GET /: {type(error).__name__}: {error}"]


def test_an_asyncio_timeout_in_an_endpoint_is_a_504() -> None:
    async def endpoint(request: web.Request) -> web.Response:
        async with asyncio.timeout(0):
            await asyncio.sleep(5)
        return web.Response()

    assert parts(exchange(one(endpoint, api_hour.json_errors), GET))[0] == 504


@pytest.mark.parametrize(
    "error", [KeyError("secret"), api_hour.DatabaseError("secret"), OSError("secret")], ids=repr
)
def test_any_other_exception_is_logged_with_its_traceback_and_tells_the_client_nothing(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    answer = exchange(failing(error), GET)
    assert parts(answer)[2] == {"error": {"status": 500, "message": "Internal Server Error"}}
    assert b"secret" not in answer
    assert levels(caplog) == ["ERROR"]
    assert "GET /: the endpoint failed" in caplog.text
    assert "in endpoint" in caplog.text
    assert "secret" in caplog.text


def test_a_5xx_that_is_raised_is_logged_once_even_below_two_json_errors(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inner = failing(web.HTTPServiceUnavailable(text="closed for lunch"))
    app = web.Application(middlewares=[api_hour.json_errors])
    app.add_subapp("/inner", inner)
    status, _, body = parts(exchange(app, GET.replace(b"GET /", b"GET /inner/")))
    assert (status, body["error"]["message"]) == (503, "closed for lunch")
    assert caplog.messages == ["GET /inner/: 503 closed for lunch"]


def test_a_control_character_of_the_path_does_not_reach_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def endpoint(request: web.Request) -> web.Response:
        raise KeyError

    app = web.Application(middlewares=[api_hour.json_errors])
    app.router.add_get("/{any}", endpoint)
    exchange(app, GET.replace(b"GET /", b"GET /%1b]0;%0d%0aX?token=secret"))
    assert caplog.messages == ["GET /%1b]0;%0d%0aX: the endpoint failed"]


def test_a_cancelled_endpoint_stays_cancelled() -> None:
    assert exchange(failing(asyncio.CancelledError()), GET) == b""


def test_an_exception_after_the_answer_began_ends_the_connection() -> None:
    async def endpoint(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        raise KeyError

    answer = exchange(one(endpoint, api_hour.json_errors), GET)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.endswith(b"5\r\nbegun\r\n")


def test_a_connection_goes_on_after_an_error() -> None:
    answer = exchange(failing(KeyError()), KEPT)
    assert answer.count(b"HTTP/1.1 500 ") == 2
