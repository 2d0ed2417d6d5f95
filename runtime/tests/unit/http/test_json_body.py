"""read_json on a real server: what a client sends, and what it is answered."""

import asyncio
import gzip
import http.client
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from threading import Thread
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

import api_hour
from api_hour.http.json_body import decode
from api_hour.http.responses import PROBLEM
from runtime.tests.unit.http.exchange import told

LIMIT = 1000  # bytes
JSON_TYPE = {"Content-Type": "application/json"}


class Record(msgspec.Struct):
    name: str
    size: Annotated[int, msgspec.Meta(ge=1)] = 1
    kind: Literal["a", "b"] = "a"
    tags: list[str] = []
    scores: dict[str, int] = {}
    parent: "Record | None" = None


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    name: str

    def __post_init__(self) -> None:
        if self.name == "root":
            raise ValueError("the name root is taken")


async def record(request: web.Request) -> web.Response:
    return api_hour.JSON(msgspec.to_builtins(await api_hour.read_json(request, Record)))


async def strict(request: web.Request) -> web.Response:
    return api_hour.JSON(msgspec.to_builtins(await api_hour.read_json(request, Strict)))


async def anything(request: web.Request) -> web.Response:
    return api_hour.JSON(await api_hour.read_json(request))


async def numbers(request: web.Request) -> web.Response:
    return api_hour.JSON(await api_hour.read_json(request, dict[int, int]))


async def ten(request: web.Request) -> web.Response:
    return api_hour.JSON(await api_hour.read_json(request, limit=10))


async def million(request: web.Request) -> web.Response:
    return api_hour.JSON(await api_hour.read_json(request, limit=1_000_000))


async def twice(request: web.Request) -> web.Response:
    first = await api_hour.read_json(request)
    return api_hour.JSON([first, await api_hour.read_json(request), await request.text()])


async def late(request: web.Request) -> web.Response:
    await request.read()
    return api_hour.JSON(await api_hour.read_json(request, limit=10))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Serve the endpoints, without any middleware, in a thread with a loop of its own."""
    app = web.Application(client_max_size=LIMIT)
    for endpoint in (late, record, strict, anything, numbers, ten, million, twice, shape):
        app.router.add_post(f"/{endpoint.__name__}", endpoint)
    with serving(app) as number:
        yield number


@contextmanager
def serving(app: web.Application) -> Iterator[int]:
    started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        stop = asyncio.Event()
        started.set_result((runner.addresses[0][1], asyncio.get_running_loop(), stop))
        await stop.wait()
        await runner.cleanup()

    thread = Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    number, loop, stop = started.result(timeout=10)
    yield number
    loop.call_soon_threadsafe(stop.set)
    thread.join(timeout=10)
    assert not thread.is_alive()


def post(port: int, path: str, body: bytes, headers: dict[str, str] = JSON_TYPE) -> tuple[int, Any]:
    """Send ``body`` and return the status and the JSON of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        media = "application/json; charset=utf-8" if answer.status == 200 else PROBLEM
        assert answer.getheader("Content-Type") == media
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_good_body_arrives_as_the_type(port: int) -> None:
    body = b'{"name": "first", "tags": ["x"], "parent": {"name": "zero"}, "more": null}'
    status, answer = post(port, "/record", body)
    assert status == 200
    assert (answer["name"], answer["tags"], answer["parent"]["name"]) == ("first", ["x"], "zero")


def test_a_body_may_be_read_twice_and_by_aiohttp_too(port: int) -> None:
    assert post(port, "/twice", b'{"a": 1}') == (200, [{"a": 1}, {"a": 1}, '{"a": 1}'])


