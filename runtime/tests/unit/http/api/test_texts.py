"""Texts under a key become values of the declared types, or a 422 that names the key."""

import dataclasses
import datetime
import enum
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest
from aiohttp import web
from msgspec import Meta, Struct

from api_hour import API, Cookie, Header, Query, Text
from runtime.tests.unit.http.api.serving import Client, served

Fault = tuple[str, str, str]


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Page(Struct, rename="camel"):
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    sort_by: Literal["title", "id"] = "id"
    tags: list[str] = []


class Strict(Struct, forbid_unknown_fields=True):
    trace_id: str


@dataclasses.dataclass
class Range:
    start: int
    end: int = 10

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError("the end is before the start")


class Names(TypedDict):
    first: str
    last: NotRequired[str]


TYPES: dict[str, Any] = {
    "any": Any,
    "bool": bool,
    "bool-or-int": bool | int,
    "bytes": bytes,
    "color": Color,
    "constrained": Annotated[int, Meta(ge=1, le=5)],
    "date": datetime.date,
    "datetime": datetime.datetime,
    "decimal": Decimal,
    "decimal-or-int": Decimal | int,
    "float": float,
    "int": int,
    "int-or-float": int | float,
    "int-or-str": int | str,
    "level": Level,
    "list": list[int],
    "list-of-colors": Annotated[list[Color], Meta(max_length=2)],
    "literal": Literal["a", 1],
    "optional": int | None,
    "set": set[int],
    "str": str,
    "text": Text,
    "time": datetime.time,
    "timedelta": datetime.timedelta,
    "tuple": tuple[int, ...],
    "uuid": uuid.UUID,
}
DATE_AND_TIME = "must be a date and time, such as 2026-01-31T12:30:00Z"
BOOLEAN = "must be true or false, 1 or 0, yes or no, on or off"
READ: dict[str, Any] = {  # by type and query string, percent-encoded: the JSON of x
    "any?x=1": "1",
    "bool?x=TRUE": True,
    "bool?x=1": True,
    "bool?x=Yes": True,
    "bool?x=oN": True,
    "bool?x=False": False,
    "bool?x=0": False,
    "bool?x=NO": False,
    "bool?x=off": False,
    "bool-or-int?x=1": 1,
    "bool-or-int?x=true": True,
    "bytes?x=aGk=": "aGk=",
    "color?x=red": "red",
    "date?x=2026-01-31": "2026-01-31",
    "datetime?x=2026-01-31T12:00:00Z": "2026-01-31T12:00:00Z",
    "datetime?x=2026-01-31T12:00:00%2B02:00": "2026-01-31T12:00:00+02:00",
    "decimal?x=1.10": "1.10",
    "decimal?x=-0.5e2": "-5E+1",
    "decimal-or-int?x=2": 2,
    "decimal-or-int?x=1.50": "1.50",
    "float?x=-1.5e-3": -0.0015,
    "int?x=5.0": 5,
    "int?x=-2.00": -2,
    "float?x=5": 5.0,
    "int?x=-0": 0,
    "int?x=%35": 5,
    "int?&&x=5&": 5,
    f"int?x={'9' * 400}": int("9" * 400),
    "int-or-float?x=1": 1,
    "int-or-float?x=1.0": 1.0,
    "int-or-str?x=12": 12,
    "int-or-str?x=a": "a",
    "level?x=2": 2,
    "list?x=1&x=2": [1, 2],
    "list-of-colors?x=red": ["red"],
    "literal?x=1": 1,
    "literal?x=a": "a",
    "optional?x=1": 1,
    "set?x=1&x=1": [1],
    "str?x=null": "null",
    "str?x=": "",
    "str?x": "",
    "str?x=1": "1",
    "str?x=a+b": "a b",
    "str?x=a%2Bb": "a+b",
    "str?x=%": "%",
    "str?x=%zz": "%zz",
    "str?x=%FF": "\ufffd",
    "str?x=%00": "\0",
    "str?x=%C3%A9": "é",
    "str?x=a;y=b": "a;y=b",
    "time?x=12:00:00": "12:00:00",
    "timedelta?x=PT1H30M": "PT5400S",
    "tuple?x=2&x=1": [2, 1],
    "uuid?x=12345678123456781234567812345678": "12345678-1234-5678-1234-567812345678",
}
REFUSED: dict[str, str | list[Fault]] = {  # the message for x, or all faults
    "bool?x=2": BOOLEAN,
    "bool?x=": BOOLEAN,
    "bytes?x=a": "must be text in base64",
    "color?x=green": "must be one of 'red', 'blue'",
    "color?x=RED": "must be one of 'red', 'blue'",
    "constrained?x=9": "must be an integer <= 5",
    "constrained?x=a": "must be an integer",
    "date?x=2026-02-30": "must be a date, such as 2026-01-31",
    "date?x=1": "must be a date, such as 2026-01-31",
    "datetime?x=1700000000": DATE_AND_TIME,
    "datetime?x=1.5": DATE_AND_TIME,
    "datetime?x=2026-01-31": DATE_AND_TIME,
    "datetime?x=2026-01-31T12:00:00+02:00": DATE_AND_TIME,  # the + is a space
    "decimal?x=nan": "must be a decimal number",
    "decimal?x=Infinity": "must be a decimal number",
    "decimal?x=1_0": "must be a decimal number",
    "decimal?x=": "must be a decimal number",
    "decimal-or-int?x=nan": "must be a decimal number",
    "decimal-or-int?x=abc": "must be a decimal number",
    "float?x=nan": "must be a number",
    "float?x=inf": "must be a number",
    "float?x=1e999": "must be a number",
    "float?x=.5": "must be a number",
    f"float?x={'9' * 5000}": "must be a number",
    "int?": "is missing",
    "int?x=": "must be an integer",
    "int?x": "must be an integer",
    "int?x=+5": "must be an integer",
    "int?x=%2B5": "must be an integer",
    "int?x=%205": "must be an integer",
    "int?x=05": "must be an integer",
    "int?x=--5": "must be an integer",
    "int?x=-": "must be an integer",
    "int?x=1e3": "must be an integer",
    "int?x=1_000": "must be an integer",
    "int?x=true": "must be an integer",
    "int?x=%D9%A3": "must be an integer",  # an Arabic digit
    "int?x=%C2%B2": "must be an integer",  # a superscript
    "int?x=null": "must be an integer",
    f"int?x={'9' * 401}": "must be an integer",
    f"int?x={'9' * 5000}": "must be an integer",
    "int?x=5&x=5": "may come once, and came 2 times",
    "int?x=a&x=b&x=c": [
        ("query", "x", "may come once, and came 3 times"),
        ("query", "x", "must be an integer"),
    ],
    "int?x=5&y=1&y=2&z": [("query", "y", "is not known"), ("query", "z", "is not known")],
    "int?X=1": [("query", "X", "is not known"), ("query", "x", "is missing")],
    "level?x=3": "must be one of 1, 2",
    "level?x=LOW": "must be an integer",
    "list?": "is missing",
    "list?x=": [("query", "x[0]", "must be an integer")],
    "list?x=1,2": [("query", "x[0]", "must be an integer")],
    "list?x=1&x=a&x=b": [("query", "x[1]", "must be an integer")],
    "list?x[]=1": [("query", "x[]", "is not known"), ("query", "x", "is missing")],
    "list-of-colors?x=red&x=red&x=red": "must be an array of at most 2 items",
    "list-of-colors?x=red&x=green": [("query", "x[1]", "must be one of 'red', 'blue'")],
    "literal?x=null": "must be one of 1, 'a'",
    "optional?x=null": "must be an integer",
    "optional?x=": "must be an integer",
    "optional?": "is missing",
    "text?x=a%00b": [("query", "x", "must be a string that matches '^[^\\\\x00]*$'")],
    "time?x=12": "must be a time, such as 12:30:00",
    "timedelta?x=5": "must be a duration, such as PT1H30M",
    "uuid?x=1": "must be a UUID",
}


