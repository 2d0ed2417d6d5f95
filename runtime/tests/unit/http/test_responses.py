"""JSON() and HTML() against web.Response on a real server."""

import copy
import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from http import HTTPStatus
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

import api_hour
from api_hour.http.responses import JSON, PROBLEM, dumps
from runtime.tests.unit.http.exchange import (
    GET,
    HEAD,
    KEPT,
    OLD,
    OLD_KEPT,
    ZIPPED,
    Handler,
    exchange,
    one,
    parts,
    told,
)

DATA = {"message": "Hello, Wörld! </script>", "ids": [1, 2.5, None, True]}
PAGE = "<h1>Grüezi</h1>"
REQUESTS = [GET, ZIPPED, HEAD, OLD, OLD_KEPT, KEPT]

Maker = Callable[..., web.Response]


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


def undated(answer: bytes) -> bytes:
    text, count = re.subn(rb"\r\nDate: [^\r]+", b"", answer)
    assert count >= 1, answer
    return text


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


class Status(Enum):
    NEW = "new"


class Price(Enum):
    LOW = Decimal("1.10")


class Level(IntEnum):
    LOW = 1


class Color(StrEnum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


class Record(msgspec.Struct, rename="camel"):
    record_id: int
    price: Decimal
    at: datetime | None = None


@dataclass
class Entry:
    key: str
    size: Decimal | float = 0.5


class OwnText(str):
    __slots__ = ()

    def __json__(self) -> str:
        return "1"


class OwnDict(dict[str, int]):
    def toDict(self) -> dict[str, int]:
        return {"other": 1}


class Convertible:
    def toDict(self) -> dict[str, int]:
        return {"a": 1}


class Raw:
    def __json__(self) -> str:
        return "]"


DAY, MOMENT = date(2026, 1, 31), datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
NAME = UUID(int=7)
WRITTEN: list[tuple[object, object]] = [
    (
        Record(7, Decimal("12345678901234567890.10")),
        {"recordId": 7, "price": "12345678901234567890.10", "at": None},
    ),
    (
        [Record(7, Decimal("1.10"), MOMENT)],
        [{"recordId": 7, "price": "1.10", "at": "2026-01-31T12:30:00Z"}],
    ),
    (Entry("a"), {"key": "a", "size": 0.5}),
    (
        {"rows": [{"entry": Entry("a", Decimal(1))}]},
        {"rows": [{"entry": {"key": "a", "size": "1"}}]},
    ),
    (
        [DAY, MOMENT, clock(12, 30), timedelta(hours=1)],
        ["2026-01-31", "2026-01-31T12:30:00Z", "12:30:00", "PT3600S"],
    ),
    ([NAME, b"bytes", {1}, frozenset({2})], [str(NAME), "Ynl0ZXM=", [1], [2]]),
    ([Status.NEW, Level.LOW, Color.RED], ["new", 1, "red"]),
    ({Status.NEW: 1, Level.LOW: 2, Color.RED: 3}, {"new": 1, "1": 2, "red": 3}),
    ({DAY: 1, MOMENT: 2, NAME: 3}, {"2026-01-31": 1, "2026-01-31T12:30:00Z": 2, str(NAME): 3}),
    ({Decimal("1.10"): 1, Price.LOW: 2}, {"1.10": 2}),
    ({Decimal("1.10"): {Status.NEW: DAY}}, {"1.10": {"new": "2026-01-31"}}),
    ({None: 1, True: 2, 7: 3, 1.5: 4}, {"null": 1, "true": 2, "7": 3, "1.5": 4}),
    ({None: DAY, "a": [OwnText("x"), NAME]}, {"null": "2026-01-31", "a": ["x", str(NAME)]}),
    ([Point(1, 2), (3, Point(4, 5))], [[1, 2], [3, [4, 5]]]),
    ([OwnText("x"), OwnDict(a=1), defaultdict(int, b=2)], ["x", {"a": 1}, {"b": 2}]),
    ([1e-7, 1e22, 1e300, -0.0, 2**70, 0.1], [1e-7, 1e22, 1e300, -0.0, 2**70, 0.1]),
]


@pytest.mark.parametrize(("data", "expected"), WRITTEN, ids=range(len(WRITTEN)))
def test_what_is_more_than_plain_data_is_written_as_msgspec_writes_it(
    data: object, expected: object
) -> None:
    assert json.loads(dumps(data)) == expected
    assert json.loads(dumps([{"deep": data}])) == [{"deep": expected}]


DECIMAL = "is a Decimal, which would lose digits as a float"
REFUSED: list[tuple[object, str]] = [
    (Decimal("1.10"), f"the answer {DECIMAL}"),
    ({"rows": [{"price": 1}, {"price": Decimal(1)}]}, f"['rows'][1]['price'] {DECIMAL}"),
    ([{1: (Decimal(1),)}], f"[0][1][0] {DECIMAL}"),
    ({"a": {Decimal(1)}}, f"['a'][0] {DECIMAL}"),
    ([DAY, Decimal(1)], f"[1] {DECIMAL}"),
    ([Record(7, Decimal(1)), {"price": Decimal(1)}], f"[1]['price'] {DECIMAL}"),
    (Price.LOW, f"the answer {DECIMAL}"),
    ([float("nan")], "[0] is nan, which JSON does not have"),
    ({"a": float("-inf"), "b": DAY}, "['a'] is -inf, which JSON does not have"),
    (Entry("a", float("nan")), "['size'] is nan, which JSON does not have"),
    ({"a": [object()]}, "['a'][0] is of the type object, which JSON does not have"),
    ([Convertible()], "[0] is of the type Convertible, which JSON does not have"),
    ({"a": Raw()}, "['a'] is of the type Raw, which JSON does not have"),
    ({"a": {(1, 2): 3}}, "a key of ['a'] is of the type tuple: send text"),
    ({Convertible(): 1}, "a key of the answer is of the type Convertible: send text"),
    (loop_of_lists(), "the answer holds itself, or is nested too deeply"),
]


@pytest.mark.parametrize(("data", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_would_be_written_wrongly_is_refused_with_its_place(
    data: object, message: str
) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        dumps(data)
    assert str(caught.value).startswith(message)


def test_a_wrong_answer_is_a_problem_and_one_line_that_names_place_type_and_cure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def endpoint(request: web.Request) -> web.Response:
        return JSON({"rows": [{"price": Decimal("1.10")}]})

    status, _, body = parts(exchange(one(endpoint), GET))
    assert (status, body) == (500, told(500, "Internal Server Error"))
    assert caplog.messages == [
        f"GET /: the answer cannot be written: ['rows'][0]['price'] {DECIMAL}: "
        "send str() of it, or return it from a typed endpoint"
    ]
    assert caplog.records[0].exc_info is None


UNWRITABLE = [object(), float("nan"), {"a": [float("inf")]}, Decimal(1), 1j, loop_of_lists()]


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
    assert len(messages) == requests
    assert all(text.startswith(f"{method} /: the answer cannot be written: ") for text in messages)


def test_a_page_with_a_lone_surrogate_is_a_500_and_one_log_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def endpoint(request: web.Request) -> web.Response:
        return api_hour.HTML("\ud800")

    status, headers, body = parts(exchange(one(endpoint), GET))
    assert (status, headers["Content-Type"]) == (500, PROBLEM)
    assert body == told(500, "Internal Server Error")
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