INVALID = [
    ("/record", b"{}", "name is missing", "name"),
    ("/record", b'{"name": 1}', "name must be a string, got an integer", "name"),
    ("/record", b'{"name": null}', "name must be a string, got null", "name"),
    ("/record", b"[]", "The body must be an object, got an array", ""),
    ("/record", b"null", "The body must be an object, got null", ""),
    ("/record", b'{"name": "x", "size": 0}', "size must be an integer >= 1", "size"),
    ("/record", b'{"name": "x", "size": 1.5}', "size must be an integer, got a number", "size"),
    ("/record", b'{"name": "x", "size": "1"}', "size must be an integer, got a string", "size"),
    ("/record", b'{"name": "x", "kind": "c"}', "kind must be one of 'a', 'b'", "kind"),
    ("/record", b'{"name": "", "tags": {}}', "tags must be an array, got an object", "tags"),
    (
        "/record",
        b'{"name": "", "tags": ["a", true]}',
        "tags[1] must be a string, got true or false",
        "tags[1]",
    ),
    (
        "/record",
        b'{"name": "", "scores": {"a": 1, "b": ""}}',
        "scores[...] must be an integer, got a string",
        "scores[...]",
    ),
    (
        "/record",
        b'{"name": "", "parent": {"name": "", "parent": {}}}',
        "parent.parent.name is missing",
        "parent.parent.name",
    ),
    (
        "/record",
        b'{"name": "", "parent": 5}',
        "parent must be an object or null, got an integer",
        "parent",
    ),
    ("/record", b'{"name": "x", "size": 1e400}', "size is out of range", "size"),
    ("/strict", b'{"name": "x", "nam": 1}', "nam is not known", "nam"),
    ("/strict", b'{"name": "root"}', "The body: the name root is taken", ""),
    ("/numbers", b'{"x": 1}', "The body has a key that must be an integer, got a string", ""),
    ("/anything", b"1e400", "The body is out of range", ""),
]


@pytest.mark.parametrize(("path", "body", "detail", "field"), INVALID)
def test_json_that_does_not_fit_the_type_is_a_422_that_names_the_field(
    port: int, path: str, body: bytes, detail: str, field: str
) -> None:
    subject = field or "The body"
    message = detail.removeprefix(subject).removeprefix(":").strip()
    assert detail.startswith(subject)
    assert post(port, path, body) == (422, told(422, detail, field, message))