def short(target: str) -> str:
    """Return the name of a test."""
    return target if len(target) < 50 else f"{target[:10]} and {len(target)} more"


def answer_query(app: API, path: str, kind: Any) -> None:
    async def endpoint(x: Query[kind]) -> Any:
        return x

    app.get(path, endpoint)


async def default(
    limit: Query[int] = 20,
    color: Query[Color] = Color.RED,
    day: Query[datetime.date | None] = None,
    from_: Query[str] = "",
) -> list[Any]:
    return [limit, color, day, from_]


async def struct(page: Query[Page]) -> Page:
    return page


async def data_class(span: Query[Range]) -> list[int]:
    return [span.start, span.end]


async def typed_dict(names: Query[Names]) -> Names:
    return names


async def several(page: Query[Page], strict: Query[Strict], n: Query[int] = 0) -> list[Any]:
    return [page, strict, n]


async def mapping(numbers: Query[dict[str, int]]) -> dict[str, int]:
    return numbers


async def rest(page: Query[Page], others: Query[dict[str, str]]) -> list[Any]:
    return [page.limit, others]


async def no_query() -> str:
    return "answered"


async def whole(request: web.Request) -> dict[str, str]:
    return dict(request.query)


async def whole_and_query(request: web.Request, n: Query[int]) -> int:
    return n


async def headers(
    x_trace: Header[str] = "",
    ids: Header[list[int]] = [],  # noqa: B006
    flag: Header[bool] = False,
) -> list[Any]:
    return [x_trace, ids, flag]