class Order(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    user_id: int
    ship_to: Record
    price: Decimal
    lines: list[Record] = []

    def __post_init__(self) -> None:
        if self.user_id == 13:
            raise ValueError("user 13 may not order")


@dataclass
class Point:
    x: int
    y: int
    label: str = ""


class Entry(TypedDict):
    key: str
    at: NotRequired[date]
    size: Required[int]


class Cat(msgspec.Struct, tag=True):
    lives: int
    name: str


class Dog(msgspec.Struct, tag=True):
    bones: int


class Row(msgspec.Struct, array_like=True):
    x: int
    y: int


SHAPES: dict[str, Any] = {
    "order": Order,
    "perhaps": Order | None,
    "point": Point,
    "entry": Entry,
    "cat": Cat,
    "pet": Cat | Dog,
    "rows": list[Row],
    "row": Row,
    "scores": dict[str, int],
}


async def shape(request: web.Request) -> web.Response:
    return api_hour.JSON(
        msgspec.to_builtins(await api_hour.read_json(request, SHAPES[request.query["of"]]))
    )


SEVERAL = [
    (
        "order",
        b'{"userId": "1", "nam": 1, "lines": [{"name": "a"}, {"name": 1}], "price": 1}',
        [
            ("userId", "must be an integer, got a string"),
            ("nam", "is not known"),
            ("lines[1].name", "must be a string, got an integer"),
            ("shipTo", "is missing"),
        ],
    ),
    (
        "perhaps",
        b'{"userId": null, "shipTo": {"size": 1}, "price": "x"}',
        [
            ("userId", "must be an integer, got null"),
            ("shipTo.name", "is missing"),
            ("price", "must be a decimal number"),
        ],
    ),
    (
        "order",
        b"{}",
        [("userId", "is missing"), ("shipTo", "is missing"), ("price", "is missing")],
    ),
    (
        "order",
        b'{"userId": 13, "price": 1, "shipTo": {"name": ""}}',
        [("", "user 13 may not order")],
    ),
    (
        "point",
        b'{"label": 1, "more": 1}',
        [
            ("label", "must be a string, got an integer"),
            ("x", "is missing"),
            ("y", "is missing"),
        ],
    ),
    (
        "entry",
        b'{"at": "x", "size": "x"}',
        [
            ("at", "must be a date, such as 2026-01-31"),
            ("size", "must be an integer, got a string"),
            ("key", "is missing"),
        ],
    ),
    (
        "cat",
        b'{"type": "Cat", "lives": "9"}',
        [
            ("lives", "must be an integer, got a string"),
            ("name", "is missing"),
        ],
    ),
    (
        "cat",
        b'{"type": "Cow"}',
        [
            ("type", "must be one of 'Cat'"),
            ("lives", "is missing"),
            ("name", "is missing"),
        ],
    ),
    # msgspec refuses the first value of a repeated key, although the last one counts.
    (
        "point",
        b'{"x": "", "y": "", "x": 1}',
        [
            ("x", "must be an integer, got a string"),
            ("y", "must be an integer, got a string"),
        ],
    ),
    # What has no fields of its own has one fault, the first.
    ("pet", b'{"type": "Dog", "bones": "x"}', [("bones", "must be an integer, got a string")]),
    ("rows", b'[["x", "y"]]', [("[0][0]", "must be an integer, got a string")]),
    ("row", b'["x", "y"]', [("[0]", "must be an integer, got a string")]),
    ("scores", b'{"a": "", "b": ""}', [("[...]", "must be an integer, got a string")]),
    ("order", b"[]", [("", "must be an object, got an array")]),
]


@pytest.mark.parametrize(("of", "body", "faults"), SEVERAL)
def test_every_field_at_fault_is_named(
    port: int, of: str, body: bytes, faults: list[tuple[str, str]]
) -> None:
    status, sent = post(port, f"/shape?of={of}", body)
    assert status == 422
    assert sent["errors"] == [
        {"in": "body", "field": field, "message": message} for field, message in faults
    ]
    assert sent["error"].get("field", "") == faults[0][0]
    if len(faults) > 1:
        assert sent["detail"] == "; ".join(f"{field} {message}" for field, message in faults)


def test_no_more_than_a_hundred_faults_are_named(port: int) -> None:
    body = json.dumps({f"{number}": 1 for number in range(105)}).encode()
    status, sent = post(port, "/shape?of=order", body)
    assert (status, len(sent["errors"])) == (422, 100)


FIELDS = {"label": "x", "x": 1, "y": 2}


@given(
    st.dictionaries(st.sampled_from([*FIELDS, "other"]), st.sampled_from(["x", 1, None, [], 2.5])),
)
def test_the_fields_named_are_those_that_are_wrong_or_missing(sent: dict[str, Any]) -> None:
    wrong = {name for name in sent.keys() & FIELDS if type(sent[name]) is not type(FIELDS[name])}
    missing = {"x", "y"} - sent.keys()
    body = json.dumps(sent).encode()
    try:
        decode(body, msgspec.json.Decoder(Point), Point)
        named = set()
    except web.HTTPUnprocessableEntity as refused:
        named = {fault["field"] for fault in json.loads(str(refused.text))["errors"]}
    assert named == wrong | missing


MALFORMED = [
    (b'{"name": 1, "size": 1e400 NaN}', "The body is not JSON: expected ',' or '}' (byte 26)"),
    (b"", "The body is empty"),
    (b" \n", "The body is empty"),
    (b"{", "The body is not JSON: Input data was truncated"),
    (b"{'name': 1}", "The body is not JSON: object keys must be strings (byte 1)"),
    (b'{"name": NaN}', "The body is not JSON: invalid character (byte 9)"),
    (b'{"name": 1, "size": NaN}', "The body is not JSON: invalid character (byte 20)"),
    (b'{"name": "x"} x', "The body is not JSON: trailing characters (byte 15)"),
    (b"01", "The body is not JSON: invalid number (byte 1)"),
    (b'{"name": "\xff"}', "The body is not UTF-8 (byte 10)"),
    (b'{"name": "x", "more": "\xff"}', "The body is not UTF-8 (byte 23)"),
    (b"\xff", "The body is not UTF-8 (byte 0)"),
    (b'{"name": "\x01"}', "The body is not JSON: invalid character (byte 10)"),
    (
        b'{"name": "\\ud800"}',
        "The body is not JSON: Input data was truncated",
    ),
]


@pytest.mark.parametrize(("body", "message"), MALFORMED)
def test_a_body_that_is_not_json_is_a_400_that_says_where(
    port: int, body: bytes, message: str
) -> None:
    assert post(port, "/record", body) == (400, told(400, message))


@pytest.mark.parametrize("path", ["/million"])
@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000], ids=len
)
def test_a_hundred_thousand_brackets_are_a_400_at_once(port: int, path: str, body: bytes) -> None:
    start = time.monotonic()
    assert post(port, path, body) == (400, told(400, "The body is nested too deeply"))
    assert time.monotonic() - start < 5