async def header_struct(strict: Header[Strict]) -> str:
    return strict.trace_id


async def cookies(session_id: Cookie[str], n: Cookie[int] = 0) -> list[Any]:
    return [session_id, n]


async def two_of_path(id: Annotated[int, Meta(ge=1)], name: str) -> list[Any]:
    return [id, name]


async def path_color(color: Color) -> Color:
    return color


async def path_uuid(key: uuid.UUID) -> uuid.UUID:
    return key


def application() -> web.Application:
    typed = API(web.Application(), title="Test", version="1")
    for name, kind in TYPES.items():
        answer_query(typed, f"/{name}", kind)
    functions = default, struct, data_class, typed_dict, several, mapping, rest, no_query, whole
    for function in (*functions, whole_and_query, headers, header_struct, cookies):
        typed.get(f"/{function.__name__}", function)
    typed.get("/path/{id}/{name}", two_of_path)
    typed.get("/colors/{color}", path_color)
    typed.get("/keys/{key}", path_uuid)
    return typed._app


@pytest.fixture(scope="module")
def ask() -> Iterator[Client]:
    with served(application()) as client:
        yield client


@pytest.fixture(scope="module", params=[True, False], ids=["fast", "not fast"])
def ask_both(request: pytest.FixtureRequest) -> Iterator[Client]:
    with served(application(), fast=request.param) as client:
        yield client


@pytest.mark.parametrize("target", READ, ids=short)
def test_a_text_is_read_as_its_type(ask: Client, target: str) -> None:
    answer = ask("GET", f"/{target}")
    assert (answer.status, answer.json) == (200, READ[target])


@pytest.mark.parametrize("target", REFUSED, ids=short)
def test_a_text_that_is_not_of_its_type_is_a_422_with_its_key(ask: Client, target: str) -> None:
    expected = REFUSED[target]
    answer = ask("GET", f"/{target}")
    assert answer.status == 422
    assert answer.faults == ([("query", "x", expected)] if isinstance(expected, str) else expected)


OBJECTS: dict[str, Any] = {  # the JSON of the answer, or the faults
    "default": [20, "red", None, ""],
    "default?color=blue&from=a&day=2026-01-31&limit=1": [1, "blue", "2026-01-31", "a"],
    "default?day=": [("query", "day", "must be a date, such as 2026-01-31")],
    "struct": {"limit": 20, "sortBy": "id", "tags": []},
    "struct?sortBy=title&tags=a&tags=b": {"limit": 20, "sortBy": "title", "tags": ["a", "b"]},
    "struct?limit=0&sortBy=x&tag=a": [
        ("query", "tag", "is not known"),
        ("query", "limit", "must be an integer >= 1"),
        ("query", "sortBy", "must be one of 'id', 'title'"),
    ],
    "data_class?start=1": [1, 10],
    "data_class?end=x": [
        ("query", "start", "is missing"),
        ("query", "end", "must be an integer"),
    ],
    "data_class?start=3&end=2": [("query", "", "the end is before the start")],
    "typed_dict?first=a": {"first": "a"},
    "typed_dict?last=b&first=a": {"first": "a", "last": "b"},
    "typed_dict?last=b&middle=c": [
        ("query", "middle", "is not known"),
        ("query", "first", "is missing"),
    ],
    "several?trace_id=a&n=2&limit=3": [
        {"limit": 3, "sortBy": "id", "tags": []},
        {"trace_id": "a"},
        2,
    ],
    "several?n=x&limit=y&z=1": [
        ("query", "z", "is not known"),
        ("query", "limit", "must be an integer"),
        ("query", "trace_id", "is missing"),
        ("query", "n", "must be an integer"),
    ],
    "mapping": {},
    "mapping?a=1&b=2": {"a": 1, "b": 2},
    "mapping?a=1&b=x&c=&a=2": [
        ("query", "a", "may come once, and came 2 times"),
        ("query", "b", "must be an integer"),
        ("query", "c", "must be an integer"),
    ],
    "rest?limit=3&a=1": [3, {"a": "1"}],
    "rest?limit=x&a=1&a=2": [
        ("query", "a", "may come once, and came 2 times"),
        ("query", "limit", "must be an integer"),
    ],
    "no_query": "answered",
    "no_query?": "answered",
    "no_query?&&": "answered",
    "no_query?a=1&b": [("query", "a", "is not known"), ("query", "b", "is not known")],
    "whole?a=1": {"a": "1"},
    "whole_and_query?n=1": 1,
    "whole_and_query?n=1&a=1": [("query", "a", "is not known")],
}


@pytest.mark.parametrize("target", OBJECTS)
def test_the_fields_of_an_object_are_the_keys(ask_both: Client, target: str) -> None:
    expected = OBJECTS[target]
    answer = ask_both("GET", f"/{target}")
    if isinstance(expected, list) and isinstance(expected[0], tuple):
        assert (answer.status, sorted(answer.faults)) == (422, sorted(expected))
    else:
        assert (answer.status, answer.json) == (200, expected)