CURE = "Send the body with Content-Type: application/json, not "
TYPES = [
    ("text/plain", CURE + "text/plain"),
    ("application/x-www-form-urlencoded", CURE + "application/x-www-form-urlencoded"),
    ("application/jsonx", CURE + "application/jsonx"),
    ("application/+json", CURE + "application/+json"),
    ("text/json", CURE + "text/json"),
    ("image/svg+json", CURE + "image/svg+json"),
    ("nonsense", CURE + "application/octet-stream"),
    ("application/json; charset=latin-1", "The body must be in UTF-8, not latin-1"),
]


@pytest.mark.parametrize(("media", "message"), TYPES)
def test_a_body_of_another_type_is_a_415_that_names_the_cure(
    port: int, media: str, message: str
) -> None:
    assert post(port, "/anything", b"1", {"Content-Type": media}) == (415, told(415, message))


def test_a_body_without_a_type_is_a_415_that_names_the_cure(port: int) -> None:
    assert post(port, "/anything", b"1", {}) == (415, told(415, CURE + "none"))


@pytest.mark.parametrize(
    "media",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json; charset="UTF-8"',
        "application/json;charset=UTF8",
        "application/vnd.api+json",
        "application/merge-patch+json; charset=utf-8",
    ],
)
def test_json_has_many_types(port: int, media: str) -> None:
    assert post(port, "/anything", b"[1]", {"Content-Type": media}) == (200, [1])


HEAD = b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def length(path: bytes, size: int) -> bytes:
    return HEAD % path + b"Content-Length: %d\r\n\r\n" % size


def chunked(path: bytes, body: bytes) -> bytes:
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return HEAD % path + b"Transfer-Encoding: chunked\r\n\r\n" + chunk


def answer(client: socket.socket) -> tuple[int, Any]:
    response = http.client.HTTPResponse(client)
    response.begin()
    return response.status, json.loads(response.read())


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        yield client


TOO_LARGE = told(413, f"The body is larger than {LIMIT} bytes")


def test_a_body_of_the_limit_is_read_and_one_byte_more_is_a_413(port: int) -> None:
    fits = b'"' + b"x" * (LIMIT - 2) + b'"'
    assert post(port, "/anything", fits) == (200, json.loads(fits))
    assert post(port, "/anything", fits + b" ") == (413, TOO_LARGE)


@pytest.mark.parametrize(
    ("path", "limit"), [(b"anything", LIMIT), (b"ten", 10), (b"million", 1_000_000)]
)
def test_a_chunked_body_is_measured_too_and_an_endpoint_may_have_its_own_limit(
    port: int, path: bytes, limit: int
) -> None:
    fits = b"1" + b" " * (limit - 1)
    with connected(port) as client:
        client.sendall(chunked(path, fits))
        assert answer(client) == (200, 1)
        client.sendall(chunked(path, fits + b" "))
        assert answer(client) == (413, told(413, f"The body is larger than {limit} bytes"))
        client.sendall(length(path, limit + 1))
        assert answer(client) == (413, told(413, f"The body is larger than {limit} bytes"))


def test_a_body_that_was_read_before_is_measured_too(port: int) -> None:
    with connected(port) as client:
        client.sendall(chunked(b"late", b"1" + b" " * 9))
        assert answer(client) == (200, 1)
        client.sendall(chunked(b"late", b"1" + b" " * 10))
        assert answer(client) == (413, told(413, "The body is larger than 10 bytes"))