NOT_UTF8 = "must be text in UTF-8"
HEADERS: dict[bytes, Any] = {  # lines, and the JSON or the faults
    b"X-Other: 1": ["", [], False],
    b"x-trace: a": ["a", [], False],
    b"X-TRACE:": ["", [], False],
    b"X-Trace: null": ["null", [], False],
    b"X-Trace: \xc3\xa9": ["é", [], False],
    b"X-Trace: \xff": [("header", "x-trace", NOT_UTF8)],
    b"X-Trace: a\r\nX-Trace: b": [("header", "x-trace", "may come once, and came 2 times")],
    b"X_Trace: a": ["", [], False],
    b"Ids: 1, 2,,3\r\nFlag: on\r\nids:4": ["", [1, 2, 3, 4], True],
    b"Ids:": ["", [], False],
    b"Flag: \xff": [("header", "flag", NOT_UTF8)],
    b"Ids: 1,\xff": [("header", "ids", NOT_UTF8)],
    b"Ids: 1,a,b\r\nFlag: \xff": [
        ("header", "flag", NOT_UTF8),
        ("header", "ids[1]", "must be an integer"),
    ],
}


@pytest.mark.parametrize("lines", HEADERS, ids=repr)
def test_headers_are_read_in_any_case_and_lists_by_commas(ask_both: Client, lines: bytes) -> None:
    expected = HEADERS[lines]
    answer = ask_both.raw(b"GET /headers HTTP/1.1\r\n" + lines)
    if isinstance(expected[0], tuple):
        assert (answer.status, sorted(answer.faults)) == (422, sorted(expected))
    else:
        assert (answer.status, answer.json) == (200, expected)


def test_a_struct_of_headers_leaves_the_others_alone(ask_both: Client) -> None:
    assert ask_both("GET", "/header_struct", headers={"Trace-Id": "a"}).json == "a"
    missing = ask_both("GET", "/header_struct", headers={"Trace_Id": "a"})
    assert missing.faults == [("header", "trace-id", "is missing")]


COOKIES: dict[bytes, Any] = {
    b"session_id=a; other=1": ["a", 0],
    b"session_id=; n=5": ["", 5],
    b'session_id="a b"': ["a b", 0],
    b"session_id=%00": ["%00", 0],
    b"session_id=\xc3\xa9": ["é", 0],
    b"session_id=\xff": [("cookie", "session_id", NOT_UTF8)],
    b"n=x": [("cookie", "session_id", "is missing"), ("cookie", "n", "must be an integer")],
}


@pytest.mark.parametrize("line", COOKIES, ids=repr)
def test_cookies_are_read_by_their_names(ask_both: Client, line: bytes) -> None:
    expected = COOKIES[line]
    answer = ask_both.raw(b"GET /cookies HTTP/1.1\r\nCookie: " + line)
    if isinstance(expected[0], tuple):
        assert (answer.status, sorted(answer.faults)) == (422, sorted(expected))
    else:
        assert (answer.status, answer.json) == (200, expected)


PATHS: dict[str, Any] = {
    "path/5/a": [5, "a"],
    "path/5/a%2Fb": [5, "a/b"],
    "path/5/%C3%A9%20%00": [5, "é \0"],
    "path/5/%FF": [5, "%FF"],
    "colors/red": "red",
    "keys/12345678-1234-5678-1234-567812345678": "12345678-1234-5678-1234-567812345678",
    "path/0/a": [("path", "id", "must be an integer >= 1")],
    "path/x/a": [("path", "id", "must be an integer")],
    f"path/{'9' * 5000}/a": [("path", "id", "must be an integer")],
    "path/0/a?b=1": [("path", "id", "must be an integer >= 1")],
    "colors/green": [("path", "color", "must be one of 'red', 'blue'")],
    "keys/1": [("path", "key", "must be a UUID")],
}


@pytest.mark.parametrize("path", PATHS, ids=short)
def test_a_path_that_cannot_be_one_is_a_404(ask_both: Client, path: str) -> None:
    expected = PATHS[path]
    answer = ask_both("GET", f"/{path}")
    if isinstance(expected[0], tuple):
        assert (answer.status, answer.faults) == (404, expected)
        assert answer.headers["Content-Type"] == "application/problem+json"
    else:
        assert (answer.status, answer.json) == (200, expected)


def test_the_server_is_asked_by_bytes_that_no_client_sends(ask_both: Client) -> None:
    for target in (b"/str?x=\xff", b"/str?\xff=1", b"/path/5/\xff"):
        assert ask_both.raw(b"GET " + target + b" HTTP/1.1\r\nX-Other: 1").status == 400