def test_a_body_declared_too_large_is_refused_before_it_is_sent(port: int) -> None:
    with connected(port) as client:
        client.sendall(length(b"anything", 10**12))
        assert answer(client) == (413, TOO_LARGE)


@pytest.mark.parametrize("make", [length, chunked])
def test_a_client_that_sends_all_of_a_large_body_first_can_read_the_413_and_go_on(
    port: int, make: Any
) -> None:
    body = b"1" * 50_000_000
    with connected(port) as client:
        client.sendall(chunked(b"anything", body) if make is chunked else b"")
        if make is length:
            client.sendall(length(b"anything", len(body)) + body)
        assert answer(client) == (413, TOO_LARGE)
        client.sendall(length(b"anything", 1) + b"1")
        assert answer(client) == (200, 1)


def test_a_compressed_body_is_measured_as_it_is_read(port: int) -> None:
    zipped = {**JSON_TYPE, "Content-Encoding": "gzip"}
    bomb = gzip.compress(b" " * 50_000_000)
    assert post(port, "/anything", gzip.compress(b"[1]"), zipped) == (200, [1])
    assert post(port, "/million", bomb, zipped)[0] == 413
    assert post(port, "/anything", gzip.compress(b" " * 5000), zipped) == (413, TOO_LARGE)


def test_a_body_that_is_not_compressed_as_it_says_is_a_400_and_not_logged(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    incomplete = told(400, "The body did not arrive whole")
    zipped = HEAD % b"anything" + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n[1]"
    with connected(port) as client:
        client.sendall(zipped)
        assert answer(client) == (400, incomplete)
        assert client.recv(1) == b""  # nobody knows where the next request would begin
    assert post(port, "/anything", b"1") == (200, 1)
    assert caplog.records == []


def test_a_client_that_leaves_in_its_body_leaves_nothing_in_the_log(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with connected(port) as client:
        client.sendall(length(b"anything", 50) + b"[")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""
    assert post(port, "/anything", b"1") == (200, 1)
    assert caplog.records == []


def test_an_application_without_a_limit_reads_any_body() -> None:
    app = web.Application(client_max_size=0)
    app.router.add_post("/anything", anything)
    body = json.dumps("x" * 2_000_000).encode()
    with serving(app) as number:
        assert post(number, "/anything", body) == (200, "x" * 2_000_000)


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[]", 422), (b" " * LIMIT + b"1", 413), (b"", 400)]
)
def test_json_errors_sends_the_same_answer(
    port: int, body: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = web.Application(middlewares=[api_hour.json_errors], client_max_size=LIMIT)
    app.router.add_post("/record", record)
    with serving(app) as number:
        assert post(number, "/record", body) == post(port, "/record", body)
        assert post(number, "/record", body)[0] == status
    assert caplog.records == []


def test_what_a_client_invents_is_not_sent_back_at_length() -> None:
    app = web.Application()
    app.router.add_post("/strict", strict)
    with serving(app) as number:
        status, sent = post(number, "/strict", b'{"%b": 1}' % (b"x" * 100_000))
    assert (status, sent["error"]["field"]) == (422, "x" * 200)
    assert len(json.dumps(sent)) < 1200


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats(-1e9, 1e9) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=5,
)


@given(VALUES)
def test_any_json_arrives_as_it_was_sent(port: int, value: Any) -> None:
    assert post(port, "/million", json.dumps(value).encode()) == (200, value)


@given(
    st.sampled_from(["/record", "/strict", "/anything", "/numbers", "/ten"]),
    st.binary(max_size=50) | st.text('[]{}":,0123456789.eE+-naNme ').map(str.encode),
    st.sampled_from([*(media for media, _ in TYPES), "application/json"]),
)
def test_no_body_is_ever_a_500(port: int, path: str, body: bytes, media: str) -> None:
    status, sent = post(port, path, body, {"Content-Type": media})
    assert status in (200, 400, 413, 415, 422)
    assert status == 200 or sent["error"]["status"] == status
